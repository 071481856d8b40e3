"""The manual as a site: every page is in it, and no link of it leads nowhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "--builder", "html"]
    return subprocess.run([*command, str(source), str(target)], capture_output=True, text=True, timeout=1200)


def test_the_site_is_made_without_a_warning_and_holds_every_page(tmp_path: Path) -> None:
    built = build(ROOT / "docs", tmp_path / "site")
    assert built.returncode == 0, built.stderr
    pages = [page.relative_to(ROOT / "docs").with_suffix(".html") for page in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if not (tmp_path / "site" / page).is_file()] == []
    start = (tmp_path / "site" / "README.html").read_text()
    assert [page for page in pages if f'href="{page}"' not in start and page.name != "README.html"] == []
    assert "README.html" in (tmp_path / "site" / "index.html").read_text()


def test_a_link_to_a_page_that_is_not_there_is_noticed(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "conf.py").write_text((ROOT / "docs" / "conf.py").read_text())
    (docs / "README.md").write_text("# Manual\n\n[gone](gone.md) and [outside](../other/file.txt)\n")
    built = build(docs, tmp_path / "site")
    assert built.returncode != 0
    assert "gone.md" in built.stderr
    assert "other/file.txt" in (tmp_path / "site" / "README.html").read_text()
