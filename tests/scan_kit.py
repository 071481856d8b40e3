"""The labelled corpus: texts of our own, and what is to be found in each."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["CATEGORIES", "corpus", "held_out", "planted"]

CATEGORIES = ("sensitive_data", "dangerous_commands", "prompt_manipulation")
_FOLDER = Path(__file__).parent / "monitor" / "scanning" / "corpus"


@cache
def corpus() -> tuple[dict[str, Any], ...]:
    """All lines: `text`, `label` (a category or `benign`), and of secrets `rule` and `secrets`."""
    return tuple(
        json.loads(line)
        for path in sorted(_FOLDER.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    )


def planted() -> list[dict[str, Any]]:
    """Those with secrets in them."""
    return [line for line in corpus() if line["label"] == "sensitive_data"]


@cache
def held_out() -> tuple[dict[str, Any], ...]:
    """Lines, as those of `corpus`, that no rule was ever changed for: written before anybody looked at the rules."""
    text = (_FOLDER.parent / "held_out.jsonl").read_text(encoding="utf-8")
    return tuple(json.loads(line) for line in text.splitlines())
