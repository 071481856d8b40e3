"""Takes rights away from the process it runs in, for good: Landlock for files, seccomp for the rest.

Only the standard library: the runner loads this before its first fork and calls `confine` in the process that is about
to become a command. What it does cannot be undone, and holds for all that the process starts.

What is left: reading and running what is below `read`, all of `write`, the devices of `devices`, sockets of the
families named. What Landlock of a kernel cannot hold is held by seccomp where that can tell it apart:
- local sockets: Landlock does not stop connect(2) to one by its path, so there are none (socketpairs there are);
- io_uring, which reads files and opens sockets past seccomp; key rings, which all processes of a user share;
- truncate(2) before ABI 3;
- for root: changes of mode, owner and attributes, which the owner of a file may do wherever the file is.
Not held: stat(2) of paths that are known; for others than root the modes of own files; signals before ABI 6.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing and collections.abc are not free to import, and the runner starts often
    from collections.abc import Iterable, Sequence
    from typing import Any, Final

__all__ = ["MIN_ABI", "SCOPE_ABI", "confine", "landlock_abi", "scope_sockets", "seccomp_program", "supported_machine"]

SCOPE_ABI: Final = 6  # Linux 6.12: abstract sockets and signals can be kept inside
MIN_ABI: Final = 2  # Linux 5.19: before it, nothing can be moved from one folder to another

# The same numbers on every architecture.
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION_FLAG: Final = 1
_PATH_BENEATH: Final = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = (1 << bit for bit in range(4))
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_FS_BITS: Final = {1: 13, 2: 14, 3: 15, 4: 15}  # later: 16
_OF_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_SCOPE_ABSTRACT_SOCKETS: Final = 1
_SCOPES: Final = 3  # those, and signals

_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_PR_CAPBSET_DROP: Final = 24
_SECCOMP_MODE_FILTER: Final = 2
_CAPABILITY_VERSION: Final = 0x20080522

_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_LOAD_WORD, _JUMP_EQ, _JUMP_GE, _RETURN = 0x20, 0x15, 0x35, 0x06
_X32: Final = 0x40000000
_FAMILIES: Final = {"inet": 2, "inet6": 10, "netlink": 16}
# By machine: the audit architecture and the numbers of system calls.
_MACHINES: Final[dict[str, tuple[int, dict[str, tuple[int, ...]]]]] = {
    "x86_64": (
        0xC000003E,
        {
            "socket": (41,),
            "shared": (248, 249, 250, 298, 304, 321, 323),
            "truncate": (76,),
            "owner": (90, 91, 92, 93, 94, 188, 189, 190, 197, 198, 199, 260, 268, 452, 463, 466),
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "socket": (198,),
            "shared": (217, 218, 219, 241, 265, 280, 282),
            "truncate": (45,),
            "owner": (5, 6, 7, 14, 15, 16, 52, 53, 54, 55, 452, 463, 466),
        },
    ),
}
_URING: Final = (425, 426, 427)


def landlock_abi() -> int:
    """Which Landlock this kernel has; 0 if it has none or has it switched off."""
    version: int = _libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))
    return max(0, version)


def supported_machine() -> bool:
    """Whether the system calls of this processor are known here."""
    return os.uname().machine in _MACHINES


def confine(read: Sequence[str], write: Sequence[str], devices: Sequence[str], families: Sequence[str]) -> None:
    """Keep this process, and all it will start, to these places and sockets.

    Args:
        read: files and folders to be read and run, with all below them; what is not there is left out.
        write: folders where everything may be done but making devices. They must be there.
        devices: files to be read and written.
        families: of sockets: "inet", "inet6", "netlink".

    Raises:
        OSError: it cannot be done; nothing may be started then.

    """
    abi = landlock_abi()
    if abi < MIN_ABI:
        raise OSError(errno.EOPNOTSUPP, "this kernel has no Landlock, or one that is too old")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    is_root = os.geteuid() == 0
    _drop_capabilities()
    _restrict_files(abi, read, write, devices)
    _filter_calls(seccomp_program(os.uname().machine, families, old_truncate=abi < 3, is_root=is_root))


def scope_sockets() -> None:
    """Keep this process, and all it will start, from the abstract sockets of others. Raises OSError.

    A domain that is about files too would refuse the mounts of bubblewrap; this one is about sockets only.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    attributes = struct.pack("=QQQ", 0, 0, _SCOPE_ABSTRACT_SOCKETS)
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    try:
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _restrict_files(abi: int, read: Sequence[str], write: Sequence[str], devices: Sequence[str]) -> None:
    handled = (1 << _FS_BITS.get(abi, 16)) - 1
    attributes = struct.pack("=QQQ", handled, 0, _SCOPES if abi >= SCOPE_ABI else 0)
    size = 24 if abi >= SCOPE_ABI else 16 if abi >= 4 else 8
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for path in read:
            with contextlib.suppress(FileNotFoundError, PermissionError):  # nothing to allow there
                _allow(ruleset, path, handled & (_EXECUTE | _READ_FILE | _READ_DIR))
        for path in write:
            _allow(ruleset, path, handled & ~(_MAKE_CHAR | _MAKE_BLOCK | _IOCTL_DEV))
        for path in devices:
            with contextlib.suppress(FileNotFoundError):
                _allow(ruleset, path, handled & (_READ_FILE | _WRITE_FILE | _TRUNCATE))
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            access &= _OF_FILES
        rule = struct.pack("=Qi", access, fd)
        _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_uint32(_PATH_BENEATH), rule, ctypes.c_uint32(0))
    finally:
        os.close(fd)


