"""One call of a tool, whoever it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skilld.client import SkilldError
from skilld.client.errors import NotAName
from skilld.mcp.desk import Desk
from skilld.mcp.scope import Scope
from skilld.mcp.tool import ToolFailure

__all__ = ["answer_of_call"]


async def answer_of_call(scope: Scope, desk: Desk, name: str, arguments: Mapping[str, Any]) -> tuple[str, bool]:
    """What the tool answers, and whether it has failed. That is told to the model, which can do something about it."""
    found = scope.find(name)
    if found is None:
        return scope.unknown(name), True
    try:
        return _sendable(await found.call(desk, arguments)), False
    except (ToolFailure, NotAName) as error:
        return _sendable(str(error)), True
    except SkilldError as error:
        return _sendable(_told(error)), True


def _told(error: SkilldError) -> str:
    again = "" if error.retry_after_s is None else f" (try again in {error.retry_after_s:g} s)"
    return f"{error.code}: {error.message}{again}"


def _sendable(text: str) -> str:
    """Without half surrogate pairs, which a caller's JSON can hold and UTF-8 cannot."""
    return text.encode("utf-8", errors="replace").decode()
