"""The files of the pages: what is in them, what is not, and whether they do what they are for."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from skilld.dashboard import assets
from skilld.dashboard.allowed import ALLOWED
from skilld.dashboard.assets import INDEX, load_assets

STATIC = Path(assets.__file__).with_name("static")
ASSETS = load_assets()
SCRIPTS = sorted(name for name in ASSETS if name.endswith(".js"))
CHECK = Path(__file__).with_name("pages_check.mjs")


class _Page(HTMLParser):
    """Notes what a page has."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("script", "style") and data.strip():
            self.inline.append(data)


def page() -> _Page:
    found = _Page()
    found.feed(ASSETS[INDEX].content.decode())
    return found


def text(name: str) -> str:
    return ASSETS[name].content.decode()


def test_all_files_of_the_pages_are_served() -> None:
    assert {path.name for path in STATIC.iterdir()} == set(ASSETS)
    assert {INDEX, "app.js", "style.css"} <= set(ASSETS)


def test_the_page_has_nothing_inline_and_names_each_thing_once() -> None:
    found = page()
    assert found.inline == []
    attributes = [(name, value) for _, attrs in found.tags for name, value in attrs.items()]
    assert [name for name, _ in attributes if name.startswith("on") or name == "style"] == []
    ids = Counter(value for name, value in attributes if name == "id")
    assert ids
    assert max(ids.values()) == 1
    assert ("lang", "en") in attributes


def test_the_page_asks_for_nothing_but_files_of_ours() -> None:
    named = [
        value for _, attrs in page().tags for name, value in attrs.items() if name in ("src", "href", "action", "data")
    ]
    assert named
    for value in named:
        assert value is not None
        assert value.startswith("#") or value.removeprefix("/static/") in ASSETS


@pytest.mark.parametrize("name", sorted(set(ASSETS) - {"icon.svg"}))
def test_no_file_names_another_host(name: str) -> None:
    assert re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]|url\(|@import|data:[a-z]+/", text(name)) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_markup_or_code_of_a_text(name: str) -> None:
    sinks = (
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|DOMParser|srcdoc|createContextual"
    )
    assert re.findall(rf"{sinks}|setTimeout\(\s*[\"'`]|\.style\b|importScripts", text(name)) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_import_only_files_of_ours(name: str) -> None:
    for imported in re.findall(r"\bfrom \"([^\"]+)\"|import\(", text(name)):
        assert imported.removeprefix("./") in ASSETS


def called() -> set[str]:
    """The paths of the calls that the scripts make, with `{}` for what is filled in."""
    found = set()
    for name in SCRIPTS:
        source = text(name).replace("${WORK}", "/v1/workshop")
        for written in re.findall(r"[\"`](/v1/(?:\$\{(?!position)[^}]*\}|[^\"`?$])*)", source):
            found.add(re.sub(r"\$\{[^}]*\}", "{}", written))
    return found - {"/v1/workshop"}


def test_scripts_make_the_calls_that_are_passed_on_and_no_others() -> None:
    listed = {allowed.path for allowed in ALLOWED}
    assert called() | {"/v1/workshop/agents/{}/git/diff"} == listed  # its path is made of the other's


@pytest.mark.skipif(shutil.which("node") is None, reason="node, which runs the scripts of the pages, is not installed")
def test_the_scripts_do_what_they_are_for(tmp_path: Path) -> None:
    """Formats, streams, transcripts; and each page drawn empty, full, and from texts made to break out of it."""
    for name, asset in ASSETS.items():
        (tmp_path / name).write_bytes(asset.content)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    done = subprocess.run(["node", str(CHECK), str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"[1-9]\d+ passed\n", done.stdout)
