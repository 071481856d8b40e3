"""Tells the events of a conversation to somebody who reads along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from skilld.cli.inert import inert
from skilld.cli.output import Console
from skilld.client import Event

__all__ = ["Narrator", "cost_text", "summary"]

_QUIET_REASONS: Final = frozenset({"", "end_turn", "stop_sequence"})
_ENTRY_COMMAND: Final = "skill"  # stands for the model where /skill-name ran a command
_INPUTS: Final = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")


class Narrator:
    """Writes answers as they arrive, and one line for each tool that starts or ends.

    Args:
        with_messages: also tell what the user said and how each turn ended, as a transcript does, with the
            numbers of endings.

    """

    def __init__(self, console: Console, *, with_messages: bool = False) -> None:
        self._console = console
        self._with_messages = with_messages
        self._messages: dict[str, str] = {}  # text of queued messages by turn
        self._tools: dict[str, str] = {}  # names of running tools by call id
        self._message = ""  # written of the message that is arriving
        self._answer = ""  # written since the last tool: what the turn's ending repeats
        self._model: str | None = None

    def tell(self, event: Event) -> None:
        """Write what this event adds."""
        data = event.data
        match event.type:
            case "turn.queued":
                self._messages[event.turn or ""] = _message(data)
            case "turn.started":
                self._begin(event)
            case "turn.steered":
                self._steered(data)
            case "model.delta" if data.get("kind", "text") == "text":
                self._write(str(data.get("text", "")))
            case "model.message":
                self._model = str(data["model"]) if data.get("model") else self._model
                self._write_rest(_text_of(data.get("content", ())), self._message)
                self._message = ""
                self._tell_hosted(data.get("content", ()))
            case "tool.started":
                self._tool_started(data)
            case "tool.finished":
                self._tool_finished(data)
            case "agent.notice":
                self._console.note(inert(f"[the agent: {data.get('text', '')}]"))
            case "agent.chosen" if data.get("passed"):
                self._console.note(inert(_passed_on(data)))
            case "tools.changed":
                self._console.note(inert(_tools_changed(data)))
            case "skill.changed":
                self._console.note(f"[the skill {data.get('name')} was changed since it was loaded here]")
            case "session.paused":
                self._console.note("[paused, until 'skillctl resume']")
            case "session.resumed":
                self._console.note("[resumed]")
            case "session.restarted":
                self._console.note("[the daemon was restarted]")
            case "session.container_lost":
                self._console.note("[the container of hosted execution is gone; a new one is used]")
            case "session.compacted":
                self._console.note(_compacted(data))
            case "session.forked":
                self._console.note(f"[forked from {data.get('session')} at {data.get('seq')}]")
            case "session.imported":
                self._console.note("[imported]")
            case "session.reset":
                self._console.note("[begun anew: the model sees nothing of what is above]")
            case "approval.requested":
                self._console.warn(inert(f"[needs an approval] {data.get('shown', '')}"))
            case "approval.resolved":
                self._console.note(_resolved(data))
            case _ if event.is_ending:
                self._end(event)

    def _begin(self, event: Event) -> None:
        self._message = self._answer = ""
        text = self._messages.pop(event.turn or "", "")
        if self._with_messages:
            self._console.end_line()
            self._console.answer(f"> {text}".replace("\n", "\n> ") + "\n")

    def _steered(self, data: Mapping[str, Any]) -> None:
        """What else the user has said to the turn: a transcript has it in full."""
        text = _message(data)
        if self._with_messages:
            self._console.end_line()
            self._console.answer(f"> {text}".replace("\n", "\n> ") + "\n")
        else:
            self._console.note(f"[the turn was told: {text}]")

    def _write(self, text: str) -> None:
        self._message += text
        self._answer += text
        self._console.answer(text)

    def _write_rest(self, whole: str, written: str) -> None:
        """Write what of `whole` has not arrived piece by piece: all of it where the model does not stream."""
        if whole.startswith(written):
            self._write(whole[len(written) :])

    def _tool_started(self, data: Mapping[str, Any]) -> None:
        name = str(data.get("name", "tool"))
        self._tools[str(data.get("id"))] = name
        self._message = self._answer = ""
        self._console.note(f"[{name}] {_what(data)}")

    def _tell_hosted(self, content: Any) -> None:
        """Code that the API has run within the answer."""
        for block in content:
            if block.get("type") == "server_tool_use":
                self._console.note(f"[{block.get('name', 'tool')}, hosted] {_what(block)}")

    def _tool_finished(self, data: Mapping[str, Any]) -> None:
        name = self._tools.pop(str(data.get("id")), None) or str(data.get("name", "tool"))
        parts = [str(data.get("outcome", "error" if data.get("is_error") else "ok"))]
        if data.get("exit_code") is not None:
            parts.append(f"exit {data['exit_code']}")
        if data.get("duration_ms") is not None:
            parts.append(f"{data['duration_ms'] / 1000:.2f} s")
        line = f"[{name}] {' · '.join(parts)}"
        if parts[0] != "ok" and data.get("content"):
            line += f": {str(data['content'])[:200]}"
        self._console.note(line)
        self._message = self._answer = ""

    def _end(self, event: Event) -> None:
        if event.turn in self._messages:  # it ended before it began
            self._begin(event)
        self._write_rest(str(event.data.get("text") or ""), self._answer)
        self._console.end_line()
        self._message = self._answer = ""
        reason = str(event.data.get("stop_reason") or "")
        if event.type == "turn.finished" and reason not in _QUIET_REASONS:
            self._console.warn(f"the answer ended early: {reason}")
        for call in event.data.get("ambiguous", ()):
            name = self._tools.pop(str(call), "tool")
            self._console.warn(f"[{name}] was interrupted; it may have taken effect, and was not run again")
        if self._with_messages:
            self._tell_ending(event)
        place = f" · event {event.seq}" if self._with_messages else ""  # for fork --at, and attach --from
        self._console.note(summary(event.data, self._model) + place)

    def _tell_ending(self, event: Event) -> None:
        if event.type != "turn.finished":
            error = event.data.get("error") or {}
            self._console.warn(f"[turn {event.type.removeprefix('turn.')}] {error.get('message', '')}")


def summary(data: Mapping[str, Any], model: str | None) -> str:
    """Which model answered, and what it took: "offline · 12 in / 40 out tokens · $0.00"."""
    usage = data.get("usage") or {}
    read = sum(int(usage.get(name) or 0) for name in _INPUTS)
    written = int(usage.get("output_tokens") or 0)
    name = str(data.get("model") or model or "no model")
    if name == _ENTRY_COMMAND:
        name = "no model (the skill's command)"
    return f"{name} · {read} in / {written} out tokens · {cost_text(data.get('cost_usd'))}"


def cost_text(cost_usd: float | None) -> str:
    """US dollars, to the cent or, for less than a cent, to a hundredth of it."""
    if cost_usd is None:
        return "price unknown"
    return f"${cost_usd:.2f}" if cost_usd == 0 or cost_usd >= 0.01 else f"${cost_usd:.4f}"


def _resolved(data: Mapping[str, Any]) -> str:
    """What became of an approval, and by whom."""
    told = str(data.get("status", "resolved")) + (", edited," if data.get("edited") else "")
    if data.get("scope") == "session":
        told += " for the session"
    if data.get("by_uid") is not None:
        told += f" by uid {data['by_uid']}"
    reason = f": {inert(str(data['reason']))}" if data.get("reason") else ""
    return f"[{told}{reason}]"


def _compacted(data: Mapping[str, Any]) -> str:
    """What became of making the conversation shorter."""
    if not data.get("summary"):
        return inert(f"[not compacted: {data.get('why_not') or 'no reason given'}]")
    before, after = data.get("tokens_before"), data.get("tokens_after")
    sizes = f": about {before:,} tokens are {after:,} now" if isinstance(before, int) and isinstance(after, int) else ""
    return f"[compacted: the model reads a summary of what is above{sizes}]"


def _tools_changed(data: Mapping[str, Any]) -> str:
    """What became of the tools of a source."""
    missing = data.get("missing")
    source = data.get("source")
    return f"[the tools of {source} are missing: {missing}]" if missing else f"[the tools of {source} are there again]"


def _passed_on(data: Mapping[str, Any]) -> str:
    """Who performs a turn in whose place."""
    reasons = "; ".join(f"{each.get('backend')}: {each.get('why')}" for each in data.get("passed", ()))
    return f"[{data.get('backend')} takes the turn, since it could not be begun by {reasons}]"


def _message(data: Mapping[str, Any]) -> str:
    names = [str(file.get("name")) for file in data.get("files", ()) if isinstance(file, dict)]
    text = "[compact]" if data.get("compact") else str(data.get("text", ""))
    return f"{text} [files: {', '.join(names)}]" if names else text


def _text_of(content: Any) -> str:
    return "".join(str(block.get("text", "")) for block in content if block.get("type") == "text")


def _what(data: Mapping[str, Any]) -> str:
    """What a tool call is about: its description, else the first line of what it runs, else its path or its name."""
    given = data.get("input")
    given = given if isinstance(given, dict) else {}
    argv = data.get("argv")
    for value in map(given.get, ("description", "command", "path", "name")):
        if isinstance(value, str) and value.strip():
            return value.strip().splitlines()[0]
    return " ".join(map(str, argv)) if isinstance(argv, list) else ""
