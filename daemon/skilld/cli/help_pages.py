"""The help of every command as data: manual pages and the reference are written from it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

__all__ = ["HelpPage", "Paragraph", "help_pages"]

_VERBATIM = "\b"  # click's mark of a paragraph that is not wrapped


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    """A part of a help text.

    Args:
        text: one line if it may be wrapped, else as it stands.
        verbatim: whether its lines stay as they are, such as examples.

    """

    text: str
    verbatim: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HelpPage:
    """One command.

    Args:
        words: the names that call it, from `skillctl`.
        usage: what follows them, such as `[OPTIONS] TEXT`.
        summary: its first sentence.
        options: how each is written, and what it does; arguments are in the usage alone.
        commands: of a group, the name of each and what it does.
        epilog: what the help ends with.

    """

    words: tuple[str, ...]
    usage: str
    summary: str
    text: tuple[Paragraph, ...]
    options: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, str], ...]
    epilog: str


def help_pages(root: click.Command, words: Sequence[str]) -> Iterator[HelpPage]:
    """The page of a command and those of all below it, in the order of their names."""
    yield from _walk(root, None, tuple(words))


def _walk(command: click.Command, above: click.Context | None, words: tuple[str, ...]) -> Iterator[HelpPage]:
    context = click.Context(command, parent=above, info_name=words[-1], **command.context_settings)
    below = _below(command, context)
    yield _page(command, context, words, below)
    for name, found in below:
        yield from _walk(found, context, (*words, name))


def _below(command: click.Command, context: click.Context) -> list[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        return []
    found = [(name, command.get_command(context, name)) for name in sorted(command.list_commands(context))]
    return [(name, one) for name, one in found if one is not None and not one.hidden]


def _page(
    command: click.Command, context: click.Context, words: tuple[str, ...], below: Sequence[tuple[str, click.Command]]
) -> HelpPage:
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    text = tuple(_paragraphs(inspect.cleandoc(command.help or "")))
    return HelpPage(
        words=words,
        usage=" ".join(command.collect_usage_pieces(context)),
        summary=text[0].text if text else "",
        text=text,
        options=tuple(record for record in records if record is not None and record[1]),
        commands=tuple((name, _first_sentence(found)) for name, found in below),
        epilog=command.epilog or "",
    )


def _first_sentence(command: click.Command) -> str:
    return next(_paragraphs(inspect.cleandoc(command.help or "")), Paragraph(text="", verbatim=False)).text


def _paragraphs(text: str) -> Iterator[Paragraph]:
    for part in text.split("\n\n"):
        if part.lstrip("\n").startswith(_VERBATIM):
            yield Paragraph(text=part.lstrip("\n").removeprefix(_VERBATIM).strip("\n"), verbatim=True)
        elif part.strip():
            yield Paragraph(text=" ".join(part.split()), verbatim=False)
