"""What a model can take and what the API offers for it. The numbers live in a dated data file, as prices do."""

from __future__ import annotations

import functools
import importlib.resources
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

__all__ = ["ModelFacts", "facts_of", "parse_facts"]

_DATED_ID: Final = re.compile(r"(.+)-20\d{6}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Facts of one model. As they are by default, they hold for a model that is not known.

    Args:
        context_tokens: the whole window, input and output together.
        max_output_tokens: the most that one answer may have.
        min_cache_tokens: a shorter prefix of a prompt is not cached.
        context_editing: the API clears old tool uses and thinking when asked.
        compaction: the API replaces the beginning of a conversation by a summary when asked.
        known: whether the model is listed. The window of one that is not may be larger than this: to be cautious when
            filling it, and no bound of what a call may cost.

    """

    context_tokens: int = 200_000
    max_output_tokens: int = 32_000
    min_cache_tokens: int = 1024
    context_editing: bool = False
    compaction: bool = False
    known: bool = False


def facts_of(model: str) -> ModelFacts:
    """The facts of a model by its id; cautious ones for a model that is not listed."""
    listed = _built_in()
    if (found := listed.get(model)) is not None:
        return found
    undated = _DATED_ID.fullmatch(model)
    return listed.get(undated[1], _UNKNOWN) if undated else _UNKNOWN


def parse_facts(text: str, name: str) -> Mapping[str, ModelFacts]:
    """Read the text of a file of facts; `name` is for messages.

    Raises:
        ValueError: on TOML that does not parse, an unknown or missing key, a wrong type, or a model listed twice.

    """
    found: dict[str, ModelFacts] = {}
    for number, entry in enumerate(tomllib.loads(text).get("model", ()), start=1):
        where = f"{name}, model {number}"
        facts = _facts(entry, where)
        for model in entry["models"]:
            if model in found:
                raise ValueError(f"{where}: {model} is listed twice")
            found[model] = facts
    return found


_UNKNOWN: Final = ModelFacts()
_TYPES: Final[Mapping[str, type]] = {
    field.name: bool if field.type == "bool" else int for field in fields(ModelFacts) if field.name != "known"
}


def _facts(entry: Mapping[str, Any], where: str) -> ModelFacts:
    if entry.keys() != {"models", *_TYPES}:
        odd = sorted(entry.keys() ^ {"models", *_TYPES})
        raise ValueError(f"{where}: unknown or missing key {odd[0]!r}")
    for key, kind in _TYPES.items():
        if type(entry[key]) is not kind or entry[key] < 0:
            raise ValueError(f"{where}: {key} must be a {kind.__name__}, not {entry[key]!r}")
    return ModelFacts(**{key: entry[key] for key in _TYPES}, known=True)


@functools.cache
def _built_in() -> Mapping[str, ModelFacts]:
    resource = importlib.resources.files("skill_actors.models").joinpath("models.toml")
    return parse_facts(resource.read_text(encoding="utf-8"), "models.toml")
