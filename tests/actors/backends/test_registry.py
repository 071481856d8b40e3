"""Backends by name, from skilld and from installed packages."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from skill_actors.backends import (
    BackendUnavailable,
    Host,
    ToolCall,
    ToolContext,
    WorkspaceSpec,
    factory,
    known,
    open_local,
)
from skill_actors.backends.local import LocalExecutor
from support import run


@contextlib.asynccontextmanager
async def open_other(options: Mapping[str, Any], host: Host) -> AsyncIterator[LocalExecutor]:
    """A factory as another package would offer it."""
    async with open_local() as executor:
        yield executor


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[skilld.backends]\nother = other_backend:open_other\nbroken = no_such_module:x\nvalue = other_backend:VALUE\n"
        "local = other_backend:open_other\n"
    )
    (tmp_path / "other_backend.py").write_text("VALUE = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import other_backend  # type: ignore[import-not-found]

    other_backend.open_other = open_other
    monkeypatch.setitem(sys.modules, "other_backend", other_backend)


def test_an_unknown_name_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(BackendUnavailable, match=r"there is no backend 'locale'; there are .*local"):
        run(factory, "locale")


def test_an_unknown_option_is_an_error_that_names_the_known_ones() -> None:
    async def main() -> None:
        with pytest.raises(
            BackendUnavailable, match="no option 'idle'; it has environment, idle_s, inherit, limits, network, path"
        ):
            (await factory("local"))({"idle": 3}, Host())

    run(main)


@pytest.mark.usefixtures("installed")
def test_a_package_can_offer_a_backend(tmp_path: Path) -> None:
    async def main() -> None:
        async with (await factory("other"))({}, Host()) as executor:
            workspace = await executor.open(WorkspaceSpec(session="s", root=tmp_path / "w"))
            call = ToolCall(id="c", name="bash_tool", input={"command": "echo theirs"})
            assert (await workspace.execute(call, ToolContext())).content == "theirs"
        assert await known() == ("broken", "docker", "local", "other", "value")

    run(main)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("name", "words"), [("broken", "cannot be loaded"), ("value", "is not a factory")])
def test_a_package_that_does_not_load_is_an_error(name: str, words: str) -> None:
    with pytest.raises(BackendUnavailable, match=words):
        run(factory, name)


@pytest.mark.usefixtures("installed")
def test_no_package_replaces_a_backend_of_skilld() -> None:
    async def main() -> None:
        async with (await factory("local"))({"idle_s": 1}, Host()) as executor:
            assert isinstance(executor, LocalExecutor)

    run(main)
