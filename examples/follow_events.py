#!/usr/bin/env python3
"""Follow several conversations at once from one trio program, across restarts of the daemon.

    python examples/follow_events.py SESSION...

Each line is the position and the kind of an event. Ctrl-C ends it; the conversations go on.
"""

from __future__ import annotations

import sys

import trio

from skilld.client import AsyncClient


async def follow(client: AsyncClient, session: str) -> None:
    """Print what happens in one session from now on."""
    start = (await client.session(session))["last_seq"]
    async with client.events(session, after=start) as events:
        async for event in events:
            print(f"{session} {event.position:>8} {event.type}", flush=True)


async def main(sessions: list[str]) -> None:
    """Follow all of them until the program is told to end."""
    async with AsyncClient(reconnect_s=300) as client, trio.open_nursery() as nursery:
        for session in sessions:
            nursery.start_soon(follow, client, session)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} SESSION...")
    try:
        trio.run(main, sys.argv[1:])
    except* KeyboardInterrupt:
        pass
