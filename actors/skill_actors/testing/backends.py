"""The conformance kit: what a backend claims, measured. For whoever writes one; ours pass it in tests/conformance.

    async with open_mine(options, Host()) as executor:
        findings = await measure(executor, folder)
    assert not [finding for finding in findings if finding.outcome == "failed"], findings

Every check works through the tools alone, as a model would, so it does not matter where they run; it needs bash there.
The whole takes some ten seconds. It says what holds here and now; it is no proof that nobody gets out.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import zlib
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import trio

from skill_actors.backends.base import (
    Capabilities,
    Executor,
    OutputChunk,
    ToolCall,
    ToolContext,
    ToolResult,
    Workspace,
    WorkspaceSpec,
)

__all__ = ["CHECKS", "Check", "Finding", "Trial", "measure", "verdicts"]

_CALL_S: Final = 20.0
_CHECK_S: Final = 60.0


class Trial:
    """A workspace of the backend under test, with the tools as methods. `folder` is around the workspace's own."""

    def __init__(self, executor: Executor, workspace: Workspace, folder: Path) -> None:
        self.executor = executor
        self.workspace = workspace
        self.folder = folder

    async def tool(self, name: str, input: Mapping[str, Any], **context: Any) -> ToolResult:
        """Call a tool; `context` is for its ToolContext."""
        call = ToolCall(id="call-1", name=name, input={"description": "a check", **input} if name != "view" else input)
        return await self.workspace.execute(call, ToolContext(**{"timeout_s": _CALL_S, **context}))

    async def bash(self, command: str, **context: Any) -> ToolResult:
        """Run a command."""
        return await self.tool("bash_tool", {"command": command}, **context)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to measure.

    Args:
        capability: what it measures, by its name in Capabilities, or "contract" for what every backend owes.
        title: in words.
        applies: whether something is claimed that can be measured by it.
        run: raises AssertionError, with what is wrong, where it does not hold.

    """

    capability: str
    title: str
    applies: Callable[[Capabilities], bool]
    run: Callable[[Trial], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What became of a check: "skipped" is what is not claimed, or cannot be measured."""

    capability: str
    title: str
    outcome: Literal["passed", "failed", "skipped"]
    detail: str = ""


async def measure(executor: Executor, folder: Path) -> Sequence[Finding]:
    """Try everything in an open executor, each check in a workspace of its own in `folder`, which is made."""
    findings: list[Finding] = []
    for number, check in enumerate(CHECKS):
        if not check.applies(executor.capabilities):
            findings.append(Finding(capability=check.capability, title=check.title, outcome="skipped"))
            continue
        place = folder / f"check-{number}"
        await trio.Path(place).mkdir(parents=True)
        detail = await _try(executor, check, place)
        outcome: Literal["passed", "failed"] = "passed" if detail is None else "failed"
        findings.append(Finding(capability=check.capability, title=check.title, outcome=outcome, detail=detail or ""))
    return findings


def verdicts(findings: Sequence[Finding]) -> Mapping[str, Literal["confirmed", "refuted", "unmeasured"]]:
    """By capability: refuted if one of its checks failed, confirmed if all that ran passed and at least one did."""
    found: dict[str, Literal["confirmed", "refuted", "unmeasured"]] = {}
    for capability in dict.fromkeys(finding.capability for finding in findings):
        outcomes = {finding.outcome for finding in findings if finding.capability == capability}
        found[capability] = "refuted" if "failed" in outcomes else "confirmed" if "passed" in outcomes else "unmeasured"
    return found


async def _try(executor: Executor, check: Check, folder: Path) -> str | None:
    """What is wrong; None if nothing is."""
    try:
        with trio.fail_after(_CHECK_S):
            workspace = await executor.open(WorkspaceSpec(session=folder.name, root=folder / "workspace"))
            try:
                await check.run(Trial(executor, workspace, folder))
            finally:
                await workspace.aclose()
    except trio.TooSlowError:
        return f"took more than {_CHECK_S:g} s"
    except Exception as error:  # whatever a backend raises is its failure, not ours
        return str(error) if isinstance(error, AssertionError) else repr(error)
    return None


