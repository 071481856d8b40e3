"""The fake Messages API as a program: `python -m skill_actors.testing.fake_api --port 8089 --script answers.json`.

The script is a JSON list of answers (see `parse_answer`), given in order; after them, and without a script, messages
are answered as `load_reply` says. The address is printed once it takes connections; Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import trio

from skill_actors.testing.api_server import FakeMessagesApi
from skill_actors.testing.replies import Answer, parse_answer

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted; 0 then, 2 for a script that is not understood."""
    parser = argparse.ArgumentParser(prog="python -m skill_actors.testing.fake_api", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one (default)")
    parser.add_argument("--socket", type=Path, help="Unix socket to make and listen at instead of a port")
    parser.add_argument("--script", type=Path, help="JSON file with a list of answers")
    options = parser.parse_args(arguments)
    try:
        answers = _answers(options.script) if options.script else []
    except (OSError, ValueError) as error:
        parser.error(f"script {options.script}: {error}")
    try:
        trio.run(_serve, FakeMessagesApi(answers), options.port, options.socket)
    except* KeyboardInterrupt:
        pass
    return 0


def _answers(script: Path) -> list[Answer]:
    data = json.loads(script.read_text(encoding="utf-8"))
    if not isinstance(data, list):
        raise ValueError("it must be a JSON list of answers")
    return [parse_answer(answer) for answer in data]


async def _serve(api: FakeMessagesApi, port: int, socket: Path | None) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: api.serve(port=port, socket=socket, task_status=task_status))
        print(api.base_url, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
