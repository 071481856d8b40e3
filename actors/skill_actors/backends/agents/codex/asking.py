"""The server's questions: what is asked of whoever watches, and how the program is answered. Pure but for the asking.

A question that nobody here understands is refused: it is never taken for a permission.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from skill_actors.backends.agents.base import PermissionAnswer, PermissionQuestion, Permitted, Refusal, Watch
from skill_actors.backends.agents.codex.items import change_tool

__all__ = ["Asked", "ask", "asked_of", "refused"]

_WORDS: Final = ("accept", "decline", "cancel")
_OUTSIDE: Final = "codex may run it without the sandbox, also again where the sandbox has stopped it"
_UNKNOWN: Final = -32601  # of JSON-RPC: no such method


@dataclass(frozen=True, slots=True)
class Asked:
    """One question of the program: what it comes to, and its three answers, in the program's words."""

    questions: Sequence[PermissionQuestion]
    accept: Mapping[str, Any]
    decline: Mapping[str, Any]
    cancel: Mapping[str, Any]


def asked_of(
    method: str,
    params: Mapping[str, Any],
    changes: Sequence[Any] | None,
    *,
    leaves: bool = False,
    unasked: bool = False,
) -> Asked | None:
    """What a request of the server asks; None for one that nobody can permit.

    Args:
        changes: of files, as the item that is asked about has them; None if there is no such item.
        leaves: a command that is permitted may run without the sandbox, at once or after it was stopped there, and
            nobody is asked again: so whoever is asked now is told.
        unasked: the operator lets rules permit that, too; else only people do.

    """
    id_ = str(params.get("itemId") or "")
    match method:
        case "item/commandExecution/requestApproval":
            question = _command(params, id_)
            if leaves and question.tool == "Bash":
                told = {**question.input, "sandbox": _OUTSIDE}
                question = replace(question, input=told, beyond="" if unasked else _OUTSIDE)
            return Asked([question], *_decisions())
        case "item/fileChange/requestApproval" if changes:
            tools = [change_tool(change) for change in changes]
            if root := params.get("grantRoot"):
                tools.append(("Write", {"file_path": str(root), "change": "anything below it, from now on"}))
            return Asked([PermissionQuestion(tool=name, input=given, id=id_) for name, given in tools], *_decisions())
        case "mcpServer/elicitation/request":
            return _mcp(params)
        case _:
            return None


def refused(method: str) -> Mapping[str, Any]:
    """The answer to a request that is not understood."""
    return {"error": {"code": _UNKNOWN, "message": f"{method} is not answered here"}}


async def ask(asked: Asked, watch: Watch) -> tuple[Mapping[str, Any], str]:
    """Put all of it to the watch; the program's answer, and the reason where it was refused."""
    for question in asked.questions:
        answer: PermissionAnswer = await watch.permit(question)
        match answer:
            case Refusal(reason, stop):
                return {"result": asked.cancel if stop else asked.decline}, reason
            case Permitted(given) if dict(given) != dict(question.input):
                # What runs has to be exactly what was permitted, and the program cannot be given something else.
                reason = "it was permitted with other input only, which codex cannot take; ask for that instead"
                return {"result": asked.decline}, reason
    return {"result": asked.accept}, ""


def _command(params: Mapping[str, Any], id_: str) -> PermissionQuestion:
    network = params.get("networkApprovalContext")
    if isinstance(network, Mapping):
        return PermissionQuestion(tool="network", input=dict(network), id=id_)
    given = {name: params[name] for name in ("command", "cwd", "reason") if isinstance(params.get(name), str)}
    amendment = params.get("proposedExecpolicyAmendment")
    return PermissionQuestion(tool="Bash", input=given, id=id_, suggestions=[amendment] if amendment else [])


def _decisions() -> Sequence[Mapping[str, Any]]:
    return [{"decision": word} for word in _WORDS]


def _mcp(params: Mapping[str, Any]) -> Asked | None:
    """A tool's call is asked about in the form of a question by its server; questions of servers are not answered."""
    meta = params.get("_meta")
    if not isinstance(meta, Mapping) or meta.get("codex_approval_kind") != "mcp_tool_call":
        return None
    tool = str(meta.get("tool_name") or meta.get("tool_title") or "")
    given = meta.get("tool_params")
    name = f"mcp__{params.get('serverName')}__{tool}"
    question = PermissionQuestion(tool=name, input=dict(given) if isinstance(given, Mapping) else {}, id="")
    yes, *no = ({"action": word} for word in _WORDS)
    return Asked([question], {**yes, "content": {}}, *no)
