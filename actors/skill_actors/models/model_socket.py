"""The Unix socket that the model API is reached through, where the network is not to be used.

Whoever listens there gets what is said to the model, and without TLS the key as well. So it is looked at before each
call: it has to be a socket, by its own name, in a folder in which not everybody can put up another.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Final

from skill_actors.models.base import ModelError, Usage
from skill_actors.models.failures import connection_failure

__all__ = ["check_socket", "connect_problem", "socket_failure"]

_CONNECT_S: Final = 2.0
_START_PROXY: Final = "start the proxy that listens there"


def check_socket(path: Path) -> None:
    """Look at what lies at the path, without connecting. Blocks.

    Raises:
        ModelError: "connection", retryable, if nothing is there (now); "not_configured" if it is no socket, a link, out
            of reach, or where everybody could have made it. Nothing was sent.

    """
    try:
        found = path.lstat()
        folder = path.parent.stat()
    except OSError as error:
        raise _unusable(path, error) from error
    if stat.S_ISLNK(found.st_mode):
        raise _refused(f"the model socket {path} is a symbolic link: name the socket itself")
    if not stat.S_ISSOCK(found.st_mode):
        raise _refused(f"the model socket {path} is no socket: remove it, and {_START_PROXY}")
    if folder.st_mode & stat.S_IWOTH:
        raise _refused(
            f"the model socket {path} is in a folder that everybody can write to, so that anybody could answer there: "
            "have the proxy listen in a folder of its own"
        )


def connect_problem(path: Path) -> ModelError | None:
    """What keeps a call from being made there, found by connecting; None if nothing does. Blocks, for 2 s at most."""
    try:
        check_socket(path)
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_CONNECT_S)
            probe.connect(os.fspath(path))
    except ModelError as error:
        return error
    except OSError as error:
        return _unusable(path, error)
    return None


def socket_failure(
    path: Path, error: BaseException, reason: str, usage: Usage | None = None, *, secret: str = "", sent: bool = True
) -> ModelError:
    """The error of a connection through the socket; see `connection_failure`.

    Args:
        error: what the client raised, with its causes.
        reason: its words.

    """
    import ssl  # late, as in all that skillctl may read

    cause = _cause(error)
    if not sent and isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError):
        return _unusable(path, cause)
    hint = (
        "; a proxy that does not speak TLS needs a base URL that begins with http://"
        if isinstance(cause, ssl.SSLError)
        else ""
    )
    return connection_failure(f"at the socket {path}: {reason}{hint}", usage, secret=secret, sent=sent)


def _unusable(path: Path, error: OSError) -> ModelError:
    """What an attempt to look at the socket or to connect to it says."""
    match error.errno:
        case errno.ENOENT:
            why = f"the model socket {path} is not there: {_START_PROXY}, or correct its path"
        case errno.ECONNREFUSED:
            why = f"nobody listens at the model socket {path}: {_START_PROXY}"
        case errno.EACCES | errno.EPERM:
            return _refused(f"the model socket {path} may not be used: give this user the right to connect to it")
        case errno.ENOTDIR | errno.ELOOP | errno.ENAMETOOLONG | errno.EPROTOTYPE:
            return _refused(f"the model socket {path} cannot be used: {error.strerror}; correct its path")
        case _:
            why = f"the model socket {path} does not answer: {error.strerror or error}"
    return ModelError(why, code="connection", retryable=True, sent=False)


def _refused(why: str) -> ModelError:
    return ModelError(why, code="not_configured", sent=False)


def _cause(error: BaseException) -> BaseException:
    """What is at the bottom of it: httpcore breaks the chain of causes, the contexts are still there."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return error
