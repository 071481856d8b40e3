"""Running the checks, and what they say of each capability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import trio

from skill_actors.backends.base import Executor, WorkspaceSpec

from .claimed import CLAIMED
from .owed import OWED
from .trial import STANDARD, Check, Finding, Names, Trial, Unmeasurable

__all__ = ["CHECKS", "measure", "verdicts"]

_CHECK_S: Final = 120.0

CHECKS: Final[Sequence[Check]] = (*OWED, *CLAIMED)
"""All of them, in the order in which they run."""


async def measure(
    executor: Executor, folder: Path, *, names: Names = STANDARD, checks: Sequence[Check] = CHECKS
) -> Sequence[Finding]:
    """Try everything in an open executor, each check in a workspace of its own in `folder`, which is made.

    Args:
        executor: under test.
        folder: for the workspaces.
        names: what it calls its tools and their inputs.
        checks: those to run.

    """
    findings: list[Finding] = []
    for number, check in enumerate(checks):
        outcome: Literal["passed", "failed", "skipped"] = "skipped"
        detail = ""
        if check.applies(executor.capabilities):
            place = folder / f"check-{number}"
            await trio.Path(place).mkdir(parents=True)
            outcome, detail = await _try(executor, check, place, names)
        findings.append(Finding(capability=check.capability, title=check.title, outcome=outcome, detail=detail))
    return findings


def verdicts(findings: Sequence[Finding]) -> Mapping[str, Literal["confirmed", "refuted", "unmeasured"]]:
    """By capability: refuted if one of its checks failed, confirmed if all that ran passed and at least one did."""
    found: dict[str, Literal["confirmed", "refuted", "unmeasured"]] = {}
    for capability in dict.fromkeys(finding.capability for finding in findings):
        outcomes = {finding.outcome for finding in findings if finding.capability == capability}
        found[capability] = "refuted" if "failed" in outcomes else "confirmed" if "passed" in outcomes else "unmeasured"
    return found


async def _try(
    executor: Executor, check: Check, folder: Path, names: Names
) -> tuple[Literal["passed", "failed", "skipped"], str]:
    """What became of it, and why."""
    try:
        with trio.fail_after(_CHECK_S):
            workspace = await executor.open(WorkspaceSpec(session=folder.name, root=folder / "workspace"))
            try:
                await check.run(Trial(executor, workspace, folder, names))
            finally:
                await workspace.aclose()
    except trio.TooSlowError:
        return "failed", f"took more than {_CHECK_S:g} s"
    except Unmeasurable as error:
        return "skipped", str(error)
    except Exception as error:  # whatever a backend raises is its failure, not ours
        return "failed", str(error) if isinstance(error, AssertionError) else repr(error)
    return "passed", ""
