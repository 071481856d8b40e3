"""From a configuration to a running daemon: what is checked before, the tree, and what systemd is told."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

import trio

from skill_actors import __version__
from skill_actors.backends.base import BackendUnavailable
from skill_actors.backends.native import NATIVE
from skill_actors.backends.registry import factory
from skill_actors.backends.routing import HAND_OVER
from skill_actors.backends.tool_source import SOURCES
from skill_actors.backends.workers import Host
from skill_actors.models.base import ModelError
from skill_actors.models.model_socket import check_socket
from skill_actors.models.prices import PriceError, PriceTable, load_prices
from skill_actors.runtime import ActorSystem, StartFailed, Strategy, serve
from skill_actors.runtime.census import take_census
from skill_actors.sessions.places import HOSTED
from skill_actors.skills.copies import SkillCopies
from skill_actors.store import StateLock, StateLocked, StateTooNew, StoreError
from skilld.agents import check_agents
from skilld.config import Config, ConfigError, refuse_bad_hook
from skilld.exits import EXIT_CONFIG, EXIT_FAILED, EXIT_IO, EXIT_TAKEN
from skilld.garbage import settle_heap
from skilld.http import ListenerError, SocketInUse
from skilld.metrics import Metrics, Sources
from skilld.model_choice import ModelChoice
from skilld.notify import Notifier
from skilld.parts import Parts, Slot
from skilld.paths import is_live
from skilld.supervision import ActorSnapshot, report_to_bus
from skilld.tool_servers import check_servers
from skilld.tree import build_tree

__all__ = ["check_config", "run_daemon"]

_SWITCH_INTERVAL_S: Final = 0.0005  # a thread that computes may hold up the loop for so long, not for ten times that

_log = logging.getLogger("skilld")


def run_daemon(config: Config, environ: Mapping[str, str], read: Callable[[], Config]) -> int:
    """Run until a signal or until the root gives up; the exit status (see `skilld.__main__`).

    Args:
        read: reads the configuration again, from where `config` is, and raises ConfigError; called in a thread.

    """
    try:
        return trio.run(_run, config, environ, read)
    except ConfigError as error:
        _log.error("%s", error)
        return EXIT_CONFIG
    except (StateLocked, SocketInUse) as error:
        _log.error("%s", error)
        return EXIT_TAKEN
    except StateTooNew as error:
        _log.error("%s", error)
        return EXIT_CONFIG


async def _run(config: Config, environ: Mapping[str, str], read: Callable[[], Config]) -> int:
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    models = await check_config(config, environ)
    if is_live(config.daemon.socket) and not environ.get("LISTEN_FDS"):
        # Tried again under a lock when the socket is made; here it spares a second daemon a whole start.
        raise SocketInUse(f"somebody listens at {config.daemon.socket}: stop that process, or use another --socket")

    async def reread() -> Config:
        new = await trio.to_thread.run_sync(read)
        await check_config(new, environ)
        return new

    prices = await _prices(config)
    with await trio.to_thread.run_sync(_take_lock, config) as lock:
        state = config.daemon.state_dir
        notifier = Notifier(environ)
        parts = Parts(
            config=config,
            environ=environ,
            version=__version__,
            lock=lock,
            notifier=notifier,
            models=models,
            prices=prices,
            reread=reread,
            copies=SkillCopies(state / "skills"),
            executors={name: Slot(f"the backend {name}") for name in config.backends.names},
            agents={name: Slot(f"the agent backend {name}") for name in config.backends.agent_names},
        )
        if parts.approvals is not None:
            await trio.to_thread.run_sync(parts.approvals.read)
        with contextlib.closing(notifier):
            try:
                return await _serve(parts)
            finally:
                await parts.hosted.aclose()
                await models.aclose()


async def check_config(config: Config, environ: Mapping[str, str]) -> ModelChoice:
    """What the configuration promises can be kept: backends, hooks and prices exist, a model asked for has its key.

    Raises:
        ConfigError: naming the key and the way out.

    """
    for name in config.backends.names:
        try:
            (await factory(name))(config.backends.options_of(name), Host())
        except BackendUnavailable as error:
            raise ConfigError(f"backends: {error}") from error
    await check_agents(config.backends)
    check_servers(config)
    await trio.to_thread.run_sync(refuse_bad_hook, config)
    await _prices(config)
    models = ModelChoice(config.model, environ)
    await trio.to_thread.run_sync(_check_model_socket, config)
    if HOSTED in config.backends.default and (models.key is None or not config.backends.anthropic.enabled):
        raise ConfigError(
            "backends.default: 'anthropic' needs an API key, as [model] has it, and backends.anthropic.enabled"
        )
    return models


def _check_model_socket(config: Config) -> None:
    """Raise ConfigError if the model's socket can be none. That nothing is there yet is said: its proxy may come."""
    if config.model.socket is None:
        return
    try:
        check_socket(config.model.socket)
    except ModelError as error:
        if not error.retryable:
            raise ConfigError(f"model.socket: {error}") from error
        _log.warning("model.socket: %s; until then no message is answered by a model", error)