def _expect(holds: bool, what: str, result: ToolResult | None = None) -> None:
    if not holds:
        seen = "" if result is None else f"; the result was {result.outcome}: {result.content[:300]!r}"
        raise AssertionError(what + seen)


# What every backend owes


async def _failing(trial: Trial) -> None:
    result = await trial.bash("echo out; echo err >&2; exit 3")
    _expect((result.outcome, result.exit_code) == ("error", 3), "a command's exit code is not told", result)
    _expect("out" in result.content and "err" in result.content, "output of a failing command is lost", result)


async def _bad_input(trial: Trial) -> None:
    for name, input in (("no_such_tool", {}), ("bash_tool", {"command": 3}), ("view", {"path": "a\0b"})):
        result = await trial.tool(name, input)
        _expect(result.is_error and bool(result.content), f"input that makes no sense for {name} is taken", result)


async def _deadline(trial: Trial) -> None:
    began = trio.current_time()
    result = await trial.bash("(setsid sleep 60 &); sleep 60", timeout_s=0.5)
    _expect(result.outcome == "timeout", "a call beyond its time is not ended as such", result)
    _expect(trio.current_time() - began < 15, "a call beyond its time is ended late")


async def _flood(trial: Trial) -> None:
    result = await trial.bash("head -c 3000000 /dev/urandom; echo; echo the end", max_output_chars=5_000)
    _expect(result.outcome == "ok" and len(result.content) <= 5_000, "output is not capped", result)
    _expect("the end" in result.content, "the end of long output is not shown", result)
    result.content.encode()


async def _environment(trial: Trial) -> None:
    result = await trial.bash('echo "[$GIVEN]"', environment={"GIVEN": "yes"})
    _expect("[yes]" in result.content, "a call does not get its environment", result)
    result = await trial.bash("echo a-secret-word", hidden=["secret"])
    _expect("secret" not in result.content, "hidden text is in the result", result)


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
                _expect(result.is_error, f"{name} of {path} is not refused", result)
    _expect((trial.folder / "outside").read_text() == "outside", "a file outside of the workspace was changed")


async def _closed(trial: Trial) -> None:
    await trial.workspace.aclose()
    await trial.workspace.aclose()
    result = await trial.bash("echo x")
    _expect(result.outcome == "cancelled", "a closed workspace runs commands", result)


# What is claimed


async def _stream(trial: Trial) -> None:
    seen: list[str] = []

    async def emit(chunk: OutputChunk) -> None:
        seen.append(chunk.text)
        if "one" in chunk.text:
            await trial.tool("create_file", {"path": "go", "file_text": ""})

    result = await trial.bash("echo one; until [ -e go ]; do sleep 0.02; done; echo two", emit=emit)
    _expect(result.outcome == "ok", "output did not come while the command ran", result)
    _expect("".join(seen) == "one\ntwo\n", f"output came as {seen!r:.200}")


async def _cancel(trial: Trial) -> None:
    async def emit(_: OutputChunk) -> None:
        scope.cancel()

    with trio.CancelScope() as scope:
        await trial.bash("(setsid bash -c 'sleep 2; touch survived' &); echo; sleep 60", emit=emit)
    _expect(scope.cancelled_caught, "a cancelled call came to an end by itself")
    await trio.sleep(3)
    result = await trial.tool("view", {"path": "survived"})
    _expect(result.is_error, "a process survived the cancel of its call", result)


async def _files(trial: Trial) -> None:
    text = "quote ' and \"\n$HOME \\n\nno newline at the end"
    made = await trial.tool("create_file", {"path": "a/ünï c.txt", "file_text": text})
    _expect(not made.is_error, "a file cannot be made", made)
    edited = await trial.tool("str_replace", {"path": "a/ünï c.txt", "old_str": "$HOME", "new_str": "home"})
    _expect(not edited.is_error, "a file cannot be edited", edited)
    result = await trial.bash("cat 'a/ünï c.txt'")
    _expect(result.content == text.replace("$HOME", "home"), "a command sees another file than was written", result)


