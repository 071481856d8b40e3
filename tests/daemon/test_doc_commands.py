"""The commands of the manual, typed as they stand: page by page, by a user who has a daemon, in a folder of his own.

Pages that need nothing but the daemon share one with the offline model, the others one with a fake of the API.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from doc_kit import ROOT, WITH_MODEL, WITHOUT_MODEL, blocks, page_names, runnable
from docker_kit import engine_with_slim_image
from e2e.harness import Daemon, clean_environment, program, running
from image_kit import png
from pdf_kit import pdf
from skill_actors.backends.docker_image import SLIM_IMAGE
from skill_actors.testing import Answer, FakeMessagesApi, Reply, ToolUse, default_reply, serve_in_thread

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not page_names(), reason="reads the manual, and this is a copy of the tests"),
]

WITH_CONTAINERS = ("docs/choose-a-backend.md", "docs/docker.md")  # their blocks that say "run by" this test
MODEL_CONFIG = """
[skills]
paths = ["skills"]
trusted = ["skills"]
approval = "version"
[backends]
offered = ["anthropic"]
"""
TIDES = "---\nname: tide-table\ndescription: Looks up tides.\nallowed-tools: Read\n---\n\nLook them up.\n"
TABLE = "mkdir -p out && awk '$4 >= 500 {print $1}' access.log | sort | uniq -c > out/top.csv"


def answer(body: Mapping[str, Any]) -> Answer:
    """What a model would do about the question of docs/files.md; else what the message directs."""
    last = body["messages"][-1]
    if "which addresses fail" in str(last) and body.get("tools"):
        return Reply([ToolUse("bash_tool", {"command": TABLE, "description": "Count failures"})])
    return default_reply(body)


@pytest.fixture(scope="module")
def without_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("plain")
    shutil.copytree(ROOT / "skills", folder / "skills")
    (budget, *_) = (block.text for block in blocks("docs/budgets.md") if block.kind == "toml")
    with running(folder, skills=[folder / "skills"], config=budget) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def with_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("model")
    (folder / "skills/tide-table").mkdir(parents=True)
    (folder / "skills/tide-table/SKILL.md").write_text(TIDES)
    with serve_in_thread(FakeMessagesApi(respond=answer)) as api:
        environment = {"ANTHROPIC_API_KEY": "no-key", "ANTHROPIC_BASE_URL": api.base_url}
        with running(folder, config=MODEL_CONFIG, env=environment) as daemon:
            yield daemon


def typed(daemon: Daemon, script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What becomes of it in a shell that ends at the first failure."""
    home = folder / "home"
    work = folder / "work"
    home.mkdir()
    work.mkdir()
    (work / "skills").symlink_to(daemon.folder / "skills")
    (work / "examples").symlink_to(ROOT / "examples")
    (work / "chart.png").write_bytes(png())
    (work / "report.pdf").write_bytes(pdf())
    environment = clean_environment(SKILLD_SOCKET=str(daemon.socket), HOME=str(home), TMPDIR=str(home))
    environment["PATH"] = f"{Path(program('skillctl')[0]).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        env=environment,
        cwd=work,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize("page", WITHOUT_MODEL)
def test_the_commands_of_a_page_work_without_a_model(page: str, without_model: Daemon, tmp_path: Path) -> None:
    typed(without_model, runnable(page), tmp_path)


@pytest.mark.parametrize("page", WITH_MODEL)
def test_the_commands_of_a_page_work_with_a_model(page: str, with_model: Daemon, tmp_path: Path) -> None:
    done = typed(with_model, runnable(page), tmp_path)
    if page == "docs/files.md":
        assert (tmp_path / "work/top.csv").read_text().split() == ["2", "10.0.0.7"]
    if page == "docs/long-conversations.md":
        assert "context: [" in done.stdout


@pytest.mark.parametrize("page", WITH_CONTAINERS)
def test_the_commands_that_need_containers_work_where_there_is_an_engine(page: str, tmp_path: Path) -> None:
    own = [block.text for block in blocks(page) if block.mark == "run by" and Path(__file__).name in block.why]
    assert own, page
    config = f'[backends]\noffered = ["docker"]\n[backends.docker]\nimage = "{SLIM_IMAGE}"\npool = 0\n'
    with engine_with_slim_image():
        shutil.copytree(ROOT / "skills", tmp_path / "skills")
        with running(tmp_path, skills=[tmp_path / "skills"], config=config) as daemon:
            typed(daemon, "".join(own), tmp_path)
