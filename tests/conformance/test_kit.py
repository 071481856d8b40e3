"""The published kit, on all of our backends, and on some that claim too much."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import unicodedata
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
import trio

from conformance.executor_kit import NAMES, OPTIONS, alive, backend_of, demand
from conformance.somebodys_backend import open_somebodys
from native_kit import open_host
from skill_actors.backends import (
    BackendUnavailable,
    Capabilities,
    Executor,
    Host,
    ToolCall,
    ToolContext,
    ToolResult,
    WorkspaceSpec,
    factory,
    open_local,
    open_native,
)
from skill_actors.testing.backends import (
    CHECKS,
    STANDARD,
    AsyncWorkbench,
    Finding,
    Names,
    Workbench,
    measure,
    verdicts,
)

T = TypeVar("T")

NATIVE = Names.of_skill("workbench")
TAKES_S = 120.0  # ten times what it takes


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run `main` under trio; all checks take some ten seconds."""

    async def bounded() -> T:
        with trio.fail_after(TAKES_S):
            return await main()

    return trio.run(bounded, strict_exception_groups=True)


@contextlib.asynccontextmanager
async def opened(name: str) -> AsyncIterator[Executor]:
    """The backend of this name."""
    async with contextlib.AsyncExitStack() as stack:
        match name:
            case "native+inline":
                yield await stack.enter_async_context(open_native([AsyncWorkbench]))
            case "native+process":
                host = await stack.enter_async_context(open_host())
                yield await stack.enter_async_context(open_native([Workbench], host, isolation="process"))
            case "somebody's":
                yield await stack.enter_async_context(open_somebodys({}, Host()))
            case _:
                open_it = await factory(backend_of(name))
                yield await stack.enter_async_context(open_it(OPTIONS[name], Host()))


@pytest.mark.parametrize("name", [*NAMES, "native+inline", "native+process", "somebody's"])
def test_what_a_backend_claims_is_so(name: str, tmp_path: Path) -> None:
    if name in NAMES:
        demand(name)

    async def main() -> tuple[Capabilities, list[Finding]]:
        async with opened(name) as executor:
            await executor.check()
            names = NATIVE if name.startswith("native") else STANDARD
            return executor.capabilities, list(await measure(executor, tmp_path, names=names))

    claimed, findings = run(main)
    assert [finding for finding in findings if finding.outcome == "failed"] == []
    assert len(findings) == len(CHECKS)
    found = verdicts(findings)
    assert found["contract"] == found["cost"] == "confirmed"
    for capability, claim in claimed.claims().items():
        is_measured = capability != "sandbox" or claim.value != "process"  # which is no bound for files
        if is_measured and claim.fidelity != "none" and claim.value != "configurable":
            assert found[capability] == "confirmed", capability


class Liar:
    """The local backend, saying more of itself than is so, or doing less than it says."""

    def __init__(self, executor: Executor, **claims: Any) -> None:
        self._executor = executor
        self._claims = claims

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)

    @property
    def capabilities(self) -> Capabilities:
        return replace(self._executor.capabilities, **self._claims)


@contextlib.asynccontextmanager
async def liar(**claims: Any) -> AsyncIterator[Any]:
    async with open_local() as executor:
        yield Liar(executor, **claims)


@pytest.mark.parametrize(("claim", "value"), [("sandbox", "container"), ("network", "none"), ("cost", True)])
def test_a_claim_that_is_not_so_is_refuted(claim: str, value: str, tmp_path: Path) -> None:
    async def main() -> list[Finding]:
        some = [check for check in CHECKS if check.capability == claim or "exit code" in check.title]
        async with liar(**{claim: value}) as executor:
            return list(await measure(executor, tmp_path, checks=some))

    findings = run(main)
    assert [finding.capability for finding in findings if finding.outcome == "failed"] == [claim]
    assert verdicts(findings)[claim] == "refuted"
    assert verdicts(findings)["contract"] == "confirmed"
    assert all(finding.detail for finding in findings if finding.outcome == "failed")


def test_what_is_not_claimed_is_not_measured(tmp_path: Path) -> None:
    quiet = dict.fromkeys(("stream", "cancel", "files", "parallel", "images", "resume"), False)

    async def main() -> list[Finding]:
        async with liar(**quiet, network="configurable") as executor:
            return list(await measure(executor, tmp_path))

    found = verdicts(run(main))
    assert {name for name, verdict in found.items() if verdict == "unmeasured"} == {*quiet, "network", "sandbox"}


