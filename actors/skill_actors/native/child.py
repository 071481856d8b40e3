"""What a worker process of a native skill runs: says what its class offers, and answers calls with it.

Requests are {"op": "describe", "code": ...} and {"op": "call", "code": ..., "kind": ..., "input": ..., ...}. The code
is loaded with the first request: a process serves one version of one skill.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from .answers import answer_bytes
from .code import NativeCode, load_class
from .contract import Context
from .definitions import BadSkill, describe

__all__ = ["serve"]

Value = Any  # bytes, or what JSON can hold
_loaded: Final[dict[str, Any]] = {}  # "class", and "instance" once there was a call


class Line(Protocol):
    """To whoever sent the request."""

    def __call__(self, value: Value, /) -> None:
        """Emit output."""

    def ask(self, value: Value, /) -> Value:
        """Ask back."""


def serve(request: Mapping[str, Any], line: Line) -> Value:
    """Answer one request: a description as JSON, or what a callback returned as bytes of UTF-8.

    Raises: what the skill's code raises, and BadAnswer.
    """
    if "class" not in _loaded:
        _loaded["class"] = load_class(NativeCode.from_json(request["code"]))
    if request["op"] == "describe":
        return _describe(_loaded["class"], inline=request.get("inline", False))
    return _call(request, line)


def _describe(skill: type, *, inline: bool) -> dict[str, Any]:
    try:
        found = describe(skill, inline=inline)
    except BadSkill as bad:
        return {"refused": {"code": bad.code, "message": bad.message, "remedy": bad.remedy}}
    tools = {kind: dict(tool) for kind, tool in found.tools.items()}
    return {"name": found.name, "description": found.description, "tools": tools, "parallel": found.parallel}


def _call(request: Mapping[str, Any], line: Line) -> bytes:
    if "instance" not in _loaded:
        _loaded["instance"] = _loaded["class"]()
    workspace = Path(request["workspace"])
    context = Context(
        session=request["session"],
        workspace=workspace,
        skill_dir=Path(request["code"]["root"]),
        allowed_paths=(workspace, *map(Path, request["readable"])),
        deadline=request["deadline"],
        environment=request["environment"],
        emit=lambda text: line(str(text).encode(errors="replace")),
        asker=lambda question: json.loads(line.ask(json.dumps(question).encode())),
    )
    before = dict(os.environ)
    os.chdir(workspace)
    os.environ.update(request["environment"])
    try:
        return answer_bytes(getattr(_loaded["instance"], request["kind"])(**request["input"], context=context))
    finally:
        os.chdir("/")  # a workspace that is deleted must not be held
        os.environ.clear()
        os.environ.update(before)  # the next call may be another conversation's
