"""What goes wrong with a tool server.

ServerFailed             it cannot be used: it does not start, ended, broke the protocol, or asks to be left alone
  SessionGone            it does not know us any more, and has not done what it was asked
"""

from __future__ import annotations

__all__ = ["ServerFailed", "SessionGone"]


class ServerFailed(Exception):
    """A server cannot be used, or not any more. The message is for the operator and the model, without secrets."""


class SessionGone(ServerFailed):
    """A server over HTTP has forgotten the session. What was asked of it in that session was not done."""
