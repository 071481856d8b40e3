"""How Sphinx makes a site of the manual: `make docs`. The pages are Markdown that reads well without it."""

import importlib.metadata
import re
from pathlib import Path
from typing import Any

project = "skilld"
version = release = importlib.metadata.version("skilld")
extensions = ["myst_parser"]
root_doc = "README"
exclude_patterns = ["build"]
html_theme = "furo"
html_title = f"skilld {release}"
html_show_sphinx = False
myst_heading_anchors = 4
# Wide tables of Markdown, and blocks of languages that the highlighter does not know, are no faults of a page.
suppress_warnings = ["misc.highlighting_failure"]

_HERE = Path(__file__).parent
_OUTSIDE = re.compile(r"\[([^\]\n]*)\]\((\.\./[^)\s]+)\)")


def _sections() -> str:
    """The tree of pages, which Sphinx wants and a reader of the plain files does not."""
    shown = {"": ["*"], "Reference": ["reference/*"], "Design": ["design/*"]}
    blocks = [
        "\n".join(["```{toctree}", ":hidden:", ":glob:", *([f":caption: {name}"] if name else []), "", *globs, "```"])
        for name, globs in shown.items()
    ]
    return "\n\n".join(blocks)


def _read(_app: Any, page: str, source: list[str]) -> None:
    """Links to files beside the manual become their names: the site does not hold those files."""

    def named(link: re.Match[str]) -> str:
        target = (_HERE / page).parent / link[2].partition("#")[0]
        inside = target.resolve().is_relative_to(_HERE)
        return link[0] if inside else f"{link[1]} (`{target.resolve().relative_to(_HERE.parent)}`)"

    source[0] = _OUTSIDE.sub(named, source[0])
    if page == root_doc:
        source[0] += "\n\n" + _sections() + "\n"


def _enter(app: Any, error: Exception | None) -> None:
    """A site is entered at index.html."""
    if error is None:
        start = f"{root_doc}.html"
        page = f'<!doctype html><meta http-equiv="refresh" content="0; url={start}"><a href="{start}">skilld</a>\n'
        Path(app.outdir, "index.html").write_text(page)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _read)
    app.connect("build-finished", _enter)
