"""The manual as a whole: its links lead somewhere, its reference is that of the program.

What is in its blocks: `test_doc_blocks`; its commands are typed by `test_doc_commands`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.harness import clean_environment, processes_with, program

ROOT = Path(__file__).parents[2]
LEFT_OUT = {".venv", ".venv-wheel", "build", "dist", ".git", "node_modules"}
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")


def pages() -> list[Path]:
    found = [path for path in ROOT.rglob("*.md") if not LEFT_OUT & set(path.relative_to(ROOT).parts)]
    return sorted(path for path in found if not any(part.startswith(".venv") for part in path.parts))


def anchors(page: Path) -> set[str]:
    """The names that its headings can be linked by, as GitHub makes them."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", FENCE.sub("", page.read_text()), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found


def links(page: Path) -> Iterator[str]:
    text = CODE.sub("", FENCE.sub("", page.read_text()))
    yield from LINK.findall(text)


def broken(page: Path) -> Iterator[str]:
    for link in links(page):
        if re.match(r"[a-z]+:", link):  # http, mailto: not looked at here
            continue
        name, _, anchor = link.partition("#")
        target = page if not name else (page.parent / name).resolve()
        if not target.exists():
            yield f"{page.relative_to(ROOT)}: {link} leads nowhere"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            yield f"{page.relative_to(ROOT)}: {link} has no such heading"


def test_every_link_leads_to_a_file_or_a_heading_that_is_there() -> None:
    assert sum(len(list(links(page))) for page in pages()) > 200
    assert [fault for page in pages() for fault in broken(page)] == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two` (three)\n## One\n## One\n[a](no.md) [b](#one) [c](#one-1) [d](#one-two-three) [e](#x)\n"
    )
    assert list(broken(page)) == ["page.md: no.md leads nowhere", "page.md: #x has no such heading"]


def test_the_reference_is_that_of_the_program() -> None:
    script = ROOT / "scripts/reference"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), f"run make reference: {done.stdout}{done.stderr}"


@pytest.mark.e2e
def test_the_tour_of_the_readme_works(tmp_path: Path) -> None:
    """As it stands, but in a copy of the skills, and with a socket and a state of its own."""
    (tour,) = re.findall(r"^```console\n(\$ make setup.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    lines = [line.removeprefix("$ ") for line in tour.splitlines()]
    assert lines[0] == "make setup && . .venv/bin/activate"
    shutil.copytree(ROOT / "skills", tmp_path / "skills")
    socket = tmp_path / "s.sock"
    script = "\n".join(["set -m", *lines[1:], "kill %%; wait"]).replace("/run/skilld/skilld.sock", str(socket))
    environment = clean_environment(SKILLD_SOCKET=str(socket), SKILLD_STATE_DIR=str(tmp_path / "state"))
    environment["PATH"] = f"{Path(program('skillctl')[0]).parent}:{environment['PATH']}"
    try:
        done = subprocess.run(
            ["bash", "-u", "-c", script], capture_output=True, text=True, timeout=90, env=environment, cwd=tmp_path
        )
    finally:
        for left in processes_with(str(socket)):  # where it went wrong
            os.kill(left, signal.SIGKILL)
    for shown in ("this calls a skill by name", "edited: the edit is used", "edited: still the same conversation"):
        assert shown in done.stdout, done.stdout + done.stderr
    assert "skilld_turns" in done.stdout, "the metrics"
    assert '"state_dir"' in done.stdout, "the answer to curl"
    assert "skillctl: error" not in done.stderr
