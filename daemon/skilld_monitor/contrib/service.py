"""A base for services around a client: their methods are reported, and their errors without what they were asked.

class Orders(MonitoredService):
    def confirm(self, prompt: str) -> str:
        return self.client.messages.create(...).content[0].text

Orders("order-processing-service", Anthropic()).confirm("...")
"""

from __future__ import annotations

from skilld_monitor.contrib.work import Work, around, failure
from skilld_monitor.monitoring import Monitoring, active, enable_monitoring
from skilld_monitor.spans import Running, is_cancellation
from skilld_monitor.talking import log_event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["MonitoredService", "watch_as"]


class MonitoredService:
    """A service whose public methods are spans on its channel, and whose failures are an event of `error_event` each.

    Several services may live in one program: the first one switches monitoring on, and the events of each are those of
    its own agent.

    Args:
        agent_id: whose events these are.
        client: is watched, and kept as `client`.
        llm_method_path: the method of it to watch, if its SDK is not known.
        settings: of `enable_monitoring`, if it is off.

    """

    channel = "SERVICE"
    error_event = "llm_service_error"

    def __init__(
        self, agent_id: str, client: Any = None, llm_method_path: str = "messages.create", **settings: Any
    ) -> None:
        self.agent_id = agent_id
        self.client = client
        self.monitoring = watch_as(agent_id, client, llm_method_path, settings)

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        for name, found in list(vars(cls).items()):
            if type(found).__name__ == "function" and not name.startswith("_"):
                setattr(cls, name, _reported(found, name))


def watch_as(agent_id: str, client: object, path: str, settings: dict[str, Any]) -> Monitoring:
    """Switch monitoring on for this agent, or add its client to what is watched already for another."""
    on = active()
    return enable_monitoring(agent_id, client, path, **settings) if on is None else _added(on, client, path)


def _added(on: Monitoring, client: object, path: str) -> Monitoring:
    from skilld_monitor.adapters.generic import watch_client

    if client is not None:
        try:
            watch_client(on, client, path)
        except Exception as error:  # it may have no such method, or slots
            if on.settings.strict:
                raise
            on.problem = f"llm_method_path {path!r}: {error}"
    return on


class _Call(Work):
    def __init__(self, running: Running, service: MonitoredService, method: str) -> None:
        super().__init__(running, getattr(service, "agent_id", None))
        self._service = service
        self._method = method

    def at_end(self, error: BaseException | None) -> None:
        if error is None or is_cancellation(error):
            return
        service = self._service
        facts = {"service": type(service).__name__, "method": self._method, "error": failure(error)}
        log_event(service.error_event, facts, service.channel, "error")


def _reported(func: Any, name: str) -> Any:
    def begin(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Work | None:
        if active() is None or not args:
            return None
        service = args[0]
        data: dict[str, object] = {"service": type(service).__name__, "method": name}
        return _Call(Running(f"{type(service).__name__}.{name}", service.channel, data), service, name)

    return around(func, begin)
