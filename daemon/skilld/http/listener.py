"""The listening socket: taken from systemd, or bound by ourselves without ever taking a live one.

The rule for a file that is there already: under an exclusive lock on `<socket>.lock` one connects to it. Answered
(or its backlog is full) means that it is live and is left alone; only ECONNREFUSED means that nobody listens, and
only then it is unlinked. The lock is held as long as the socket, so that two starts at once cannot both find it stale.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from skilld.paths import check_socket_path

__all__ = ["Listener", "ListenerError", "SocketInUse", "open_listener"]

_BACKLOG: Final = 1024
_FIRST_PASSED_FD: Final = 3  # sd_listen_fds(3)


class ListenerError(Exception):
    """The socket cannot be made; the message names the path and the way out."""


class SocketInUse(ListenerError):
    """Another daemon listens there."""


class Listener:
    """A listening Unix socket. `close` removes its file if it is still ours."""

    def __init__(self, sock: socket.socket, path: Path, lock_fd: int | None) -> None:
        self.sock = sock
        self.path = path
        self._lock_fd = lock_fd
        self._file = _identity(path) if lock_fd is not None else None

    @property
    def activated(self) -> bool:
        """Whether systemd made the socket and keeps it."""
        return self._lock_fd is None

    def close(self) -> None:
        """Stop listening. May be called twice."""
        if self._file is not None and _identity(self.path) == self._file:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
        self._file = None
        self.sock.close()
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None


def open_listener(path: Path, env: Mapping[str, str], *, shared: bool = False, pid: int | None = None) -> Listener:
    """The socket that systemd passed, else a new one at `path`. Blocks for file system calls only.

    Args:
        path: where to bind if nothing was passed.
        env: LISTEN_FDS and LISTEN_PID.
        shared: other users may connect (mode 0666; what they may do is decided per peer); else mode 0600.
        pid: whom LISTEN_PID has to name; this process if None.

    Raises:
        SocketInUse: if somebody listens there.
        ListenerError: if the folder is a link or somebody else's, the file is no socket, or the path cannot be bound.

    """
    passed = _passed_socket(env, os.getpid() if pid is None else pid)
    if passed is not None:
        return Listener(passed, Path(passed.getsockname()), None)
    try:
        return _bind(check_socket_path(path), shared)
    except ValueError as error:
        raise ListenerError(str(error)) from error


def _passed_socket(env: Mapping[str, str], pid: int) -> socket.socket | None:
    """LISTEN_FDS counts only if it was meant for this process: a child that inherits it must not act on it."""
    if env.get("LISTEN_PID") != str(pid) or env.get("LISTEN_FDS", "0") == "0":
        return None
    if env["LISTEN_FDS"] != "1":
        raise ListenerError(f"systemd passed {env['LISTEN_FDS']} sockets; skilld takes one ListenStream=")
    sock = socket.socket(fileno=_FIRST_PASSED_FD)
    os.set_inheritable(_FIRST_PASSED_FD, False)
    listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM or not listening:
        raise ListenerError("the socket passed by systemd is not a listening Unix stream socket: use ListenStream=")
    sock.setblocking(False)
    return sock


def _bind(path: Path, shared: bool) -> Listener:
    _prepare_folder(path.parent, 0o755 if shared else 0o700)
    lock_fd = _take_lock(path)
    try:
        _clear_stale(path)
        sock = _listen(path, 0o666 if shared else 0o600)
    except BaseException:
        os.close(lock_fd)
        raise
    return Listener(sock, path, lock_fd)


def _prepare_folder(folder: Path, mode: int) -> None:
    """The folder exists, is no link, and nobody but us and root can swap what lies in it."""
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        facts = folder.lstat()
    except OSError as error:
        raise ListenerError(f"socket folder {folder}: {error.strerror}; choose another with --socket") from error
    if not stat.S_ISDIR(facts.st_mode):
        raise ListenerError(f"socket folder {folder} is not a real folder (a link?): choose another with --socket")
    if facts.st_uid not in (0, os.geteuid()):
        raise ListenerError(
            f"socket folder {folder} belongs to uid {facts.st_uid}, not to you: choose another with --socket"
        )
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not facts.st_mode & stat.S_ISVTX:
        raise ListenerError(f"socket folder {folder} is writable by others: chmod go-w it, or choose another")


def _take_lock(path: Path) -> int:
    lock = path.with_name(f"{path.name}.lock")
    try:
        lock_fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ListenerError(f"lock {lock}: {error.strerror}") from error
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock_fd)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise SocketInUse(f"another skilld holds {lock}: stop it, or use another --socket") from error
        raise ListenerError(f"lock {lock}: {error.strerror}") from error
    return lock_fd


def _clear_stale(path: Path) -> None:
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(facts.st_mode):
        raise ListenerError(f"{path} exists and is no socket: remove it, or use another --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # its backlog is full: live
        except OSError as error:
            raise ListenerError(f"{path}: {error.strerror}: cannot tell whether somebody listens there") from error
    raise SocketInUse(f"somebody listens at {path}: stop that process, or use another --socket")


def _listen(path: Path, mode: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # fchmod before bind: the file is made with the mode of the unbound socket, so there is no open moment
        # and no change of the process-wide umask.
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(os.fspath(path))
        if mode != 0o600:
            path.chmod(mode)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise ListenerError(f"cannot listen at {path}: {error.strerror}") from error
    return sock


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.lstat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino
