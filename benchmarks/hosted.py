"""What hosted turns cost beside the SDK alone: one turn, and each pause in it, against one fake API in one run.

    python benchmarks/hosted.py [--rounds N] [--pauses N]

The fake API is a process of its own. Three ways run the same turns in turn: the SDK alone, which appends what it gets
and asks on, `run_turn` with our client, and the backend `anthropic` with a session. Prints medians; the ratio is to
the SDK alone. A pause is the difference of a turn with pauses and one without, by their number.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from skill_actors.backends.anthropic import HostedClient, build_request, code_execution_tool, container_config, run_turn
from skill_actors.loop import HostedBackend
from skill_actors.models.base import Message

_MODEL = "claude-sonnet-5-5"
_WARM_UP = 2
_CONTAINER = container_config(["anthropic:xlsx"])
_ASKED: Message = {"role": "user", "content": "Make a report."}

Turn = Callable[[], Awaitable[int]]  # the files that it made


@contextmanager
def fake_api(turns: int, pauses: int) -> Iterator[str]:
    """The URL of a fake API that plays `turns` times a turn without pauses, then one with."""
    call = {"kind": "code_execution", "command": "make", "half": "call"}
    result = {"kind": "code_execution", "half": "result", "stdout": "x" * 500}
    done = {"kind": "code_execution", "command": "ls", "files": {"report.xlsx": "UEs="}}
    text = {"kind": "text", "text": "Here it is."}
    first = {"blocks": [text, call], "stop_reason": "pause_turn"}
    more = {"blocks": [result, call], "stop_reason": "pause_turn"}
    paused = [first, *[more] * (pauses - 1), {"blocks": [result, done, text]}]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "replies.json"
        script.write_text(json.dumps([{"blocks": [done, text]}, *paused] * turns))
        command = [sys.executable, "-m", "skill_actors.testing.fake_api", "--script", str(script)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                yield process.stdout.readline().strip()
            finally:
                process.terminate()


async def _sdk_turn(client: Any) -> int:
    """As its manual shows: append what came, ask on with the container, look for files."""
    messages: list[Any] = [_ASKED]
    container: dict[str, Any] = dict(_CONTAINER)
    files: set[str] = set()
    while True:
        answer = await client.messages.create(
            model=_MODEL, max_tokens=8192, messages=messages, tools=[code_execution_tool()], container=container
        )
        for block in answer.content:
            if block.type == "bash_code_execution_tool_result" and block.content.type == "bash_code_execution_result":
                files |= {output.file_id for output in block.content.content}
        if answer.stop_reason != "pause_turn":
            return len(files)
        container = {**container, "id": answer.container.id}
        content = [block.model_dump(mode="json", exclude_none=True) for block in answer.content]
        before = messages[1]["content"] if len(messages) > 1 else []
        messages = [_ASKED, {"role": "assistant", "content": [*before, *content]}]


async def _our_turn(client: HostedClient) -> int:
    async def ask(messages: Sequence[Message], container: Mapping[str, Any]) -> object:
        return await client.ask(build_request(messages, container, model=_MODEL))

    return len((await run_turn([_ASKED], ask, container=_CONTAINER, max_pauses=1000)).files)


async def _backend_turn(client: HostedClient) -> int:
    backend = HostedBackend()
    session = await backend.new_session(["anthropic:xlsx"], model_name=_MODEL, max_pauses=1000)
    turn, _ = await backend.chat(session, "Make a report.", client)
    return len(turn.files)


async def measure(url: str, rounds: int) -> dict[str, tuple[list[float], list[float]]]:
    """Milliseconds of turns without and with pauses, by way."""
    import anthropic

    found: dict[str, tuple[list[float], list[float]]] = {}
    async with (
        anthropic.AsyncAnthropic(api_key="key", base_url=url, max_retries=0) as sdk,
        HostedClient(lambda: "key", base_url=url) as client,
    ):
        await client.prepare()
        ways: dict[str, Turn] = {
            "the SDK alone": lambda: _sdk_turn(sdk),
            "run_turn": lambda: _our_turn(client),
            "backend anthropic": lambda: _backend_turn(client),
        }
        for number in range(_WARM_UP + rounds):
            for way, turn in ways.items():
                plain_ms, paused_ms = await _timed_ms(turn), await _timed_ms(turn)
                if number >= _WARM_UP:
                    plain, paused = found.setdefault(way, ([], []))
                    plain.append(plain_ms)
                    paused.append(paused_ms)
    return found


async def _timed_ms(turn: Turn) -> float:
    began_s = time.perf_counter()
    files = await turn()
    taken_ms = (time.perf_counter() - began_s) * 1000
    assert files == 1, f"{files} files were found"
    return taken_ms


def report(found: Mapping[str, tuple[list[float], list[float]]], pauses: int) -> None:
    """Print the table; the first way is the floor."""
    rows = {}
    for way, (plain, paused) in found.items():
        plain_ms = statistics.median(plain)
        rows[way] = plain_ms, (statistics.median(paused) - plain_ms) / pauses
    floor = next(iter(rows.values()))
    print(f"{'hosted turns':18} {'turn ms':>8} {'ratio':>6} {'pause ms':>9} {'ratio':>6}")
    for way, (turn_ms, pause_ms) in rows.items():
        print(f"{way:18} {turn_ms:8.2f} {turn_ms / floor[0]:6.2f} {pause_ms:9.2f} {pause_ms / floor[1]:6.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--pauses", type=int, default=8)
    options = parser.parse_args()
    with fake_api((_WARM_UP + options.rounds) * 3, options.pauses) as url:
        report(trio.run(measure, url, options.rounds), options.pauses)
