"""Bounds of one server: sizes in bytes, times in seconds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ServerLimits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """What a client may cost.

    Args:
        head_timeout_s: from the first byte of a request (or from the connect) to the end of its header.
        idle_timeout_s: between two requests of one connection.
        body_timeout_s: for a whole request body.
        send_timeout_s: for the client to take the next 64 KiB of an answer; a reader that never reads is dropped.
        connections_per_peer: of one user, whatever the number of its processes.

    """

    max_header_bytes: int = 64 << 10
    max_body_bytes: int = 8 << 20
    head_timeout_s: float = 10.0
    idle_timeout_s: float = 75.0
    body_timeout_s: float = 60.0
    send_timeout_s: float = 30.0
    connections_per_peer: int = 64
