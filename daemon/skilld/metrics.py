"""Prometheus metrics, fed by the telemetry bus, by supervision reports, and by looking around at scrape time.

No label grows with use: models are those of the price table, tools and backends those that exist; all else is "other".
docs/telemetry.md lists every name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import trio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from skill_actors.runtime.report import Report
from skill_actors.telemetry import Bus, Handler, Measurements, Metadata
from skilld.gen_ai_metrics import GenAiMetrics
from skilld.late_metrics import LateMetrics
from skilld.ledger_metrics import LedgerMetrics
from skilld.monitor.alerts.counters import AlertMetrics
from skilld.monitor_metrics import MonitorMetrics
from skilld.monitor_sink_metrics import MonitorSinkMetrics
from skilld.supervision import ActorCollector, ActorSnapshot, SupervisionCounters
from skilld.workshop_metrics import WorkshopMetrics

__all__ = ["METRICS_TYPE", "Metrics", "Sources", "sample_loop_lag"]

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Content type of the page."""

_OTHER: Final = "other"
_APPROVALS: Final = frozenset({"pending", "allowed", "denied", "expired", "cancelled"})
_CIRCUITS: Final = frozenset({"closed", "open", "half_open"})
_HOOK_OUTCOMES: Final = frozenset({"ok", "failed", "dropped"})
_HOOK_TARGETS: Final = frozenset({"exec", "webhook"})
_OUTCOMES: Final = frozenset({"finished", "failed", "cancelled", "interrupted"})
_TOOL_OUTCOMES: Final = frozenset({"ok", "error", "timeout", "cancelled"})
_WORKER_ENDS: Final = frozenset({"timeout", "cancelled", "flood", "memory", "unread", "broken", "crashed"})
_SERVER_ENDS: Final = frozenset({"died", "not_started"})
_RELOADS: Final = frozenset({"ok", "failed", "unchanged"})
_TOKENS: Final[Mapping[str, str]] = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_tokens": "cache_read",
    "cache_write_5m_tokens": "cache_write_5m",
    "cache_write_1h_tokens": "cache_write_1h",
}
_TURN_BUCKETS: Final = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800)
_TOOL_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_HTTP_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)
_GC_BUCKETS: Final = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5)
_LAG_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