class Unlucky:
    """The local backend's workspace, with something that goes wrong."""

    def __init__(self, workspace: Any, fault: str) -> None:
        self._workspace = workspace
        self._fault = fault
        self._calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._workspace, name)

    async def execute(self, call: ToolCall, context: ToolContext) -> ToolResult:
        result: ToolResult = await self._workspace.execute(call, context)
        command = str(call.input.get("command", ""))
        match self._fault:
            case "mixes" if command.startswith("for i in 1 2 3"):
                return replace(result, content=f"{result.content}\n7")
            case "renames" if call.name == "create_file":
                path = unicodedata.normalize("NFC", str(call.input["path"]))
                return await self._execute(replace(call, input={**call.input, "path": path}), context)
            case "dies" if "kill -9" in command:
                self._fault = "is dead"
            case "is dead":
                raise BackendUnavailable("it is not made again")
            case "loses" if "the end" in command:
                return replace(result, content=result.content.replace("the end", ""))
            case "raises" if "printf 'a" in command:
                raise UnicodeDecodeError("utf-8", b"x", 0, 1, "as others do")
        return result

    async def _execute(self, call: ToolCall, context: ToolContext) -> ToolResult:
        result: ToolResult = await self._workspace.execute(call, context)
        return result


@pytest.mark.parametrize(
    ("fault", "title"),
    [
        ("mixes", "calls at the same time do not mix"),
        ("renames", "files may have any name"),
        ("dies", "what executes commands is made again when it is killed"),
        ("loses", "files of 32 MiB go in and out"),
        ("raises", "output that is no text is made so"),
    ],
)
def test_what_goes_wrong_is_found(fault: str, title: str, tmp_path: Path) -> None:
    async def main() -> list[Finding]:
        async with open_local() as executor:

            class Faulty(Liar):
                async def open(self, spec: WorkspaceSpec) -> Any:
                    return Unlucky(await executor.open(spec), fault)

            some = [check for check in CHECKS if check.title in (title, "a closed workspace stays closed")]
            return list(await measure(cast("Executor", Faulty(executor)), tmp_path, checks=some))

    findings = {finding.title: finding.outcome for finding in run(main)}
    assert findings == {title: "failed", "a closed workspace stays closed": "passed"}


class Deceitful:
    """The local backend's workspace, and somebody before it who makes more of it than is so."""

    def __init__(self, workspace: Any, trick: str) -> None:
        self._workspace = workspace
        self._trick = trick
        self._left: list[trio.Process] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._workspace, name)

    async def execute(self, call: ToolCall, context: ToolContext) -> ToolResult:
        command = str(call.input.get("command", ""))
        match self._trick:
            case "reads commands" if re.search(r"outside|/dev/(tcp|udp)", command):
                return ToolResult(content="that is not permitted here", outcome="error")
            case "has a loopback of its own":
                call = replace(call, input={**call.input, "command": elsewhere(command)})
            case "has another shell":
                call = replace(call, input={**call.input, "command": f"exec sh -c {shlex.quote(command)}"})
            case "shows nothing" if call.name == "view":
                return ToolResult(content="it cannot be shown", outcome="error")
            case "lets go" if context.timeout_s < 1:
                start = partial(trio.lowlevel.open_process, cwd=self._workspace.root, start_new_session=True)
                self._left.append(await start(["bash", "-c", command]))
                while not alive("-c\x00sleep 2; touch survived"):  # noqa: ASYNC110  # it begins in another process
                    await trio.sleep(0.01)
                return ToolResult(content="timed out", outcome="timeout")
        result: ToolResult = await self._workspace.execute(call, context)
        return result

    async def aclose(self) -> None:
        for process in self._left:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        await self._workspace.aclose()


def elsewhere(command: str) -> str:
    """The same with another address than this host's, also where it is veiled."""

    def unveiled(found: re.Match[str]) -> str:
        return b64encode(b64decode(found[1]).replace(b"127.0.0.1", b"127.0.0.9")).decode()

    return re.sub(r"(?<=echo )(\S+)(?= \| base64)", unveiled, command)


@pytest.mark.parametrize(
    ("trick", "claims", "title", "verdict"),
    [
        ("reads commands", {"sandbox": "container"}, "files outside of the workspace are out of reach", "refuted"),
        ("reads commands", {"network": "none"}, "no host is reached", "refuted"),
        ("has a loopback of its own", {"network": "none"}, "no host is reached", "refuted"),
        ("has another shell", {"network": "none"}, "no host is reached", "unmeasured"),
        ("shows nothing", {}, "a cancelled call leaves no process", "refuted"),
        ("lets go", {}, "a call beyond its time leaves no process", "refuted"),
    ],
)
def test_what_only_looks_so_is_not_confirmed(
    trick: str, claims: dict[str, Any], title: str, verdict: str, tmp_path: Path
) -> None:
    (check,) = (check for check in CHECKS if check.title == title)

    async def main() -> list[Finding]:
        async with open_local() as executor:

            class Deceiver(Liar):
                async def open(self, spec: WorkspaceSpec) -> Any:
                    return Deceitful(await executor.open(spec), trick)

            return list(await measure(cast("Executor", Deceiver(executor, **claims)), tmp_path, checks=[check]))

    assert verdicts(run(main)) == {check.capability: verdict}
