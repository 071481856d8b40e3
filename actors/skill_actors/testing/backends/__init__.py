"""The conformance kit: what a backend claims, measured. For whoever writes one; ours pass it in tests/conformance.

    async with open_mine(options, Host()) as executor:
        findings = await measure(executor, folder)
    assert not [finding for finding in findings if finding.outcome == "failed"], findings

Every check works through the tools alone, as a model would, so it does not matter where they run; it needs bash there.
A backend whose tools have other names says which (`Names`); `Workbench` is a native skill that has all four of them.
The whole takes some twenty seconds. It says what holds here and now; it is no proof that nobody gets out.
"""

from .measuring import CHECKS, measure, verdicts
from .trial import STANDARD, Check, Finding, Names, Trial, Unmeasurable
from .workbench import AsyncWorkbench, Workbench

__all__ = [
    "CHECKS",
    "STANDARD",
    "AsyncWorkbench",
    "Check",
    "Finding",
    "Names",
    "Trial",
    "Unmeasurable",
    "Workbench",
    "measure",
    "verdicts",
]
