"""Help pages as manual pages, in the macros of man(7)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from skilld.cli.help_pages import HelpPage, Paragraph

__all__ = ["file_name", "man_page"]

_ESCAPES: Final = str.maketrans({"\\": "\\e", "-": "\\-", '"': "\\(dq", "`": "\\(ga", "~": "\\(ti", "^": "\\(ha"})


def file_name(page: HelpPage) -> str:
    """`skillctl-skills-list.1`, as man looks for it."""
    return f"{'-'.join(page.words)}.1"


def man_page(page: HelpPage, version: str, exit_codes: str) -> str:
    """The whole page.

    Args:
        version: of the program, shown at the foot.
        exit_codes: one paragraph that explains them.

    """
    return "\n".join(_lines(page, version, exit_codes)) + "\n"


def _lines(page: HelpPage, version: str, exit_codes: str) -> Iterator[str]:
    name = "-".join(page.words)
    yield f'.TH "{_escaped(name.upper())}" "1" "" "skilld {_escaped(version)}" "skilld"'
    yield ".SH NAME"
    yield f"{_escaped(name)} \\- {_escaped(page.summary)}"
    yield ".SH SYNOPSIS"
    yield f".B {_escaped(' '.join(page.words))}"
    yield _line(page.usage)
    yield ".SH DESCRIPTION"
    for paragraph in page.text:
        yield from _paragraph(paragraph)
    yield from _table("OPTIONS", page.options)
    yield from _table("COMMANDS", page.commands)
    yield ".SH EXIT STATUS"
    yield _line(exit_codes)
    others = [" ".join((*page.words, name)) for name, _ in page.commands] or [" ".join(page.words[:-1])]
    yield ".SH SEE ALSO"
    yield ", ".join(f"\\fB{_escaped(other.replace(' ', '-'))}\\fR(1)" for other in others if other)


def _paragraph(paragraph: Paragraph) -> Iterator[str]:
    yield ".PP"
    if not paragraph.verbatim:
        yield _line(paragraph.text)
        return
    yield ".nf"
    yield from (_line(line) for line in paragraph.text.splitlines())
    yield ".fi"


def _table(title: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    for number, (term, meaning) in enumerate(rows):
        if number == 0:
            yield f".SH {title}"
        yield ".TP"
        yield f"\\fB{_escaped(term)}\\fR"
        yield _line(meaning)


def _line(text: str) -> str:
    """A line of text, which never is a request, whatever it begins with."""
    escaped = _escaped(text)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _escaped(text: str) -> str:
    """A hyphen that is typed is a minus: else a copied option would not work."""
    return text.translate(_ESCAPES)
