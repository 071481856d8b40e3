"""What a hybrid turn costs beside the same calls in three conversations, in one daemon, against one fake API.

    python benchmarks/hybrid.py [--rounds N]

A round is one turn of a conversation with two local places and the hosted one, in which the model calls a tool of each,
and then three turns of conversations with one place each, one after the other, in which it makes the same calls. The
fake API runs in this process and answers at once, so that what is left is the daemon, its journal and the tools.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _daemon import daemon

from skill_actors.testing import Answer, CodeExecution, FakeMessagesApi, Reply, Text, ToolUse, serve_in_thread
from skilld.client import Client

_WARM_UP = 2
_OTHER: dict[str, Any] = {"backend": "local", "name": "other"}
_DONE = Reply([Text("done")])


def _bash(place: str = "") -> ToolUse:
    name = f"{place}_bash_tool" if place else "bash_tool"
    return ToolUse(name, {"command": "true", "description": "d"})


def _code() -> CodeExecution:
    return CodeExecution("true")


def turn_ms(client: Client, api: FakeMessagesApi, session: str, answers: Sequence[Answer]) -> float:
    """How long one turn takes that the model answers so, from the message to its ending."""
    api.enqueue(*answers)
    began_s = time.perf_counter()
    turn = client.turn(client.send(session, "go").turn, wait_s=60)
    taken_ms = (time.perf_counter() - began_s) * 1000
    assert turn["status"] == "finished", turn
    return taken_ms


def measure(client: Client, api: FakeMessagesApi, rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds of hybrid turns, and of the same calls in three conversations."""
    hybrid = str(client.create_session(backends=["local", _OTHER, "anthropic"])["id"])
    apart = [str(client.create_session(backends=[place])["id"]) for place in ("local", _OTHER, "anthropic")]
    together_ms, apart_ms = [], []
    for number in range(_WARM_UP + rounds):
        one = turn_ms(client, api, hybrid, [Reply([_code(), _bash(), _bash("other")]), _DONE])
        three = sum(turn_ms(client, api, session, [Reply([_bash()]), _DONE]) for session in apart[:2])
        three += turn_ms(client, api, apart[2], [Reply([_code(), Text("done")])])
        if number >= _WARM_UP:
            together_ms.append(one)
            apart_ms.append(three)
    return together_ms, apart_ms


def report(together_ms: Sequence[float], apart_ms: Sequence[float]) -> None:
    """Print the table; the ratio is to three conversations."""
    floor_ms = statistics.median(apart_ms)
    print(f"{'three tools, one of each place':32} {'p50 ms':>8} {'p90 ms':>8} {'ratio':>6}")
    for way, found in (("three conversations", apart_ms), ("one hybrid conversation", together_ms)):
        p50, p90 = statistics.median(found), statistics.quantiles(found, n=10)[-1] if len(found) > 1 else found[0]
        print(f"{way:32} {p50:8.2f} {p90:8.2f} {p50 / floor_ms:6.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, serve_in_thread(FakeMessagesApi([])) as fake:
        folder = Path(temporary)
        (folder / "skills").mkdir()
        keys = {"ANTHROPIC_API_KEY": "key-of-the-benchmark", "ANTHROPIC_BASE_URL": fake.base_url}
        with daemon(folder, keys) as reached:
            report(*measure(reached, fake, options.rounds))