async def sample_loop_lag(bus: Bus, interval_s: float = 0.25) -> None:
    """Emit `loop.lag` for ever: how much later than asked the event loop woke this task, in seconds."""
    while True:
        due = trio.current_time() + interval_s
        await trio.sleep_until(due)
        bus.emit("loop.lag", {"duration": max(0.0, trio.current_time() - due)}, {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where a scrape looks. All are called on the trio thread.

    Args:
        sessions: `sessions_live`, `turns_running` and `turns_queued`.
        stored: conversations in the store.
        skills: skills in force.
        actors: the living actors by class, never by conversation, and what went wrong between them.
        journal: `commits`, `damaged`, `queue_depth`, `wal_bytes` and `db_bytes`.
        connections: open connections of the socket.
        disk: bytes of the state directory by kind; none before they were measured.
        holds: reservations of the ledger that are open.
        monitoring: `waiting_batches` and `client_spool_bytes` of programs that report.

    """

    sessions: Callable[[], Mapping[str, float]]
    stored: Callable[[], Awaitable[int]]
    skills: Callable[[], int]
    actors: Callable[[], Awaitable[ActorSnapshot]]
    journal: Callable[[], Mapping[str, float]]
    connections: Callable[[], int]
    disk: Callable[[], Mapping[str, float]] = dict
    holds: Callable[[], int] = int
    monitoring: Callable[[], Mapping[str, float]] = dict


class Metrics:
    """All metrics of one daemon, in a registry of their own.

    Args:
        models: names that may be a label.
        tools: likewise.
        backends: likewise.
        tool_servers: likewise; those of the configuration. Their ends are on the page if there are any.
        max_reported_names: of models, of tools and so on, that other programs' reports may make labels of. What they
            report is on the page once something was reported.

    """

    def __init__(
        self,
        *,
        version: str,
        models: Collection[str],
        tools: Collection[str],
        backends: Collection[str],
        tool_servers: Collection[str] = (),
        max_reported_names: int = 50,
    ) -> None:
        self._tool_servers = frozenset(tool_servers)
        self._models = frozenset(models)
        self._tools = frozenset(tools)
        self._backends = frozenset(backends)
        self._sources: Sources | None = None
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._gauges = _Gauges(self.registry)
        self._supervision = SupervisionCounters(self.registry)
        self._actors = ActorCollector()
        self.registry.register(self._actors)
        self._gen_ai = GenAiMetrics(self.registry, max_reported_names)
        self._ledger = LedgerMetrics(self.registry, self._models)
        self._workshop = WorkshopMetrics(self.registry)
        self.monitoring = LateMetrics(self.registry)
        self._monitor = MonitorMetrics(self.monitoring.registry, self._gen_ai)
        self._monitor_sinks = MonitorSinkMetrics(self.monitoring.registry)
        self._alerts = AlertMetrics(self.monitoring.registry)
        self._make_counters()
        self._make_histograms()
        self._on: Final[Mapping[str, Callable[[Measurements, Metadata], None]]] = {
            "agent.circuit": self._on_agent_circuit,
            "agent.fallback": self._on_fallback,
            "approval.requested": self._on_approval,
            "approval.resolved": self._on_approval,
            "execute.exception": self._on_tool_exception,
            "execute.stop": self._on_tool,
            "gc.pause": self._on_gc,
            "hook.stop": self._on_hook,
            "http.stop": self._on_http,
            "loop.lag": self._on_lag,
            "loop.stall": self._on_stall,
            "mcp.server.end": self._on_tool_server,
            "model.circuit": self._on_circuit,
            "model.error": self._on_model_error,
            "model.stop": self._on_model,
            "session.crashed": lambda _facts, _meta: self._crashes.inc(),
            "session.poisoned": lambda _facts, _meta: self._poisoned.inc(),
            "skill.reloaded": self._on_reload,
            "turn.stop": self._on_turn,
            "worker.end": self._on_worker,
            **self._ledger.handlers,
            **self._workshop.handlers,
            **self.monitoring.of({**self._monitor.handlers, **self._monitor_sinks.handlers, **self._alerts.handlers}),
        }
        Gauge("skilld_build_info", "The daemon's version.", ["version"], registry=self.registry).labels(version).set(1)

    def _make_counters(self) -> None:
        registry = self.registry
        self._turns = Counter("skilld_turns", "Turns that ended.", ["outcome"], registry=registry)
        self._tokens = Counter("skilld_tokens", "Tokens, as billed.", ["model", "kind"], registry=registry)
        self._cost = Counter("skilld_cost_usd", "Cost of turns with a known price, US dollars.", registry=registry)
        self._unpriced = Counter("skilld_turns_unpriced", "Turns whose cost is unknown.", registry=registry)
        self._crashes = Counter("skilld_session_crashes", "Crashes of conversations' actors.", registry=registry)
        self._poisoned = Counter("skilld_sessions_poisoned", "Refusals after too many of them.", registry=registry)
        self._model_errors = Counter("skilld_model_errors", "Failed model calls.", ["retried"], registry=registry)
        self._stalls = Counter("skilld_loop_stalls", "Times that the event loop hung.", registry=registry)
        self._circuits = Counter(
            "skilld_model_circuit", "Changes of a model endpoint's circuit.", ["state"], registry=registry
        )
        self._agent_circuits = Counter(
            "skilld_agent_circuit", "Changes of an agent backend's circuit.", ["backend", "state"], registry=registry
        )
        self._fallbacks = Counter(
            "skilld_agent_fallbacks", "Turns passed on to another agent, by who passed.", ["backend"], registry=registry
        )
        self._reloads = Counter("skilld_skill_reloads", "Loads of the skills.", ["outcome"], registry=registry)
        self._approvals = Counter("skilld_approvals", "Approvals that came to a status.", ["status"], registry=registry)
        self._hooks = Counter("skilld_hooks", "Notices for hooks.", ["target", "outcome"], registry=registry)
        self._server_ends = Counter(
            "skilld_tool_server_ends",
            "Tool servers that died.",
            ["server", "reason"],
            registry=registry if self._tool_servers else None,  # where none are configured there is nothing to count
        )
        self._workers = Counter("skilld_worker_ends", "Worker processes that died.", ["reason"], registry=registry)
        self._http = Counter(
            "skilld_http_requests", "Answered requests.", ["route", "method", "status"], registry=registry
        )

        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """What did not happen yet is 0 and not absent: else the first time would be no increase to an alert."""
        for counter, values in (
            (self._turns, _OUTCOMES),
            (self._approvals, _APPROVALS),
            (self._circuits, _CIRCUITS),
            (self._reloads, _RELOADS),
            (self._workers, _WORKER_ENDS),
            (self._model_errors, {"yes", "no"}),
        ):
            for value in values:
                counter.labels(value)
        for server in self._tool_servers:
            for reason in _SERVER_ENDS:
                self._server_ends.labels(server, reason)
        for target in _HOOK_TARGETS:
            for outcome in _HOOK_OUTCOMES:
                self._hooks.labels(target, outcome)

    def _make_histograms(self) -> None:
        registry = self.registry
        self._turn_time = Histogram(
            "skilld_turn_duration_seconds", "From start to end of a turn.", buckets=_TURN_BUCKETS, registry=registry
        )
        self._model_time = Histogram(
            "skilld_model_duration_seconds", "Model calls.", ["model"], buckets=_TURN_BUCKETS, registry=registry
        )
        self._tool_time = Histogram(
            "skilld_tool_duration_seconds",
            "Tool calls.",
            ["tool", "backend", "outcome"],
            buckets=_TOOL_BUCKETS,
            registry=registry,
        )
        self._http_time = Histogram(
            "skilld_http_duration_seconds",
            "Requests, streams included.",
            ["route"],
            buckets=_HTTP_BUCKETS,
            registry=registry,
        )
        self._lag = Histogram(
            "skilld_loop_lag_seconds", "How late the event loop woke a task.", buckets=_LAG_BUCKETS, registry=registry
        )
        pauses = Histogram(
            "skilld_gc_pause_seconds",
            "How long a garbage collection held everything up.",
            ["generation"],
            buckets=_GC_BUCKETS,
            registry=registry,
        )
        self._gc = [pauses.labels(str(generation)) for generation in range(3)]

    def attach(self, bus: Bus, sources: Sources) -> None:
        """Count what the bus tells from now on, and look at the sources when rendering."""
        self._sources = sources
        for name, handler in self._on.items():
            bus.attach(f"metrics:{name}", [name], _without_name(handler))  # each alone: one that fails leaves the rest

    def on_report(self, report: Report) -> None:
        """Count a supervision report; subscribe this to the runtime's reports."""
        self._supervision.on_report(report)

    async def render(self) -> bytes:
        """The Prometheus text format: gauges are read here, the text is made in a worker thread."""
        if self._sources is not None:
            self._gauges.set(self._sources, await self._sources.stored())
            self._monitor.look(self._sources.monitoring())
            self._actors.snapshot = await self._sources.actors()
        return await trio.to_thread.run_sync(generate_latest, self.registry)

    def _on_turn(self, facts: Measurements, meta: Metadata) -> None:
        self._turns.labels(_known(meta.get("outcome"), _OUTCOMES)).inc()
        if "duration" in facts:
            self._turn_time.observe(facts["duration"])
        if "cost_usd" in facts:
            self._cost.inc(facts["cost_usd"])
        else:
            self._unpriced.inc()

    def _on_model(self, facts: Measurements, meta: Metadata) -> None:
        model = _known(meta.get("model"), self._models)
        self._model_time.labels(model).observe(_seconds(facts))
        self._gen_ai.called(model, facts)
        for name, kind in _TOKENS.items():
            if facts.get(name):
                self._tokens.labels(model, kind).inc(facts[name])

    def _on_circuit(self, _facts: Measurements, meta: Metadata) -> None:
        self._circuits.labels(_known(meta.get("state"), _CIRCUITS)).inc()

    def _on_agent_circuit(self, _facts: Measurements, meta: Metadata) -> None:
        backend = _known(meta.get("backend"), self._backends)
        self._agent_circuits.labels(backend, _known(meta.get("state"), _CIRCUITS)).inc()

    def _on_fallback(self, _facts: Measurements, meta: Metadata) -> None:
        self._fallbacks.labels(_known(meta.get("backend"), self._backends)).inc()

    def _on_model_error(self, _facts: Measurements, meta: Metadata) -> None:
        self._model_errors.labels("yes" if meta.get("retried") else "no").inc()

    def _on_tool(self, facts: Measurements, meta: Metadata) -> None:
        self._observe_tool(facts, meta, _known(meta.get("outcome"), _TOOL_OUTCOMES))

    def _on_tool_exception(self, facts: Measurements, meta: Metadata) -> None:
        self._observe_tool(facts, meta, "exception")

    def _observe_tool(self, facts: Measurements, meta: Metadata, outcome: str) -> None:
        tool, backend = _known(meta.get("tool"), self._tools), _known(meta.get("backend"), self._backends)
        self._tool_time.labels(tool, backend, outcome).observe(_seconds(facts))

    def _on_reload(self, _facts: Measurements, meta: Metadata) -> None:
        self._reloads.labels(_known(meta.get("outcome"), _RELOADS)).inc()

    def _on_http(self, facts: Measurements, meta: Metadata) -> None:
        route = str(meta["route"])
        status = f"{int(str(meta['status'])) // 100}xx"
        self._http.labels(route, str(meta["method"]), status).inc()
        self._http_time.labels(route).observe(_seconds(facts))

    def _on_worker(self, _facts: Measurements, meta: Metadata) -> None:
        self._workers.labels(_known(meta.get("reason"), _WORKER_ENDS)).inc()

    def _on_tool_server(self, _facts: Measurements, meta: Metadata) -> None:
        server = _known(meta.get("server"), self._tool_servers)
        self._server_ends.labels(server, _known(meta.get("reason"), _SERVER_ENDS)).inc()

    def _on_approval(self, _facts: Measurements, meta: Metadata) -> None:
        self._approvals.labels(_known(meta.get("status"), _APPROVALS)).inc()

    def _on_hook(self, _facts: Measurements, meta: Metadata) -> None:
        self._hooks.labels(_known(meta.get("target"), _HOOK_TARGETS), _known(meta.get("outcome"), _HOOK_OUTCOMES)).inc()

    def _on_lag(self, facts: Measurements, _meta: Metadata) -> None:
        self._lag.observe(_seconds(facts))

    def _on_stall(self, _facts: Measurements, _meta: Metadata) -> None:
        self._stalls.inc()

    def _on_gc(self, facts: Measurements, meta: Metadata) -> None:
        generation = meta.get("generation")
        self._gc[generation if isinstance(generation, int) else 2].observe(_seconds(facts))


class _Gauges:
    """What is looked up rather than counted."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"skilld_{name}", text, labels, registry=registry)

        self._sessions = gauge("sessions", "Conversations.", ("state",))
        self._running = gauge("turns_running", "Turns that run now.")
        self._queued = gauge("turns_queued", "Messages that wait for their turn.")
        self._skills = gauge("skills_loaded", "Skills in force.")
        self._connections = gauge("http_connections", "Open connections.")
        self._commits = gauge("journal_commits", "Commits since the start.")
        self._damaged = gauge("journal_damaged", "Places found damaged since the start.")
        self._queue = gauge("journal_queue_depth", "Appends that wait for their commit.")
        self._bytes = gauge("journal_bytes", "Size of the journal's files.", ("file",))
        self._disk = gauge("disk_bytes", "What the state takes on the disk.", ("kind",))
        self._holds = gauge("ledger_holds", "Reservations that are open.")

    def set(self, sources: Sources, stored: int) -> None:
        sessions, journal = sources.sessions(), sources.journal()
        self._sessions.labels("live").set(sessions.get("sessions_live", 0))
        self._sessions.labels("stored").set(stored)
        self._running.set(sessions.get("turns_running", 0))
        self._queued.set(sessions.get("turns_queued", 0))
        self._skills.set(sources.skills())
        self._connections.set(sources.connections())
        self._commits.set(journal.get("commits", 0))
        self._damaged.set(journal.get("damaged", 0))
        self._queue.set(journal.get("queue_depth", 0))
        self._holds.set(sources.holds())
        self._bytes.labels("wal").set(journal.get("wal_bytes", 0))
        self._bytes.labels("db").set(journal.get("db_bytes", 0))
        for kind, size_bytes in sources.disk().items():
            self._disk.labels(kind).set(size_bytes)


def _without_name(handler: Callable[[Measurements, Metadata], None]) -> Handler:
    return lambda _name, facts, meta: handler(facts, meta)


def _known(value: object, names: frozenset[str]) -> str:
    return value if isinstance(value, str) and value in names else _OTHER


def _seconds(facts: Measurements) -> float:
    return facts.get("duration", facts.get("duration_s", 0.0))