async def _prices(config: Config) -> PriceTable:
    """What models cost, with what the configuration says of it. Raises ConfigError."""
    try:
        prices = await trio.to_thread.run_sync(load_prices, config.model.price_file)
    except PriceError as error:
        raise ConfigError(f"model.price_file: {error}") from error
    return replace(prices, free_containers=config.backends.anthropic.free_containers)


def _take_lock(config: Config) -> StateLock:
    folder = config.daemon.state_dir
    try:
        lock = StateLock.take(folder)
        open_to_others = folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if open_to_others:
            lock.release()
            raise ConfigError(f"state directory {folder} is writable by others: chmod go-w it, or choose another")
        return lock
    except OSError as error:
        raise ConfigError(
            f"state directory {config.daemon.state_dir}: {error.strerror}; choose another with --state-dir"
        ) from error


async def _serve(parts: Parts) -> int:
    metrics = _metrics(parts)
    system: list[ActorSystem] = []

    def shutdown() -> None:
        if system:
            _begin_stop(parts, system[0])

    async def on_ready(started: ActorSystem) -> None:
        system.append(started)
        parts.system.put(started)
        settle_heap()
        _log.info("ready: skilld %s, model %s", parts.version, parts.models.default)
        parts.audit.add("daemon.started", {"version": parts.version, "pid": os.getpid()})
        parts.notifier.ready(f"serving on {parts.config.daemon.socket}")

    parts.reports.subscribe("metrics", metrics.on_report)
    parts.models.watch(parts.bus)
    parts.reports.subscribe("bus", report_to_bus(parts.bus))
    try:
        return await serve(
            build_tree(parts, metrics, shutdown),
            strategy=Strategy.REST_FOR_ONE,
            reports=parts.reports,
            on_ready=on_ready,
            on_stopping=lambda started: _begin_stop(parts, started),
        )
    except StartFailed as failed:
        return _start_failure(failed)


def _begin_stop(parts: Parts, system: ActorSystem) -> None:
    if not parts.stopping:
        parts.audit.add("daemon.stopping", {"pid": os.getpid()})
    parts.stopping = True
    drain_s = parts.config.daemon.drain_s
    parts.notifier.stopping("draining")
    parts.notifier.extend_timeout(drain_s + 30)
    _log.info("stopping: running turns have %g s to end", drain_s)
    system.request_shutdown()


def _start_failure(failed: StartFailed) -> int:
    """What kept the tree from starting, in one line; its class decides what a supervisor outside should do."""
    for cause in _causes(failed):
        match cause:
            case SocketInUse():
                status = EXIT_TAKEN
            case ListenerError() | StateTooNew() | BackendUnavailable():
                status = EXIT_CONFIG
            case StoreError() | OSError():
                status = EXIT_IO
            case _:
                continue
        _log.error("cannot start: %s", cause)
        return status
    _log.error("cannot start: %s", failed)
    return EXIT_FAILED


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it, outermost first."""
    if error is None:
        return
    yield error
    for inner in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from _causes(inner)
    yield from _causes(error.__cause__)


def _metrics(parts: Parts) -> Metrics:
    table: PriceTable = parts.prices
    metrics = Metrics(
        version=parts.version,
        models=[*table.rates, "offline"],
        tools=["view", "bash_tool", "create_file", "str_replace", HAND_OVER],
        backends=[*parts.executors, *parts.agents, NATIVE, HAND_OVER, SOURCES],
        tool_servers=list(parts.config.mcp.servers),
        max_reported_names=parts.config.monitor.max_metric_models,
    )
    metrics.attach(parts.bus, _sources(parts))
    return metrics


def _sources(parts: Parts) -> Sources:
    async def stored() -> int:
        journal = parts.journal.peek()
        return 0 if journal is None else await journal.count_sessions()

    def journal_stats() -> Mapping[str, float]:
        journal = parts.journal.peek()
        if journal is None:
            return {}
        stats = journal.stats()
        names = ("commits", "damaged", "queue_depth", "wal_bytes", "db_bytes")
        return {name: getattr(stats, name) for name in names}

    def session_counts() -> Mapping[str, float]:
        manager = parts.sessions.peek()
        return {} if manager is None else manager.status()

    def connections() -> int:
        server = parts.server.peek()
        return 0 if server is None else server.connections

    return Sources(
        sessions=session_counts,
        stored=stored,
        skills=lambda: len(parts.published.snapshot.skills),
        actors=_actor_reader(parts),
        journal=journal_stats,
        connections=connections,
        disk=lambda: parts.disk_use or {},
        holds=lambda: 0 if (ledger := parts.ledger.peek()) is None else ledger.open,
        monitoring=lambda: {} if (programs := parts.sources.peek()) is None else programs.gauges(),
    )


def _actor_reader(parts: Parts) -> Callable[[], Awaitable[ActorSnapshot]]:
    async def take() -> ActorSnapshot:
        system = parts.system.peek()
        if system is None:
            return ActorSnapshot()
        return ActorSnapshot(await take_census(system.root), system.tally.snapshot())

    return take
