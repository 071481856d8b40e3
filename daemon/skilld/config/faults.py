"""What is wrong with a configuration, in words that name the file, the key, the value and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from skilld.config.layers import Layer, written_keys
from skilld.config.origins import places
from skilld.config.section import ConfigError, mask
from skilld.config.whole import Config, config_keys

__all__ = ["refuse_unknown", "validate"]


def refuse_unknown(layer: Layer) -> None:
    """Raise ConfigError for a key that there is not, with the nearest one that there is."""
    known = config_keys()
    sections = {key.rpartition(".")[0] for key in known} | set(Config.model_fields)
    for key in written_keys(layer.tree):
        if key in known or key in sections:
            continue
        if key.endswith("api_key"):
            hint = "a credential is not written here; name a file that holds it in 'model.api_key_file'"
        else:
            hint = _nearest(key, [*known, *sections])
        raise ConfigError(f"{layer.place_of(key)}: unknown key {key!r}: {hint}")


def validate(tree: Mapping[str, Any], layers: Sequence[Layer], otherwise: str) -> Config:
    """The configuration that a tree is. Raises ConfigError with all that is wrong, each with the files that say it."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(item, layers, otherwise) for item in error.errors())) from None


def _nearest(key: str, known: Sequence[str]) -> str:
    last = {name.rpartition(".")[2]: name for name in known}
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    near = near or [last[name] for name in difflib.get_close_matches(key.rpartition(".")[2], last, n=1, cutoff=0.7)]
    return f"did you mean {near[0]!r}?" if near else f"the sections are {', '.join(Config.model_fields)}"


def _explain(item: ErrorDetails, layers: Sequence[Layer], otherwise: str) -> str:
    key = ".".join(str(part) for part in item["loc"])
    # Somebody may have written the secret itself where its file belongs.
    hidden = (("skills", "secrets"), ("hooks", "url"), ("mcp", "servers"))
    value = "(not shown)" if item["loc"][:2] in hidden else mask(repr(item["input"]))
    shown = value if len(value) <= 80 else f"{value[:77]}..."
    allowed = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if item["type"] == "tuple_type":
        allowed = "must be a list"
    elif item["type"] == "model_type":
        allowed = f"must be a section, written [{key}]"
    return f"{places(layers, key, otherwise)}: {key} = {shown}: {allowed}"
