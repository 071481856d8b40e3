"""skillctl skills test: runs what skills declare in their tests/."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skilld.cli.commands.options import json_option, skill_paths
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import clean, one_line, print_json

if TYPE_CHECKING:
    from skill_actors.authoring.trials import TrialResult

__all__ = ["test_skills"]


@click.command("test")
@skill_paths
@click.option("-k", "only", metavar="TEXT", help="Run only cases whose name holds this text.")
@click.option("--timeout", "timeout_s", metavar="S", type=click.FloatRange(0.1, 600), help="No case may take longer.")
@json_option()
def test_skills(paths: tuple[Path, ...], only: str | None, timeout_s: float | None, as_json: bool) -> int:
    """Run the tests that skills declare in tests/*.toml. Exits 1 if one fails, or a skill declares none.

    This runs the skills' code, here, as you. Needs no running daemon. docs/skills.md explains the format.

    \b
    Example:
      skillctl skills test skills/log-analyzer
    """
    reports = [_run(path, only, timeout_s, quiet=as_json) for path in paths]
    if as_json:
        print_json(reports)
    return EXIT.DONE if all(report["passed"] for report in reports) else EXIT.FAILED


def _run(path: Path, only: str | None, timeout_s: float | None, *, quiet: bool) -> dict[str, Any]:
    from skill_actors.authoring.folder import NoSkill, look_into
    from skill_actors.authoring.trials import run_trials
    from skill_actors.backends.base import BackendUnavailable

    results: list[TrialResult] = []
    error = ""
    if not quiet:
        print(one_line(f"{path}:"), flush=True)
    try:
        with look_into(path) as folder:
            results = run_trials(
                folder, only=only, timeout_s=timeout_s, on_result=(lambda result: None) if quiet else _print
            )
            if not results:
                error = "no case has such a name" if only else "declares no tests in tests/*.toml"
    except NoSkill as refusal:
        error = str(refusal)
    except BackendUnavailable as refusal:
        raise Failure(str(refusal)) from refusal
    failed = sum(not result.passed for result in results)
    if not quiet:
        print("  " + one_line(error or f"{len(results) - failed} passed, {failed} failed"))
    return {
        "path": str(path),
        "passed": not error and not failed,
        "error": error or None,
        "cases": [result.to_dict() for result in results],
    }


def _print(result: TrialResult) -> None:
    print(
        "  " + one_line(f"{'ok' if result.passed else 'FAILED'}: {result.name} ({result.duration_ms} ms)"), flush=True
    )
    for failure in result.failures:
        print("      " + one_line(failure), flush=True)
    if result.failures:
        for stream, text in (("stdout", result.stdout), ("stderr", result.stderr)):
            for line in clean(text).splitlines()[-10:]:
                print(f"      {stream}: {one_line(line, 200)}", flush=True)
