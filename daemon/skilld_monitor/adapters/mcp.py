"""MCP's SDK, client side: each request of a session is one span, `tools/call NAME` for that of a tool.

All methods of a session end in one, `send_request`, and so do those of what is built upon it: whatever arguments they
take pass through untouched, and so do progress and notifications. A tool that a framework or the program has a span
for gets the facts of the request onto that span. Each session is a span too, from its start to its end.

A request says in its `_meta` which trace it is in, as MCP's own tracing does where the program switched that on.
"""

from __future__ import annotations

import functools

from skilld_monitor.adapters.answers import get
from skilld_monitor.adapters.content import content
from skilld_monitor.adapters.covering import covering
from skilld_monitor.adapters.outer import Joined, open_tool
from skilld_monitor.monitoring import active
from skilld_monitor.policy.guard import before_tool
from skilld_monitor.spans import Running
from skilld_monitor.values import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType
    from typing import Any

    from skilld_monitor.monitoring import Monitoring

__all__ = ["WATCHED"]

CHANNEL = "MCP"
_TOOL_CALL = "tools/call"
_ARGUMENTS = "gen_ai.tool.call.arguments"
_SESSION_SPAN = "_skilld_monitor_session"


class _Request:
    """One request under way.

    Args:
        request: as the session got it. What it sends is in `request` then: it may be a copy.

    """

    def __init__(self, session: Any, request: Any, capture: frozenset[str]) -> None:
        self.request = request
        self._capture = capture
        self._params: Any = None
        self.method = self._target = ""
        try:
            facts = self._facts(session)
        except Exception as error:  # of a shape that we do not know; the session may take it all the same
            self._params = None
            facts = {"skilld.unread": type(error).__name__}
        self.running = self._begin(facts)

    def _facts(self, session: Any) -> dict[str, object]:
        inner = get(self.request, "root") or self.request  # in versions 1 each is wrapped in a model of all of them
        method, params = get(inner, "method"), get(inner, "params")
        target = get(params, "name")
        self.method = method if type(method) is str else ""
        self._target = target if type(target) is str else ""
        self._params = params
        facts: dict[str, object] = {"mcp.method.name": self.method}
        version = getattr(session, "protocol_version", None)
        if type(version) is str:
            facts["mcp.protocol.version"] = version
        if self.method == _TOOL_CALL:
            facts["gen_ai.operation.name"] = "execute_tool"
            facts["gen_ai.tool.name"] = self._target
        elif self._target:
            facts["gen_ai.prompt.name"] = self._target
        uri = get(self._params, "uri")
        if uri is not None and "arguments" in self._capture:
            facts["mcp.resource.uri"] = str(uri)
        return facts

    def _begin(self, facts: dict[str, object]) -> Running:
        outer = open_tool() if self.method == _TOOL_CALL else None
        if outer is not None and "mcp.method.name" not in outer.data:
            named = {key: value for key, value in facts.items() if key not in outer.data}
            return Joined(outer, named)
        return Running(f"{self.method} {self._target}".strip() or "mcp.request", CHANNEL, facts)

    def allowed(self, on: Monitoring) -> None:
        """Let the policies look at a tool's arguments; what they redact is redacted in what is sent, and in what is
        noted of it.

        Raises BlockedError where one forbids the call.
        """
        arguments = shown = get(self._params, "arguments")
        if self.method == _TOOL_CALL:
            shown = before_tool(on, self._target, arguments)
            if shown is not arguments:
                self._change({"arguments": shown})
        is_known = shown is arguments and _ARGUMENTS in self.running.data  # by a tool around it
        if shown is not None and not is_known and "arguments" in self._capture:
            self.running.data[_ARGUMENTS] = plain(shown)

    def put_in_trace(self) -> None:
        """Say in the request where in the trace it is. One of a shape that we do not know is sent as it is."""
        params, place = self._params, self.running.place
        try:
            meta: Any = get(params, "meta")
            if params is None or get(meta, "traceparent") is not None:
                return
            added = {"traceparent": f"00-{place.trace}-{place.span}-{place.flags}"}
            if place.state:
                added["tracestate"] = place.state
            if meta is None or isinstance(meta, dict):
                made = _meta_class(params)
                meta = {**(meta or {}), **added} if made is None else made(**added)
            else:
                meta = meta.model_copy(update=added)
            self._change({"meta": meta})
        except Exception as error:
            self.running.data["skilld.unread"] = type(error).__name__

    def _change(self, values: dict[str, Any]) -> None:
        """Send a copy that differs in these parameters."""
        self._params = self._params.model_copy(update=values)
        inner: Any = get(self.request, "root")
        if inner is None:
            self.request = self.request.model_copy(update={"params": self._params})
        else:
            changed = inner.model_copy(update={"params": self._params})
            self.request = self.request.model_copy(update={"root": changed})

    def answered(self, result: Any) -> None:
        """The result has come: note what it says, whatever its shape."""
        self._note_time()
        data, failed = self.running.data, False
        try:
            failed = any(get(result, name) is True for name in ("is_error", "isError"))
            if failed:
                data["error.type"] = "tool_error"
            if "result" in self._capture and self.method == _TOOL_CALL:
                data["gen_ai.tool.call.result"] = content(get(result, "content"))
        except Exception as error:
            data["skilld.unread"] = type(error).__name__
        self.running.end(status="error" if failed else None)

    def failed(self, error: BaseException) -> None:
        self._note_time()
        if not isinstance(self.running, Joined):  # a tool may yet succeed, by another try
            _note_code(self.running, error)
        self.running.end(error)

    def _note_time(self) -> None:
        """A tool may do more than ask."""
        if isinstance(self.running, Joined):
            self.running.data["skilld.mcp_request_s"] = round(self.running.elapsed_ms / 1000, 6)


