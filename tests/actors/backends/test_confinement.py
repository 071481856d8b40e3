"""What a process cannot do any more after `confine`, tried in processes of their own."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest

from conftest import require
from skill_actors.backends import confinement
from skill_actors.backends.confinement import MIN_ABI, landlock_abi, seccomp_program, supported_machine

HEAD = """
import ctypes, errno, os, socket, subprocess, sys
sys.path.insert(0, sys.argv[1])
import confinement
def tried(action, *arguments):
    try:
        action(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
confinement.confine(["/usr", "/lib", "/lib64", "/proc", sys.argv[2] + "/shown", "/no/such"], [sys.argv[2] + "/own"],
    ["/dev/null"], sys.argv[3:])
os.chdir(sys.argv[2] + "/own")
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    require(landlock_abi() >= MIN_ABI and supported_machine(), "this kernel has no Landlock that is new enough")
    for name in ("own", "shown", "hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    return tmp_path


def confined(place: Path, code: str, families: Sequence[str] = ()) -> list[str]:
    """The lines that the code prints in a process that has been confined."""
    folder = str(Path(confinement.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", HEAD + code, folder, str(place), *families],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_only_what_is_shown_can_be_read_and_only_the_own_folder_written(place: Path) -> None:
    code = """
print(tried(open, "../shown/file"), tried(open, "../shown/file", "a"), tried(os.listdir, "../shown"))
print(tried(open, "../hidden/file"), tried(open, "../hidden/file", "w"), tried(os.listdir, ".."))
print(tried(open, "file", "a"), tried(os.mkdir, "new"), tried(os.rename, "file", "new/file"))
print(tried(open, "/dev/null", "w"))
print(tried(os.truncate, "../hidden/file", 0), tried(os.unlink, "../shown/file"), tried(os.rmdir, "../hidden"))
print(tried(os.link, "../hidden/file", "stolen"), tried(os.rename, "../hidden/file", "stolen"))
os.symlink("../hidden/file", "link")
print(tried(open, "link"), tried(open, "/proc/self/cwd/../hidden/file"), tried(os.mknod, "disk", 0o60600, 0x100))
"""
    answers = iter(confined(place, code))
    shown, hidden, own, removed, stolen, led = (list(islice(answers, count)) for count in (3, 3, 4, 3, 2, 3))
    assert shown == ["done", "EACCES", "done"]
    assert hidden == ["EACCES", "EACCES", "EACCES"]
    assert own == ["done", "done", "done", "done"]
    assert "done" not in removed + stolen + led
    assert (place / "hidden" / "file").read_text() == "hidden"


def test_there_are_only_the_sockets_that_were_left_and_pairs(place: Path) -> None:
    code = """
for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET, 40):
    print(tried(socket.socket, family, socket.SOCK_DGRAM if family == 16 else socket.SOCK_STREAM))
print(tried(socket.socketpair))
"""
    assert confined(place, code) == ["EAFNOSUPPORT"] * 6 + ["done"]
    answers = confined(place, code, ["inet", "inet6", "netlink"])
    assert answers[0] == answers[4] == answers[5] == "EAFNOSUPPORT"
    assert "EAFNOSUPPORT" not in (answers[1], answers[3])


def test_other_ways_to_files_and_sockets_are_shut(place: Path) -> None:
    code = """
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")
print(tried(call, 425, 8, bytes(120)), tried(call, 438, 3, 0, 0))  # io_uring_setup, pidfd_getfd
"""
    uring, getfd = confined(place, code)
    assert uring == "ENOSYS"
    assert getfd != "done"


def test_nobody_outside_can_be_signalled_traced_or_looked_into(place: Path) -> None:
    other = subprocess.Popen(["sleep", "60"], env={"SECRET": "x"})
    try:
        code = f"""
libc = ctypes.CDLL(None, use_errno=True)
print(tried(open, "/proc/{other.pid}/environ"), tried(os.readlink, "/proc/{other.pid}/cwd"))
print("done" if libc.ptrace(16, {other.pid}, 0, 0) == 0 else "refused")
print(tried(os.kill, {other.pid}, 0), tried(os.kill, os.getpid(), 0))
"""
        environ, descriptors, traced, signalled, itself = confined(place, code)
        assert "done" not in (environ, descriptors, traced)
        assert itself == "done"
        if landlock_abi() >= 6:
            assert signalled == "EPERM"
    finally:
        other.kill()
        other.wait()


def test_root_has_no_capabilities_left_and_changes_no_modes(place: Path) -> None:
    require(os.geteuid() == 0, "only root has capabilities to lose")
    code = """
print(*[line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")])
print(tried(os.chmod, "../hidden/file", 0o777), tried(os.chown, "file", 1, 1))
print(tried(os.setxattr, "file", "user.a", b""))
print(tried(os.chroot, "."), tried(os.setuid, 1))
"""
    *capabilities, mode, owner, attribute, root, user = confined(place, code)
    assert set(capabilities) == {"0" * 16}
    assert [mode, owner, attribute, root, user] == ["EPERM"] * 5


def test_it_holds_for_programs_that_are_started(place: Path) -> None:
    code = """
print(subprocess.run(["/usr/bin/cat", "../hidden/file"], capture_output=True).returncode,
    subprocess.run(["/usr/bin/cat", "../shown/file"], capture_output=True).stdout.decode())
"""
    assert confined(place, code) == ["1", "shown"]


def test_a_folder_to_write_in_that_is_missing_is_an_error(place: Path) -> None:
    code = 'print(tried(confinement.confine, [], ["missing"], [], []))'
    assert confined(place, code) == ["ENOENT"]


def _verdict(program: bytes, arch: int, number: int, argument: int = 0) -> int:
    """What the filter says to a system call: the program is run as the kernel would."""
    data = struct.pack("=IIQQ", number, arch, 0, argument)  # struct seccomp_data
    steps = list(struct.iter_unpack("=HBBI", program))
    at = value = 0
    while True:
        code, if_true, if_false, operand = steps[at]
        at += 1
        match code:
            case 0x20:
                (value,) = struct.unpack_from("=I", data, operand)
            case 0x15:
                at += if_true if value == operand else if_false
            case 0x35:
                at += if_true if value >= operand else if_false
            case 0x06:
                return int(operand)


ALLOWED = 0x7FFF0000


@pytest.mark.parametrize(
    ("machine", "arch", "socket", "truncate", "chmod"),
    [("x86_64", 0xC000003E, 41, 76, 90), ("aarch64", 0xC00000B7, 198, 45, 53)],
)
def test_the_filter_knows_the_calls_of_each_machine(
    machine: str, arch: int, socket: int, truncate: int, chmod: int
) -> None:
    loose = seccomp_program(machine, ["inet"], old_truncate=False, is_root=False)
    strict = seccomp_program(machine, [], old_truncate=True, is_root=True)
    assert _verdict(loose, arch, 0) == ALLOWED
    assert _verdict(loose, arch, truncate) == _verdict(loose, arch, chmod) == ALLOWED
    family = {2: ALLOWED, 1: 0x50000 | errno.EAFNOSUPPORT, 16: 0x50000 | errno.EAFNOSUPPORT}
    for number, verdict in family.items():
        assert _verdict(loose, arch, socket, number) == verdict
    assert _verdict(strict, arch, socket, 2) == 0x50000 | errno.EAFNOSUPPORT
    assert _verdict(strict, arch, truncate) == _verdict(strict, arch, chmod) == 0x50000 | errno.EPERM
    assert _verdict(strict, arch ^ 1, 0) == 0x50000 | errno.ENOSYS  # 32-bit calls have other numbers
    assert _verdict(strict, arch, 0x40000000 | socket) == 0x50000 | errno.ENOSYS


def test_a_machine_that_is_not_known_is_an_error() -> None:
    with pytest.raises(OSError, match="s390x"):
        seccomp_program("s390x", [], old_truncate=False, is_root=False)
