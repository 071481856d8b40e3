"""How old a delta of a model's stream is when its reader has it: the whole daemon beside the SDK alone, in one run.

The fake Messages API runs in a process of its own and writes into every delta when it was sent; all processes share
the machine's monotonic clock. Three ways read the same replies in turn: the SDK alone, our model client, and a client
of the socket of a real skilld process that calls that API. Reach: the daemon adds less than 5 ms, p99.

    python benchmarks/stream_latency.py [--deltas N] [--rounds N]
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

from skill_actors.models import AnthropicModel, BlockDelta, ModelRequest
from skilld.client import AsyncClient, Client, SkilldError

_KEY: Final = "no-key"
_MODEL: Final = "claude-sonnet-5-5"
_STAMP: Final = "@NOW@ "
_START_S: Final = 30.0
_REACH_MS: Final = 5.0


@contextmanager
def fake_api(replies: int, deltas: int, delay_s: float = 0.002) -> Iterator[str]:
    """The URL of a fake API that gives `replies` stamped replies of `deltas` deltas, one each `delay_s`."""
    text = {"kind": "text", "text": _STAMP * deltas}
    reply = {"blocks": [text], "chunk_chars": len(_STAMP), "delay_s": delay_s, "stamped": True}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "replies.json"
        script.write_text(json.dumps([reply] * replies))
        command = [sys.executable, "-m", "skill_actors.testing.fake_api", "--script", str(script)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                yield process.stdout.readline().strip()
            finally:
                process.terminate()


@contextmanager
def daemon(api: str) -> Iterator[Path]:
    """The socket of a skilld process that calls this API."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        socket = folder / "skilld.sock"
        command = [sys.executable, "-m", "skilld", f"--socket={socket}", f"--state-dir={folder / 'state'}"]
        config = folder / "skilld.toml"
        config.write_text("[skills]\nwatch = false\n")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("SKILLD_", "ANTHROPIC_"))}
        environment |= {"ANTHROPIC_API_KEY": _KEY, "ANTHROPIC_BASE_URL": api, "HOME": name}
        with (
            (folder / "log").open("wb") as log,
            subprocess.Popen([*command, f"--config={config}"], env=environment, stderr=log) as process,
        ):
            try:
                _wait_ready(process, socket)
                yield socket
            finally:
                process.terminate()


def _wait_ready(process: subprocess.Popen[bytes], socket: Path) -> None:
    began_s = time.monotonic()
    with Client(str(socket)) as client:
        while time.monotonic() - began_s < _START_S and process.poll() is None:
            try:
                if client.ready():
                    return
            except SkilldError:
                pass
            time.sleep(0.02)
    raise RuntimeError(f"skilld was not ready in {_START_S:g} s; exit status so far: {process.poll()}")


async def sdk_alone(url: str) -> list[float]:
    """Ages of the deltas of one reply, in milliseconds, read by the SDK as its manual shows."""
    import anthropic

    ages_ms: list[float] = []
    async with anthropic.AsyncAnthropic(api_key=_KEY, base_url=url, max_retries=0) as client:
        stream = await client.messages.create(
            model=_MODEL, max_tokens=99, messages=[{"role": "user", "content": "go"}], stream=True
        )
        async for event in stream:
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                ages_ms.append(_age_ms(event.delta.text))
    return ages_ms


async def model_client(url: str) -> list[float]:
    """Ages of the deltas of one reply, in milliseconds, read by the model client."""
    model = AnthropicModel(lambda: _KEY, base_url=url)
    request = ModelRequest(model=_MODEL, messages=[{"role": "user", "content": "go"}])
    async with model.stream(request) as events:
        ages_ms = [_age_ms(event.text) async for event in events if isinstance(event, BlockDelta)]
    await model.aclose()
    return ages_ms


async def whole_daemon(socket: Path) -> list[float]:
    """Ages of the deltas of one reply, in milliseconds, read from the socket; those sent as one piece count each."""
    ages_ms: list[float] = []
    async with AsyncClient(socket) as client:
        session = (await client.create_session())["id"]
        async with client.send_streaming(session, "go") as events:
            async for event in events:
                if event.type == "model.delta":
                    ages_ms += [_age_ms(stamp) for stamp in event.data["text"].split()]
    return ages_ms


def summary(ages_ms: list[float]) -> tuple[float, float, float]:
    """p50, p99 and the largest."""
    ordered = sorted(ages_ms)
    return ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], ordered[-1]


def _age_ms(stamp: str) -> float:
    return (time.monotonic_ns() - int(stamp)) / 1e6


async def measure(url: str, socket: Path, rounds: int) -> dict[str, list[float]]:
    """The ages by way; the ways take turns, so that the noise of the machine hits all."""
    ways: dict[str, Callable[[], Awaitable[list[float]]]] = {
        "SDK alone": functools.partial(sdk_alone, url),
        "model client": functools.partial(model_client, url),
        "skilld": functools.partial(whole_daemon, socket),
    }
    ages_ms: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, read in ways.items():
            ages_ms[way] += await read()
    return ages_ms


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deltas", type=int, default=500, help="deltas in a reply")
    parser.add_argument("--rounds", type=int, default=4, help="replies read each way")
    options = parser.parse_args()
    with fake_api(3 * options.rounds + 3, options.deltas) as url, daemon(url) as socket:
        trio.run(measure, url, socket, 1)  # imports, first connections
        found = trio.run(measure, url, socket, options.rounds)
    floor = summary(found["SDK alone"])
    titles = ("p50 ms", "p99 ms", "max ms", "added p50", "added p99", "p50 ratio")
    print(f"{'age of a delta':16} {' '.join(f'{title:>9}' for title in titles)}")
    for way, ages_ms in found.items():
        p50, p99, worst = summary(ages_ms)
        numbers = (p50, p99, worst, p50 - floor[0], p99 - floor[1], p50 / floor[0])
        print(f"{way:16} {' '.join(f'{number:9.3f}' for number in numbers)}")
    print(f"reach: skilld adds less than {_REACH_MS:g} ms, p99")


if __name__ == "__main__":
    main()
