"""What a turn of an agent costs beside the bare program that performs it, and what 100 idle agents take.

    python benchmarks/agents.py [--rounds N] [--agents N] [--idle-close S]

The programs are those in the folder that SKILLD_AGENT_CLIS names (scripts/agent-clis prints it), against fake APIs that
answer at once; without them a stand-in for `claude` takes its place, and the other is left out. All ways are taken in
turn, each with a folder of the program's own. Cold is a turn for which a program starts: bare, from exec to its end
(`-p`, `exec`) or to the result (stream-json both ways, with the options that skilld gives it); ours, from the message
to the end of the first turn of a conversation at a client of the socket. Warm is the second turn of the same process,
beside the same of a bare one, or beside a bare cold one where what a long-lived program says is not spoken here.

The idle agents are agents of the workshop, each after one turn; their program is the stand-in, since nothing of it
stays. Told is what each adds to the daemon's memory once the programs are gone, and when that was.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from _daemon import daemon

from skill_actors.backends.agents.claude.arguments import FLAGS, Places, Shape, command_line, environment
from skill_actors.backends.agents.claude.options import ClaudeOptions
from skill_actors.backends.agents.claude.session_options import SessionOptions
from skill_actors.backends.agents.codex import arguments as codex
from skill_actors.backends.agents.codex.configuration import provider
from skill_actors.backends.agents.codex.options import CodexOptions
from skill_actors.testing import FakeMessagesApi, Reply, Text, serve_in_thread
from skill_actors.testing.responses_api import FakeResponsesApi
from skilld.client import Client

_WARM_UP: Final = 1  # a program sets its folder up the first time
_WRITERS: Final = 8
_GONE_S: Final = 60.0
_STAND_IN: Final = Path(__file__).resolve().parents[1] / "tests" / "stand_in_claude.py"
_KEY: Final = "not-a-key"
_SHAPE: Final = Shape(model=None, effort=None, max_tokens=None, schema=None)

Times = dict[str, list[float]]  # milliseconds by way


def program_of(name: str) -> str | None:
    """The real program's path."""
    return shutil.which(name, path=os.environ.get("SKILLD_AGENT_CLIS", os.devnull))


def stand_in(folder: Path) -> str:
    """The stand-in for `claude` as a program of its own."""
    path = folder / "claude"
    path.write_text(f"#!{sys.executable} -IS\n{_STAND_IN.read_text()}")
    path.chmod(0o755)
    return str(path)


