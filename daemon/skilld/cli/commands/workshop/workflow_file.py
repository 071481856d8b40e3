"""A workflow as it is written: TOML or JSON, with files that its stages name put into their prompts.

Files are read here, by whoever calls the program and with their rights; the daemon only ever sees their text.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

__all__ = ["read_file"]

_MAX_BYTES: Final = 1 << 20


def read_file(path: Path) -> dict[str, Any]:
    """The definition in a file. Raises click.UsageError naming file and place."""
    text = _text(path, str(path))
    try:
        given = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise click.UsageError(f"{path} is no {kind}: {error}") from error
    if not isinstance(given, dict):
        raise click.UsageError(f"{path}: expected an object")
    stages = given.get("stage")
    if isinstance(stages, list):
        given["stage"] = [_with_files(stage, path.parent) if isinstance(stage, dict) else stage for stage in stages]
    _check_json(given, path)
    return given


def _check_json(given: Mapping[str, Any], path: Path) -> None:
    """TOML knows dates, times and numbers that JSON does not."""

    def refuse(value: Any) -> Any:
        raise TypeError(f"a {type(value).__name__}, {value}: write it as text, in quotes")

    try:
        json.dumps(given, default=refuse, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise click.UsageError(f"{path}: it holds what no workflow can: {error}") from error


def _with_files(stage: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The stage with the text of its `files` behind its prompt."""
    whole = dict(stage)
    names = whole.pop("files", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise click.UsageError(f"stage {stage.get('name')!r}: files has to be a list of paths")
    if names and not isinstance(whole.get("prompt"), str):
        raise click.UsageError(f"stage {stage.get('name')!r}: files follow its prompt, which has to be text")
    for name in names:
        text = _text(folder / name, f"stage {stage.get('name')!r}: files: {name}")
        braces = text.replace("{", "{{").replace("}", "}}")  # a file has no places
        whole["prompt"] = f"{whole['prompt']}\n\nThe file {Path(name).name}:\n\n{braces}"
    return whole


def _text(path: Path, shown: str) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{shown}: {getattr(error, 'strerror', None) or error}") from error
    if len(raw) > _MAX_BYTES:
        raise click.UsageError(f"{shown} is larger than {_MAX_BYTES} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{shown} is no text in UTF-8: {error}") from error
