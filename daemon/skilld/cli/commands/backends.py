"""skillctl backends: what runs tools here, what each claims to do, and, measured, whether it does."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import clean, one_line, print_json, print_table

if TYPE_CHECKING:
    from skill_actors.backends import WorkersRef
    from skill_actors.backends.base import Executor
    from skill_actors.testing.backends import Names
    from skilld.config import BackendsConfig

__all__ = ["backends_command"]

_MARKS = {"confirmed": "measured", "refuted": "NOT SO", "unmeasured": ""}


@click.command("backends")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--measure", is_flag=True, help="Open the backends here, without the daemon, and try what they claim.")
@click.option("--config", "file", type=click.Path(path_type=Path), help="With --measure: where their options are.")
@json_option()
@pass_app
def backends_command(app: App, names: Sequence[str], measure: bool, file: Path | None, as_json: bool) -> int:
    """Show what each backend can do. Exits 1 if one of them cannot run, or does not do what it claims; that
    hosted execution has no key counts only where you name it.

    \b
    Examples:
      skillctl backends
      skillctl backends --measure local
    """
    if file is not None and not measure:
        raise click.UsageError("--config goes with --measure; the daemon has its own")
    if measure:
        found = _measured(names, file)
    else:
        with app.client() as client:
            found = client.backends()
        missing = set(names) - {item["name"] for item in found}
        if missing:
            raise Failure(f"this daemon has no backend {min(missing)!r}; see 'skillctl backends'")
        found = [item for item in found if not names or item["name"] in names]
    if as_json:
        print_json({"items": found})
    else:
        _show(found)
    asked_for = [item for item in found if item.get("configured", True) or item["name"] in names]
    sound = all(item["available"] and "refuted" not in item.get("measured", {}).values() for item in asked_for)
    return EXIT.DONE if sound else EXIT.FAILED


def _measured(names: Sequence[str], file: Path | None) -> list[dict[str, Any]]:
    import trio

    from skilld.cli.commands.config import load
    from skilld.config import ConfigError

    try:
        backends = load(file)[1].backends
    except ConfigError as error:
        raise Failure(str(error)) from error
    with tempfile.TemporaryDirectory(prefix="skillctl-") as folder:
        return [
            trio.run(_try, name, backends, Path(folder, str(number)))
            for number, name in enumerate(names or backends.names)
        ]


async def _try(name: str, backends: BackendsConfig, folder: Path) -> dict[str, Any]:
    """The same facts as the daemon's, and what was measured."""
    from skill_actors.backends.base import BackendUnavailable
    from skill_actors.testing.backends import measure, verdicts

    facts: dict[str, Any] = {
        "name": name,
        "available": False,
        "problem": None,
        "default": name in backends.default,
    }
    try:
        async with _opened(name, backends) as (executor, names):
            await executor.check()
            findings = await measure(executor, folder, names=names)
            claimed = executor.capabilities.facts()
    except BackendUnavailable as error:
        return {**facts, "problem": str(error), "capabilities": {}, "fidelity": {}, "notes": {}}
    return {
        **facts,
        "available": True,
        **claimed,
        "measured": verdicts(findings),
        "failed": [f"{finding.title}: {finding.detail}" for finding in findings if finding.outcome == "failed"],
    }


@asynccontextmanager
async def _opened(name: str, backends: BackendsConfig) -> AsyncIterator[tuple[Executor, Names]]:
    """A backend with its options, and how its tools are called. Native skills are measured by one of the kit's own."""
    from skill_actors.backends import BackendUnavailable, Host, Workers, factory, open_native
    from skill_actors.backends.native import NATIVE
    from skill_actors.runtime import ChildSpec, open_system
    from skill_actors.testing.backends import STANDARD, AsyncWorkbench, Names, Workbench
    from skilld.hosted import HOSTED

    if name == HOSTED:
        raise BackendUnavailable("what the API executes cannot be measured from here; see docs/hosted.md")
    if name != NATIVE:
        async with (await factory(name))(backends.options_of(name), Host()) as executor:
            yield executor, STANDARD
        return
    isolation = backends.native.isolation
    kind = Workbench if isolation == "process" else AsyncWorkbench
    async with open_system([ChildSpec(id="workers", name="workers", factory=Workers, isolated=True)]) as system:
        host = Host(find_workers=lambda: cast("WorkersRef", system.directory.ref("workers")))
        async with open_native([kind], host, isolation=isolation) as native:
            yield native, Names.of_skill("workbench")


def _show(found: Sequence[Mapping[str, Any]]) -> None:
    """A column for each backend, a row for each capability; then what there is to say about them."""
    rows = [["available", *("yes" if item["available"] else "no" for item in found)]]
    capabilities = dict.fromkeys(name for item in found for name in item["capabilities"])
    rows += [[name, *(_cell(item, name) for item in found)] for name in capabilities]
    if any("measured" in item for item in found):
        rows.append(["contract", *(_MARKS.get(item.get("measured", {}).get("contract", ""), "") for item in found)])
    print_table(["", *(item["name"] + (" (default)" if item["default"] else "") for item in found)], rows)
    for item in found:
        said = [item["problem"]] if item["problem"] else []
        said += _circuit(item.get("circuit"))
        said += [f"{name}, in part: {note}" for name, note in item["notes"].items()]
        said += [f"NOT SO: {failed}" for failed in item.get("failed", ())]
        for text in said:
            print(f"{item['name']}: {clean(one_line(text))}")


def _circuit(circuit: Mapping[str, Any] | None) -> list[str]:
    """What there is to say of a circuit that is not closed."""
    if circuit is None or circuit["state"] == "closed":
        return []
    if circuit["retry_in_s"]:
        return [f"its API is overloaded, and left alone for {circuit['retry_in_s']:g} s"]
    return ["its API was overloaded: the next turn tries whether it still is"]


def _cell(item: Mapping[str, Any], name: str) -> str:
    value = item["capabilities"].get(name)
    if value is None:
        return ""
    shown = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    parts = [shown, "in part" if item["fidelity"].get(name) == "partial" else ""]
    parts.append(_MARKS.get(item.get("measured", {}).get(name, ""), ""))
    return ", ".join(part for part in parts if part)