def answer(_: object) -> Reply:
    """Of both fake APIs."""
    return Reply([Text("Done.")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Bare:
    """A program as anybody would start it.

    Args:
        once: argv of a process for one turn: the message on stdin, then the end.
        duplex: argv of one for many turns; None where that is not measured.

    """

    once: Sequence[str]
    duplex: Sequence[str] | None
    environment: Mapping[str, str]
    folder: Path

    def one_turn(self) -> None:
        """Start it, and wait for its end."""
        subprocess.run(
            self.once, input=b"Hello.", stdout=subprocess.DEVNULL, check=True, cwd=self.folder, env=self.environment
        )

    def two_turns(self) -> tuple[float, float]:
        """Milliseconds of the first turn, with the start, and of the second."""
        assert self.duplex is not None
        began_s = time.perf_counter()
        with subprocess.Popen(
            self.duplex, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=self.folder, env=self.environment
        ) as process:
            _say_hello(process)
            first_s = time.perf_counter()
            _say_hello(process)
            second_s = time.perf_counter()
            process.communicate()
        return (first_s - began_s) * 1e3, (second_s - first_s) * 1e3


def _say_hello(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    message = {"type": "user", "message": {"role": "user", "content": [{"type": "text", "text": "Hello."}]}}
    more = {"uuid": _uuid(), "parent_tool_use_id": None, "session_id": ""}
    process.stdin.write(json.dumps(message | more).encode() + b"\n")
    process.stdin.flush()
    for line in process.stdout:
        if json.loads(line)["type"] == "result":
            return
    raise RuntimeError("the program ended before its turn")


def _uuid() -> str:
    return Path("/proc/sys/kernel/random/uuid").read_text().strip()


def bare_claude(folder: Path, options: ClaudeOptions) -> Bare:
    """`claude` with folders of its own below `folder`."""
    places = Places(home=folder / "home", config=folder / "config", temporary=folder / "tmp")
    for each in (places.home, places.config, places.temporary, folder / "work"):
        each.mkdir(parents=True)
    session = SessionOptions()
    return Bare(
        once=[options.program, "-p", "--output-format", "json"],
        duplex=command_line(options, session, _SHAPE, places, resume=None, fork=False),
        environment=environment(options, session, _SHAPE, places),
        folder=folder / "work",
    )


def bare_codex(folder: Path, options: CodexOptions) -> Bare:
    """`codex exec` with folders of its own below `folder`; what its long-lived form says is not spoken here."""
    for name in ("codex", "home", "tmp", "work"):
        (folder / name).mkdir(parents=True)
    settings = codex.server_arguments(options.program, provider(options))[2:]
    words = ["--json", "--skip-git-repo-check", "--sandbox", "read-only", "--model", options.model]
    return Bare(
        once=[options.program, "exec", *settings, *words, "-"],
        duplex=None,
        environment=codex.environment(options, home=folder, temporary=folder / "tmp", key=_KEY),
        folder=folder / "work",
    )


def our_two_turns(client: Client, backend: str) -> tuple[float, float]:
    """Milliseconds of the first and the second turn of a new conversation."""
    session = client.create_session(backends=[backend])["id"]
    return _our_turn(client, session), _our_turn(client, session)


def _our_turn(client: Client, session: str) -> float:
    began_s = time.perf_counter()
    turn = client.turn(client.send(session, "Hello.").turn, wait_s=60)
    taken_ms = (time.perf_counter() - began_s) * 1e3
    if turn["status"] != "finished":
        raise RuntimeError(f"the turn {turn['status']}: {turn}")
    return taken_ms


def measure(client: Client, bare: Mapping[str, Bare], rounds: int) -> dict[str, tuple[Times, Times]]:
    """Milliseconds by backend, of cold and of warm turns."""
    found: dict[str, tuple[Times, Times]] = {name: ({}, {}) for name in bare}
    for number in range(_WARM_UP + rounds):
        for backend, program in bare.items():
            cold, warm = _one_round(client, backend, program)
            if number >= _WARM_UP:
                for taken, into in zip((cold, warm), found[backend], strict=True):
                    for way, taken_ms in taken.items():
                        into.setdefault(way, []).append(taken_ms)
    return found


def _one_round(client: Client, backend: str, program: Bare) -> tuple[dict[str, float], dict[str, float]]:
    began_s = time.perf_counter()
    program.one_turn()
    cold, warm = {"bare, one shot": (time.perf_counter() - began_s) * 1e3}, {}
    if program.duplex is not None:
        cold["bare, duplex"], warm["bare, duplex"] = program.two_turns()
    cold["skilld"], warm["skilld"] = our_two_turns(client, backend)
    return cold, warm


def report(found: Mapping[str, tuple[Times, Times]], names: Mapping[str, str]) -> None:
    """Print the table. The first way of a part is its floor; a part with ours alone has that of the part before."""
    print(f"{'a turn of an agent':44} {'p50 ms':>8} {'min ms':>8} {'max ms':>8} {'ratio':>6} {'added ms':>9}")
    for backend, parts in found.items():
        floor_ms = 0.0
        for part, times in zip(("cold", "warm"), parts, strict=True):
            if part == "cold" or len(times) > 1:
                floor_ms = statistics.median(next(iter(times.values())))
            for way, taken in times.items():
                p50_ms = statistics.median(taken)
                print(
                    f"{f'{names[backend]}, {part}: {way}':44} {p50_ms:8.0f} {min(taken):8.0f} {max(taken):8.0f} "
                    f"{p50_ms / floor_ms:6.2f} {p50_ms - floor_ms:9.0f}"
                )


# Idle agents


def programs_below(folder: Path) -> int:
    """How many programs run whose own folder is below this one, whoever their parent is."""
    marks = [f"{name}={folder}/".encode() for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME")]
    count = 0
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                has = (process / "environ").read_bytes()
                count += any(mark in has for mark in marks)
    return count


def wait_gone_s(folder: Path) -> float:
    """Seconds until no program of the daemon is left."""
    began_s = time.perf_counter()
    while left := programs_below(folder):
        if time.perf_counter() - began_s > _GONE_S:
            raise RuntimeError(f"{left} programs are still there after {_GONE_S:g} s")
        time.sleep(0.02)
    return time.perf_counter() - began_s


def rss_kb(client: Client) -> int:
    """What the daemon has resident."""
    status = Path(f"/proc/{client.status()['pid']}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def idle_agents(folder: Path, count: int, idle_close_s: float) -> None:
    """Print what so many agents leave in a fresh daemon."""
    config = configuration(folder, {"claude_cli": claude_table(stand_in(folder), "", idle_close_s)})
    with daemon(folder, arguments=[f"--config={config}"]) as client:
        for number in range(_WRITERS):  # what comes with the first turns comes with no later one
            _make_agent(client, f"first{number}")
        wait_gone_s(folder)
        before_kb = rss_kb(client)
        for number in range(count):
            _make_agent(client, f"agent{number}")
        at_once = programs_below(folder)
        gone_s = wait_gone_s(folder)
        each_kb = (rss_kb(client) - before_kb) / count
        after_ms = statistics.median(_ask(client, f"agent{number}") for number in range(min(count, 5)))
        print(
            f"\n{count} idle agents: {each_kb:.1f} KB of the daemon each ({before_kb / 1024:.1f} MB before); "
            f"programs {at_once}, then 0 after {gone_s:.2f} s (idle_close_s = {idle_close_s:g}); "
            f"an agent's next turn {after_ms:.0f} ms"
        )


def _make_agent(client: Client, name: str) -> None:
    client.define_agent(name, backend="claude_cli")
    _ask(client, name)


def _ask(client: Client, name: str) -> float:
    began_s = time.perf_counter()
    turn = client.ask_agent(name, "Hello.")
    if turn["status"] != "finished":
        raise RuntimeError(f"the turn {turn['status']}: {turn}")
    return (time.perf_counter() - began_s) * 1e3


# The daemon's configuration


def claude_table(program: str, base_url: str, idle_close_s: float) -> dict[str, Any]:
    """Options of `claude_cli`."""
    return {"program": program, "base_url": base_url, "model": "claude-sonnet-5-5", "idle_close_s": idle_close_s}


def configuration(folder: Path, backends: Mapping[str, Mapping[str, Any]]) -> Path:
    """A file with these agent backends, which have a key."""
    key = folder / "key"
    key.write_text(_KEY)
    key.chmod(0o600)
    lines = ["[backends]", f"agents = {json.dumps(list(backends))}"]
    for name, table in backends.items():
        lines += [f"[backends.{name}]", f"api_key_file = {json.dumps(str(key))}"]
        lines += [f"{option} = {json.dumps(value)}" for option, value in table.items() if value != ""]
        if name == "claude_cli":  # the stand-in's; of no meaning to the real one
            lines.append(f"environment = {{ STAND_IN_HELP = {json.dumps(' '.join(sorted(FLAGS)))} }}")
    path = folder / "skilld.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


@contextmanager
def programs(folder: Path, idle_close_s: float) -> Iterator[tuple[dict[str, Bare], dict[str, str], Path]]:
    """The bare programs and their names by backend, and a configuration of the daemon for the same."""
    claude, codex_path = program_of("claude"), program_of("codex")
    with ExitStack() as stack:
        base_url = stack.enter_context(serve_in_thread(FakeMessagesApi(respond=answer))).base_url
        table = claude_table(claude or stand_in(folder), base_url, idle_close_s)
        tables = {"claude_cli": table}
        bare = {"claude_cli": bare_claude(folder / "bare-claude", ClaudeOptions(**table, api_key=_KEY))}
        names = {"claude_cli": "claude" if claude else "stand-in"}
        if codex_path:
            url = stack.enter_context(serve_in_thread(FakeResponsesApi(respond=answer))).base_url
            table = {"program": codex_path, "base_url": url, "model": "gpt-test", "idle_close_s": idle_close_s}
            tables["codex_cli"], names["codex_cli"] = table, "codex"
            bare["codex_cli"] = bare_codex(folder / "bare-codex", CodexOptions(**table, api_key=_KEY))
        yield bare, names, configuration(folder, tables)


def turns(folder: Path, rounds: int, idle_close_s: float) -> None:
    """Print what turns take."""
    with programs(folder, idle_close_s) as (bare, names, config), ExitStack() as stack:
        place = folder / "daemon"
        place.mkdir()
        client = stack.enter_context(daemon(place, arguments=[f"--config={config}"]))
        report(measure(client, bare, rounds), names)
        left = programs_below(place)
        print(f"programs after the last turn: {left}, then 0 after {wait_gone_s(place):.2f} s")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--idle-close", type=float, default=2.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        turns(Path(first), options.rounds, options.idle_close)
        idle_agents(Path(second), options.agents, options.idle_close)
    print(f"load average: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
