"""What the audit log is told of a request: who, which route, which ids, how it ended. Nothing that was said."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import trio

from skill_actors.ids import is_id
from skilld.http.peer import Peer

__all__ = ["Heard", "body_hash", "facts_of", "is_audited"]

_IDS: Final = ("ses", "trn", "apr")
_HASHED_AT_ONCE_BYTES: Final = 128 << 10


@dataclass(slots=True)
class Heard:
    """What is learnt of a request while it is answered.

    Args:
        code: of the refusal.
        body: hash of what was sent.
        made: id of what was made.

    """

    code: str | None = None
    body: str | None = None
    made: str | None = None

    def note_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Take the id of a new session from the answer."""
        for name, value in headers:
            if name.lower() == b"location":
                made = value.rpartition(b"/")[2].decode("latin-1")
                self.made = made if is_id(made, "ses") else None


def is_audited(method: str, status: int, *, reads: bool) -> bool:
    """Whether a request is an entry: it may change something, it was refused for want of a right, or all are."""
    return reads or method not in ("GET", "HEAD") or status in (401, 403)


def facts_of(
    path: str, method: str, peer: Peer, params: Mapping[str, str], heard: Heard, *, status: int, duration_s: float
) -> dict[str, Any]:
    """The entry. Ids are shown; other parts of the path, such as names of files, appear as hashes."""
    facts: dict[str, Any] = {
        "uid": peer.uid,
        "gid": peer.gid,
        "pid": peer.pid,
        "method": method,
        "route": path,
        "status": status,
        "duration_ms": round(duration_s * 1000, 1),
    }
    shown = {name: _shown(path, value) for name, value in params.items()}
    optional = {
        "agent": peer.agent,
        "params": shown or None,
        "code": heard.code,
        "body": heard.body,
        "made": heard.made,
    }
    return facts | {name: value for name, value in optional.items() if value is not None}


async def body_hash(raw: bytes) -> str:
    """The body's hash, `sha256:` and hexadecimal digits; of a long one in a thread."""
    if len(raw) <= _HASHED_AT_ONCE_BYTES:
        return _hash(raw)
    return await trio.to_thread.run_sync(_hash, raw)


def _hash(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def _shown(path: str, value: str) -> str:
    if path.startswith("/v1/skills/") or any(is_id(value, kind) for kind in _IDS):
        return value[:200]
    return _hash(value.encode("utf-8", "surrogatepass"))
