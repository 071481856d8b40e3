"""Why a message gets no answer yet: its conversation is held still, or the turn before it waits for somebody's word.

Whoever sent it would else look at an empty line for as long as nobody acts, which may be for ever.
"""

from __future__ import annotations

from skilld.cli.inert import inert
from skilld.cli.inquiry import hint
from skilld.client import Client, SkilldError

__all__ = ["holdup"]


def holdup(client: Client, session: str, turn: str | None) -> str | None:
    """What keeps the turn from its beginning, and the command that ends that; None if nothing does, or nobody can tell.

    It is advice: what is wrong with the daemon, the caller finds out where it waits for the answer.
    """
    try:
        return _holdup(client, session, turn)
    except SkilldError:
        return None


def _holdup(client: Client, session: str, turn: str | None) -> str | None:
    status = client.session(session).get("status")
    if status == "paused":
        return f"the conversation is paused; 'skillctl resume {inert(session)}' lets it go on"
    if status != "waiting":
        return None
    others = (view for view in client.approvals(session=session) if view.get("turn") != turn)
    view = next(others, None)
    return None if view is None else f"the turn before waits for approval {inert(str(view.get('id')))}; {hint(view)}"
