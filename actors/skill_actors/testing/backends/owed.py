"""Checks of what every backend owes, whatever it claims."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Final

import trio

from skill_actors.backends.base import BackendUnavailable, ToolResult

from .trial import Check, Trial, Unmeasurable, always, expect

__all__ = ["OWED"]


async def _failing(trial: Trial) -> None:
    result = await trial.bash("echo out; echo err >&2; exit 3")
    told = result.exit_code == 3 or "exit code 3" in result.content
    expect(result.outcome == "error" and told, "a command's exit code is not told", result)
    expect("out" in result.content and "err" in result.content, "output of a failing command is lost", result)


async def _bad_input(trial: Trial) -> None:
    for name, input in (("no_such_tool", {}), ("bash_tool", {"command": 3}), ("view", {"path": "a\0b"})):
        result = await trial.tool(name, input)
        expect(result.is_error and bool(result.content), f"input that makes no sense for {name} is taken", result)


async def _deadline(trial: Trial) -> None:
    began = trio.current_time()
    result = await trial.bash("(setsid sleep 60 &); sleep 60", timeout_s=0.5)
    expect(result.outcome == "timeout", "a call beyond its time is not ended as such", result)
    expect(trio.current_time() - began < 15, "a call beyond its time is ended late")


async def _flood(trial: Trial) -> None:
    result = await trial.bash("head -c 3000000 /dev/urandom; echo; echo the end", max_output_chars=5_000)
    expect(result.outcome == "ok" and len(result.content) <= 5_000, "output is not capped", result)
    expect("the end" in result.content, "the end of long output is not shown", result)
    result.content.encode()


async def _environment(trial: Trial) -> None:
    result = await trial.bash('echo "[$GIVEN]"', environment={"GIVEN": "yes"})
    expect("[yes]" in result.content, "a call does not get its environment", result)
    result = await trial.bash("echo a-secret-word", hidden=["secret"])
    expect("secret" not in result.content, "hidden text is in the result", result)


async def _paths(trial: Trial) -> None:
    (trial.folder / "outside").write_text("outside")
    inputs: Mapping[str, Mapping[str, str]] = {
        "view": {},
        "create_file": {"file_text": "x"},
        "str_replace": {"old_str": "outside", "new_str": "x"},
    }
    await trial.bash("ln -s .. up")
    for path in ("../outside", "up/outside", "/etc/passwd"):
        for name, more in inputs.items():
            if (name, path) != ("view", "/etc/passwd"):
                result = await trial.tool(name, {"path": path, **more})
                expect(result.is_error, f"{name} of {path} is not refused", result)
    expect((trial.folder / "outside").read_text() == "outside", "a file outside of the workspace was changed")


async def _closed(trial: Trial) -> None:
    await trial.workspace.aclose()
    await trial.workspace.aclose()
    result = await trial.bash("echo x")
    expect(result.outcome == "cancelled", "a closed workspace runs commands", result)


async def _binary(trial: Trial) -> None:
    result = await trial.bash(r"printf 'a\000b\377\303\050c\033[31m'; head -c 10000 /dev/urandom; echo the end")
    expect(result.outcome == "ok" and "the end" in result.content, "output that is no text is lost", result)
    result.content.encode()
    expect("\0" not in result.content, "a NUL is in the result", result)


async def _names(trial: Trial) -> None:
    names = ("ünï c.txt", "日本語 🙂.txt", "e\u0301.txt", "-n", 'it\'s "quoted" $HOME;.txt', "n" * 200)
    for name in names:
        made = await trial.tool("create_file", {"path": f"names/{name}", "file_text": name})
        expect(not made.is_error, f"a file cannot be named {name[:40]!r}", made)
        seen = await trial.tool("view", {"path": f"names/{name}"})
        expect(name in seen.content, f"the file {name[:40]!r} cannot be viewed", seen)
    listed = await trial.bash(
        "cd names && for name in *; do printf '%s|' \"$name\"; cat \"./$name\"; printf '\\n'; done"
    )
    found = {tuple(line.split("|")) for line in listed.content.splitlines() if "|" in line}
    expect(found == {(name, name) for name in names}, "commands see other names than were given", listed)


async def _many(trial: Trial) -> None:
    results: dict[int, ToolResult] = {}

    async def one(number: int) -> None:
        results[number] = await trial.bash(
            f"for i in 1 2 3; do echo {number}; done; echo {number} >&2; exit {number % 2}"
        )

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(one, number)
    for number, result in results.items():
        digits = {word for word in result.content.split() if word.isdigit()} - {str(number % 2)}
        expect(digits <= {str(number)}, f"call {number} of 20 has the output of another", result)
        expect(result.is_error == bool(number % 2), f"call {number} of 20 has the outcome of another", result)


async def _crash(trial: Trial) -> None:
    """What executes commands is, as far as a command may, killed by one; another takes its place."""
    where = await trial.bash("echo $PPID; readlink /proc/$PPID/ns/pid; readlink /proc/self/ns/pid")
    words = where.content.split()
    if words[:1] == [str(os.getpid())] and os.readlink("/proc/self/ns/pid") in words:
        raise Unmeasurable("commands are run by this very process")
    began = trio.current_time()
    with contextlib.suppress(BackendUnavailable):
        await trial.bash("kill -9 $PPID; sleep 1")
    expect(trio.current_time() - began < 15, "a call whose executor dies is not ended")
    for _ in range(3):  # one that dies may take those that were waiting along
        try:
            result = await trial.bash("echo alive")
        except BackendUnavailable:
            continue
        if result.content == "alive":
            return
    raise AssertionError("after what executes commands was killed, none runs any more")


OWED: Final[Sequence[Check]] = (
    Check("contract", "a failing command tells its output and its exit code", always, _failing),
    Check("contract", "input that makes no sense is answered", always, _bad_input),
    Check("contract", "a call that takes too long is ended", always, _deadline),
    Check("contract", "output is capped, and valid text", always, _flood),
    Check("contract", "output that is no text is made so", always, _binary),
    Check("contract", "files may have any name", always, _names),
    Check("contract", "calls at the same time do not mix", always, _many),
    Check("contract", "a call gets its environment, and hides what is to be hidden", always, _environment),
    Check("contract", "file tools stay in the workspace", always, _paths),
    Check("contract", "what executes commands is made again when it is killed", always, _crash),
    Check("contract", "a closed workspace stays closed", always, _closed),
)
