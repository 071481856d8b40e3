"""The published kit, on all of our backends, and on some that claim too much."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance.test_executors import NAMES, OPTIONS, backend_of, demand
from skill_actors.backends import Capabilities, Executor, Host, factory, open_local
from skill_actors.testing.backends import CHECKS, Finding, measure, verdicts
from support import run


@pytest.mark.parametrize("name", NAMES)
def test_what_a_backend_of_ours_claims_is_so(name: str, tmp_path: Path) -> None:
    demand(name)

    async def main() -> tuple[Capabilities, list[Finding]]:
        opened: Any = (await factory(backend_of(name)))(OPTIONS[name], Host())
        async with opened as executor:
            return executor.capabilities, list(await measure(executor, tmp_path))

    claimed, findings = run(main)
    assert [finding for finding in findings if finding.outcome == "failed"] == []
    assert len(findings) == len(CHECKS)
    found = verdicts(findings)
    for capability, claim in claimed.claims().items():
        if capability != "cost" and claim.fidelity != "none" and claim.value != "configurable":
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


@pytest.mark.parametrize(("claim", "value"), [("sandbox", "container"), ("network", "none")])
def test_a_claim_that_is_not_so_is_refuted(claim: str, value: str, tmp_path: Path) -> None:
    async def main() -> list[Finding]:
        async with liar(**{claim: value}) as executor:
            return list(await measure(executor, tmp_path))

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
