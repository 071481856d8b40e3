"""How a turn of `claude` ended: from its result, or from how the process ended without one. The rows are data.

An exit code says little: 0 with nothing on stdout is what SIGINT leaves, and an API that fails is a result of subtype
"success". So the result is looked at, and where there is none, nothing is taken for success.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from skill_actors.backends.agents.base import AgentError, AgentErrorCode, AgentResult, Denial
from skill_actors.backends.agents.claude.metering import Turn, count, mapping
from skill_actors.backends.agents.claude.reading import TurnReader

__all__ = ["Ending", "error_of", "of_end", "of_result"]

_MAX_MESSAGE_CHARS: Final = 2000
_NOTHING: Final = "the agent ended without a result"

# (beginning of the subtype, part of its errors) -> code; the first that fits. "" fits all.
_SUBTYPES: Final[Sequence[tuple[str, str, AgentErrorCode]]] = (
    ("error_max_turns", "", "max_turns_exceeded"),
    ("error_max_budget", "", "max_budget_exceeded"),
    ("error_during_execution", "No conversation found", "session_lost"),
    ("error_", "", "command_failed"),
)
# Status of the API -> code. Others are "overloaded" from 500 on, else "refused".
_STATUSES: Final[Mapping[int, AgentErrorCode]] = {401: "auth", 402: "refused", 403: "auth", 408: "overloaded"}
_STATUSES_OF_LOAD: Final = frozenset({429, 529})
# Beginning of the text of a failure that has no status -> code.
_TEXTS: Final[Sequence[tuple[str, AgentErrorCode]]] = (
    ("Not logged in", "auth"),
    ("Invalid API key", "auth"),
    ("API Error: Unable to connect", "io"),
    ("API Error", "overloaded"),
)
# Part of stderr -> code, of a process that ended by itself; the first that fits.
_STDERR: Final[Sequence[tuple[str, AgentErrorCode]]] = (
    ("No conversation found", "session_lost"),
    ("is already in use", "session_lost"),
    ("cannot be used with root", "refused"),
    ("unknown option", "version_mismatch"),
    ("Invalid API key", "auth"),
    ("Not logged in", "auth"),
    ("/login", "auth"),
    ("Error parsing streaming input", "protocol"),
)
_REMEDIES: Final[Mapping[str, str]] = {
    "auth": "set backends.claude_cli.api_key_file to a file with a valid key",
    "version_mismatch": "install a version of the program that has this option",
    "session_lost": "begin a new session: what it knew of this conversation is gone",
}
_BY_SIGNAL: Final = frozenset({128 + signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGKILL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a process ended that gave no result.

    Args:
        code: its exit code, negative for a signal.
        stderr: the end of what it wrote there.
        limited: what it took too much of, where it was killed for that.
        interrupted: somebody wanted the turn to end.
        closed: somebody wanted the session to end.

    """

    code: int
    stderr: str = ""
    limited: str | None = None
    interrupted: bool = False
    closed: bool = False


def of_result(message: Mapping[str, Any], reader: TurnReader, turn: Turn, *, interrupted: bool) -> AgentResult:
    """The result that a message of type "result" stands for. Raises AgentError where there is none."""
    subtype, failed = str(message.get("subtype")), message.get("is_error") is True
    text = message.get("result")
    if subtype.startswith("error_"):
        if interrupted or str(message.get("terminal_reason")).startswith("aborted"):
            raise error_of("interrupted", "the turn was interrupted", reader, turn)
        errors = "; ".join(map(str, _list(message.get("errors")))) or str(text or subtype)
        code = next(code for start, part, code in _SUBTYPES if subtype.startswith(start) and part in errors)
        raise error_of(code, errors, reader, turn)
    of_api = _of_api(message.get("api_error_status"), str(text or "")) if failed else None
    if of_api is not None:
        raise error_of(of_api, str(text or _NOTHING), reader, turn)
    if not isinstance(text, str):
        raise error_of("protocol", f"the agent's result of subtype {subtype!r:.100} has no text", reader, turn)
    return AgentResult(
        result=text,
        session_id=reader.session_id,
        cost_usd=turn.cost_usd,
        is_error=failed,
        duration_ms=_whole(message.get("duration_ms")),
        num_turns=_whole(message.get("num_turns")),
        usage=turn.usage,
        by_model=turn.by_model,
        model=reader.model,
        stop_reason=message.get("stop_reason") if isinstance(message.get("stop_reason"), str) else None,
        denials=_denials(message),
        structured_output=message.get("structured_output"),
        error="command_failed" if failed else None,
    )


def of_end(ending: Ending, reader: TurnReader, turn: Turn) -> AgentError:
    """The error of a turn whose process ended before its result."""
    if ending.closed:
        return error_of("closed", "the session was stopped", reader, turn)
    if ending.interrupted:
        return error_of("interrupted", "the turn was interrupted; its process had to be ended", reader, turn)
    if ending.limited is not None:
        return error_of("terminated", f"the agent was ended: {ending.limited}", reader, turn)
    said = ending.stderr.strip()[-_MAX_MESSAGE_CHARS:]
    if ending.code < 0 or ending.code in _BY_SIGNAL:
        return error_of("terminated", f"the agent was killed (exit code {ending.code})", reader, turn)
    code: AgentErrorCode = next((code for part, code in _STDERR if part in said), "command_failed")
    return error_of(code, f"{_NOTHING}, with exit code {ending.code}: {said or 'it said nothing'}", reader, turn)


def _of_api(status: object, text: str) -> AgentErrorCode | None:
    """The code of a failure of the API; None if it was none."""
    if isinstance(status, int) and status >= 400:
        load = status >= 500 or status in _STATUSES_OF_LOAD
        return _STATUSES.get(status, "overloaded" if load else "refused")
    return next((code for start, code in _TEXTS if text.startswith(start)), None)


def error_of(code: AgentErrorCode, message: str, reader: TurnReader, turn: Turn) -> AgentError:
    """An error with what is known of the turn, and the remedy where there is one."""
    remedy = _REMEDIES.get(code)
    return AgentError(
        code,
        f"{message[:_MAX_MESSAGE_CHARS]}{f' ({remedy})' if remedy else ''}",
        partial=reader.partial,
        session_id=reader.session_id,
        usage=turn.usage,
        by_model=turn.by_model,
        cost_usd=turn.cost_usd,
        acted=reader.acted,
        retry_after_s=_retry_after_s(code, reader.limited_until_s),
    )


def _retry_after_s(code: AgentErrorCode, limited_until_s: float | None) -> float | None:
    """How long a limit holds that the API has told of; None where the error is none of it."""
    if code != "overloaded" or limited_until_s is None:
        return None
    return max(0.0, limited_until_s - time.time())


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _whole(value: object) -> int | None:
    return count(value) if isinstance(value, int | float) else None


def _denials(message: Mapping[str, Any]) -> Sequence[Denial]:
    return tuple(
        Denial(
            tool=str(entry.get("tool_name")), id=str(entry.get("tool_use_id")), input=mapping(entry.get("tool_input"))
        )
        for entry in map(mapping, _list(message.get("permission_denials")))
    )