async def _parallel(trial: Trial) -> None:
    results: list[ToolResult] = []

    async def one(mine: str, other: str) -> None:
        results.append(await trial.bash(f"touch {mine}; until [ -e {other} ]; do sleep 0.02; done", timeout_s=10))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, "a", "b")
        nursery.start_soon(one, "b", "a")
    _expect(all(result.outcome == "ok" for result in results), "two calls did not run at the same time", results[0])


async def _images(trial: Trial) -> None:
    made = await trial.bash(f"echo {b64encode(_picture()).decode()} | base64 -d > picture")
    _expect(not made.is_error, "a picture cannot be made", made)
    result = await trial.tool("view", {"path": "picture"})
    _expect([image.data for image in result.images] == [_picture()], "view does not show a picture", result)


def _picture() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    dot = zlib.compress(bytes(4))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", dot) + chunk(b"IEND", b"")


async def _resume(trial: Trial) -> None:
    await trial.bash("echo kept > file")
    root = trial.workspace.root
    await trial.workspace.aclose()
    again = await trial.executor.open(WorkspaceSpec(session=trial.folder.name, root=trial.folder / "workspace"))
    try:
        result = await Trial(trial.executor, again, trial.folder).bash("cat file")
        _expect(result.content == "kept", f"the file of the workspace {root} is gone after it was opened again", result)
    finally:
        await again.aclose()


async def _no_network(trial: Trial) -> None:
    result = await _connect(trial)
    _expect("connected" not in result.content, "a command reached this host's network", result)


async def _host_network(trial: Trial) -> None:
    result = await _connect(trial)
    _expect("connected" in result.content, "a command did not reach this host's network", result)


async def _connect(trial: Trial) -> ToolResult:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        return await trial.bash(f"exec 3<>/dev/tcp/127.0.0.1/{port} && echo connected")


async def _sandbox(trial: Trial) -> None:
    secret = trial.folder / "outside"
    secret.write_text("out of reach")
    for command in (f"cat '{secret}'", "cat ../outside", f"ln '{secret}' stolen; cat stolen"):
        result = await trial.bash(command)
        _expect("out of reach" not in result.content, f"{command!r} reads a file outside of the workspace", result)
    await trial.bash(f"echo x > '{secret}'; rm -f ../outside")
    with contextlib.suppress(FileNotFoundError):
        _expect(secret.read_text() == "out of reach", "a command changed a file outside of the workspace")
        return
    raise AssertionError("a command removed a file outside of the workspace")


def _always(_: Capabilities) -> bool:
    return True


CHECKS: Final[Sequence[Check]] = (
    Check("contract", "a failing command tells its output and its exit code", _always, _failing),
    Check("contract", "input that makes no sense is answered", _always, _bad_input),
    Check("contract", "a call that takes too long is ended", _always, _deadline),
    Check("contract", "output is capped, and valid text", _always, _flood),
    Check("contract", "a call gets its environment, and hides what is to be hidden", _always, _environment),
    Check("contract", "file tools stay in the workspace", _always, _paths),
    Check("contract", "a closed workspace stays closed", _always, _closed),
    Check("stream", "output arrives while the command runs", lambda claimed: claimed.stream, _stream),
    Check("cancel", "a cancelled call leaves no process", lambda claimed: claimed.cancel and claimed.stream, _cancel),
    Check("files", "tools and commands see the same files", lambda claimed: claimed.files, _files),
    Check("parallel", "two calls run at the same time", lambda claimed: claimed.parallel, _parallel),
    Check("images", "view shows a picture", lambda claimed: claimed.images, _images),
    Check("resume", "files are there when it is opened again", lambda claimed: claimed.resume, _resume),
    Check("network", "nothing of the host's is reached", lambda claimed: claimed.network == "none", _no_network),
    Check("network", "the host's is reached", lambda claimed: claimed.network == "host", _host_network),
    Check(
        "sandbox",
        "files outside of the workspace are out of reach",
        lambda claimed: claimed.sandbox not in ("none", "process"),
        _sandbox,
    ),
)
"""All of them, in the order in which they run."""