def _drop_capabilities() -> None:
    """Root's capabilities go, and do not come back with the next program. Without any there is nothing to do."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    held = ctypes.create_string_buffer(24)
    if _libc().capget(header, held) != 0:
        raise _error()
    if not any(held.raw):
        return
    for capability in range(64):
        with contextlib.suppress(OSError):  # beyond the last; or no right to do so, and no_new_privs has to do
            _prctl(_PR_CAPBSET_DROP, capability)
    if _libc().capset(header, bytes(24)) != 0:
        raise _error()


def seccomp_program(machine: str, families: Iterable[str], *, old_truncate: bool, is_root: bool) -> bytes:
    """The filter, as the kernel takes it. Raises OSError for a machine whose system calls are not known here."""
    if machine not in _MACHINES:
        raise OSError(errno.EOPNOTSUPP, f"system calls of {machine} are not known")
    arch, numbers = _MACHINES[machine]
    refused = [(number, errno.ENOSYS) for number in _URING]
    groups = ["shared", *(["truncate"] if old_truncate else []), *(["owner"] if is_root else [])]
    refused += [(number, errno.EPERM) for group in groups for number in numbers[group]]
    program = [
        _instruction(_LOAD_WORD, 4),  # the architecture: another one has other numbers
        _instruction(_JUMP_EQ, arch, 1, 0),
        _instruction(_RETURN, _ERRNO | errno.ENOSYS),
        _instruction(_LOAD_WORD, 0),  # the number
        _instruction(_JUMP_GE, _X32, 0, 1),
        _instruction(_RETURN, _ERRNO | errno.ENOSYS),
    ]
    for number, code in refused:
        program += [_instruction(_JUMP_EQ, number, 0, 1), _instruction(_RETURN, _ERRNO | code)]
    program += [
        _instruction(_JUMP_EQ, numbers["socket"][0], 1, 0),
        _instruction(_RETURN, _ALLOW),
        _instruction(_LOAD_WORD, 16),  # the first argument: the family
    ]
    for family in families:
        program += [_instruction(_JUMP_EQ, _FAMILIES[family], 0, 1), _instruction(_RETURN, _ALLOW)]
    program.append(_instruction(_RETURN, _ERRNO | errno.EAFNOSUPPORT))
    return b"".join(program)


def _instruction(code: int, value: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, jump_true, jump_false, value)


def _filter_calls(program: bytes) -> None:
    held = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(held))
    pointer = ctypes.create_string_buffer(header, len(header))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(pointer))


def _call(number: int, *arguments: object) -> int:
    """A system call. Raises OSError."""
    answer: int = _libc().syscall(ctypes.c_long(number), *arguments)
    if answer < 0:
        raise _error()
    return answer


def _prctl(option: int, value: int, more: int = 0) -> None:
    if _libc().prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(more), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        raise _error()


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), "the sandbox")


def _libc(cache: list[Any] = []) -> Any:  # noqa: B006  # one handle for the process, loaded before the first fork
    if not cache:
        cache.append(ctypes.CDLL(None, use_errno=True))
    return cache[0]