def _note_code(running: Running, error: BaseException) -> None:
    """The code of JSON-RPC: there are few of them, unlike what a message says."""
    code = get(get(error, "error"), "code")
    if type(code) is int:
        running.data["error.type"] = running.data["rpc.response.status_code"] = str(code)


def _meta_class(params: Any) -> Any:
    """In versions 1 `_meta` is an object of a class; None where it is a mapping."""
    return next((vars(kind)["Meta"] for kind in type(params).__mro__ if "Meta" in vars(kind)), None)


def _watched_request(original: Any) -> Any:
    @functools.wraps(original)
    async def send_request(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        on = active()
        if on is None:
            return await original(self, request, *args, **kwargs)
        call = _Request(self, request, on.settings.capture)
        try:
            call.allowed(on)
            with covering(call.running, "mcp"):
                call.put_in_trace()
                result = await original(self, call.request, *args, **kwargs)
        except BaseException as error:
            call.failed(error)
            raise
        call.answered(result)
        return result

    return send_request


def _watched_discover(original: Any) -> Any:
    """The question which versions there are, which goes another way."""

    @functools.wraps(original)
    async def send_discover(self: Any, *args: Any, **kwargs: Any) -> Any:
        if active() is None:
            return await original(self, *args, **kwargs)
        running = Running("server/discover", CHANNEL, {"mcp.method.name": "server/discover"})
        try:
            with covering(running, "mcp"):
                result = await original(self, *args, **kwargs)
        except BaseException as error:
            _note_code(running, error)
            running.end(error)
            raise
        running.end()
        return result

    return send_discover


def _watched_enter(original: Any) -> Any:
    @functools.wraps(original)
    async def __aenter__(self: Any) -> Any:
        entered = await original(self)
        if active() is not None:
            vars(self)[_SESSION_SPAN] = Running("mcp.session", CHANNEL)
        return entered

    return __aenter__


def _watched_exit(original: Any) -> Any:
    @functools.wraps(original)
    async def __aexit__(self: Any, kind: Any, error: Any, trace: Any) -> Any:
        running = vars(self).pop(_SESSION_SPAN, None)
        try:
            return await original(self, kind, error, trace)
        finally:
            if running is not None:
                try:
                    _note_session(self, running)
                except Exception as unread:  # of a class that does as it likes
                    running.data["skilld.unread"] = type(unread).__name__
                running.end(error)

    return __aexit__


def _note_session(session: Any, running: Running) -> None:
    version = getattr(session, "protocol_version", None)
    if type(version) is str:
        running.data["mcp.protocol.version"] = version
    server = getattr(session, "server_info", None)
    for attribute, value in (("mcp.server.name", get(server, "name")), ("mcp.server.version", get(server, "version"))):
        if type(value) is str:
            running.data[attribute] = value[:200]


def _watch(module: ModuleType, made: Monitoring) -> None:
    owner = module.ClientSession
    made.patches.replace(owner, "send_request", _watched_request)
    if hasattr(owner, "send_discover"):
        made.patches.replace(owner, "send_discover", _watched_discover)
    made.patches.replace(owner, "__aenter__", _watched_enter)
    made.patches.replace(owner, "__aexit__", _watched_exit)


WATCHED: Mapping[str, Callable[[ModuleType, Monitoring], None]] = {"mcp.client.session": _watch}
