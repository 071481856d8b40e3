#!/usr/bin/env python3
"""Send a message to skilld and print the answer as it is written.

    python examples/send_message.py "analyze the log /var/log/dpkg.log"

The daemon is found as skillctl finds it: SKILLD_SOCKET, your own daemon, the system's.
"""

from __future__ import annotations

import sys

from skilld.client import Client, SkilldError


def main(text: str) -> int:
    """Send `text` in a new session; 0 if the turn finished."""
    with Client() as client:
        session = client.create_session(title="an example")
        for event in client.send_streaming(session["id"], text):
            if event.type == "model.delta" and event.data.get("kind") == "text":
                print(event.data["text"], end="", flush=True)
            elif event.type == "tool.started":
                print(f"\n[{event.data['name']}]", flush=True)
            elif event.is_ending:
                print(f"\n({event.type}, cost in USD: {event.data['cost_usd']})")
                return 0 if event.type == "turn.finished" else 1
    return 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} TEXT")
    try:
        sys.exit(main(sys.argv[1]))
    except SkilldError as error:
        sys.exit(f"{error.code}: {error}")
