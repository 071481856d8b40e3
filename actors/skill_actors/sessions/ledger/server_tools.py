"""What the API's own tools can add to one call: it samples again after each of their results. Pure.

How much a result holds is documented for none of them, so the figures here are bounds of our own, generous beside what
they return; a call that passes them is recorded in full and reported (`ledger.bound_wrong`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from skill_actors.models.base import ModelRequest
from skill_actors.models.facts import ModelFacts

__all__ = ["ServerWork", "server_work"]

MAX_ROUNDS: Final = 10  # then the API pauses the turn
CONTAINER_S: Final = 3600.0  # of one call: ten rounds, cells of 90 s, and what is written in between
SEARCHES: Final = 30  # where the request has no max_uses
_RESULT_TOKENS: Final[Mapping[str, int]] = {
    "code_execution": 25_000,
    "web_search": 50_000,
    "tool_search_tool": 25_000,
}
# Tools that the API describes and the caller runs: each ends the sampling.
_RUN_BY_CALLER: Final = ("bash_", "text_editor_", "memory_", "computer_")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerWork:
    """How often one call may sample, and what comes between.

    Args:
        rounds: 1 where nothing is run by the API.
        result_tokens: of one round.
        searches: of all rounds.
        container_s: seconds of a container.
        preloaded: the container is billed even if nothing runs in it.

    """

    rounds: int = 1
    result_tokens: int = 0
    searches: int = 0
    container_s: float = 0.0
    preloaded: bool = False


def server_work(request: ModelRequest, facts: ModelFacts) -> ServerWork:
    """What the request lets the API do by itself."""
    tools = [tool for tool in request.tools if _is_run_there(tool)]
    result_tokens = sum(_result_tokens(tool, facts) for tool in tools)
    rounds = MAX_ROUNDS if tools else 1
    if request.extra.get("mcp_servers"):
        rounds, result_tokens = MAX_ROUNDS, result_tokens + facts.context_tokens
    if _compacts(request.extra.get("context_management")):
        rounds *= 2  # a summary is a sampling of its own
    executes = any(_kind(tool).startswith("code_execution") for tool in tools)
    return ServerWork(
        rounds=rounds,
        result_tokens=result_tokens,
        searches=sum(_uses(tool) for tool in tools if _kind(tool).startswith("web_search")),
        container_s=CONTAINER_S if executes else 0.0,
        preloaded=executes and _has_upload(request),
    )


def _kind(tool: Mapping[str, Any]) -> str:
    return str(tool.get("type") or "custom")


def _is_run_there(tool: Mapping[str, Any]) -> bool:
    kind = _kind(tool)
    return kind != "custom" and not kind.startswith(_RUN_BY_CALLER)


def _result_tokens(tool: Mapping[str, Any], facts: ModelFacts) -> int:
    for prefix, tokens in _RESULT_TOKENS.items():
        if _kind(tool).startswith(prefix):
            return tokens
    most = tool.get("max_content_tokens")
    return most if type(most) is int and most >= 0 else facts.context_tokens


def _uses(tool: Mapping[str, Any]) -> int:
    uses = tool.get("max_uses")
    return uses if type(uses) is int and uses >= 0 else SEARCHES


def _compacts(management: object) -> bool:
    edits = management.get("edits", ()) if isinstance(management, Mapping) else ()
    return any(str(edit.get("type", "")).startswith("compact") for edit in edits if isinstance(edit, Mapping))


def _has_upload(request: ModelRequest) -> bool:
    return any(
        isinstance(block, Mapping) and block.get("type") == "container_upload"
        for message in request.messages
        if isinstance(message.get("content"), list)
        for block in message["content"]
    )
