"""What the model is told of artifacts, and what becomes of references to them in the calls it makes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from skill_actors.files.artifacts.registry import Artifact
from skill_actors.files.artifacts.uris import REFERENCE
from skill_actors.files.names import content_type_of

__all__ = ["artifacts_prompt", "references_in", "with_paths"]

_HINT = (
    "These artifacts can be used in the inputs of tools: write file://NAME (or skill://SKILL/assets/PATH), and it is "
    "replaced by the path of a copy in the workspace."
)


def artifacts_prompt(artifacts: Iterable[Artifact]) -> str:
    """The section of the system prompt; empty if there are none. Names and URIs cannot end it, whatever they hold."""
    lines = [
        f"  <artifact name={quoteattr(artifact.name)} type={quoteattr(content_type_of(artifact.name))}>"
        f"{escape(artifact.shown.partition('?')[0])}</artifact>"
        for artifact in artifacts
    ]
    return "\n".join([_HINT, "<artifacts>", *lines, "</artifacts>"]) if lines else ""


def references_in(value: Any) -> list[str]:
    """The references in a tool's input, each once, in order."""
    found: dict[str, None] = {}
    stack = [value]
    while stack:
        item = stack.pop(0)
        if isinstance(item, str):
            found.update(dict.fromkeys(match.rstrip(".:") for match in REFERENCE.findall(item)))
        elif isinstance(item, Mapping):
            stack[:0] = item.values()
        elif isinstance(item, list):
            stack[:0] = item
    return list(found)


async def with_paths(value: Mapping[str, Any], place: Callable[[str], Awaitable[str]]) -> dict[str, Any]:
    """A tool's input with each reference replaced by what `place` gives for it. Raises what `place` raises."""
    paths = {reference: await place(reference) for reference in references_in(value)}
    return {name: _replaced(item, paths) for name, item in value.items()}


def _replaced(value: Any, paths: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return REFERENCE.sub(lambda match: _one(match[0], paths), value) if paths else value
    if isinstance(value, Mapping):
        return {name: _replaced(item, paths) for name, item in value.items()}
    return [_replaced(item, paths) for item in value] if isinstance(value, list) else value


def _one(text: str, paths: Mapping[str, str]) -> str:
    reference = text.rstrip(".:")
    return paths.get(reference, reference) + text[len(reference) :]
