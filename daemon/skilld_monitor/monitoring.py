"""Monitoring of this process: switched on and off as a whole, and delivered at its end whichever way it ends."""

from __future__ import annotations

import os
import sys
import threading
import time

from skilld_monitor import exits
from skilld_monitor.outbox import Outbox
from skilld_monitor.patching import Patches
from skilld_monitor.records import LEVELS, Record, event
from skilld_monitor.sender import Sender
from skilld_monitor.settings import Settings, SettingsError, resolve, usable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from skilld_monitor.log_file import LogFile

__all__ = ["Monitoring", "Report", "active", "disable_monitoring", "enable_monitoring"]

_MAX_QUEUED_BYTES = 64 << 20
_FLUSH_POLL_S = 0.005

_switching = threading.RLock()
_active: Monitoring | None = None


class Report:
    """What became of a run's records; `complete` says whether all were delivered or wait in the spool file."""

    __slots__ = ("accepted", "complete", "delivered", "dropped", "refused", "spooled")

    def __init__(self, accepted: int, delivered: int, spooled: int, refused: int, dropped: int, complete: bool) -> None:
        self.accepted = accepted
        self.delivered = delivered
        self.spooled = spooled
        self.refused = refused
        self.dropped = dropped
        self.complete = complete

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in sorted(self.__slots__))
        return f"Report({values})"


class Monitoring:
    """Monitoring of this process as it is switched on now. A context manager that switches it off."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.min_level = LEVELS[settings.debug_level]
        self.patches = Patches()
        self.problem = ""
        self._log_path = _log_path(settings)
        self._begin()

    def _begin(self) -> None:
        """A run: a queue and a sender of its own. A forked child has another than its parent."""
        settings = self.settings
        self.run = os.urandom(16).hex()
        self._pid = os.getpid()
        self._outbox = Outbox(settings.max_queued, _MAX_QUEUED_BYTES)
        head: dict[str, object] = {
            "run": self.run,
            "agent": settings.agent_id,
            "pid": self._pid,
            "program": os.path.basename(sys.argv[0] if sys.argv else "")[:200],
            "environment": settings.environment,
        }
        self._sender = Sender(
            self._outbox,
            settings.socket,
            head,
            spool_dir=settings.spool_dir,
            max_spool_bytes=settings.max_spool_bytes,
            log_file=self._open_log(),
        )

    def _open_log(self) -> LogFile | None:
        if self._log_path is None:
            return None
        from skilld_monitor.log_file import LogFile  # it brings what takes a third of all our imports

        return LogFile(self._log_path, self.settings.agent_id, full=self.settings.full_events)

    @property
    def log_path(self) -> str | None:
        """The file of JSON lines that is written, if one was asked for."""
        return self._log_path

    def report(self, record: Record) -> None:
        """Queue a record. Waits for nothing, and never raises."""
        if LEVELS[record.level] >= self.min_level and self._outbox.put(record):
            self._sender.start()

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Wait until all that is queued now is delivered or in the spool file; whether it is."""
        wanted, deadline = self._outbox.accepted, time.monotonic() + timeout_s
        self._sender.start()
        while self._sender.handled < wanted:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_FLUSH_POLL_S)
        return True

    def stats(self) -> Report:
        """What became of the records of this run so far."""
        return self._stats(len(self._outbox) == 0 and self._sender.handled >= self._outbox.accepted)

    def delivery_problem(self) -> str:
        """Why records wait in the spool file; "" while they need not."""
        return self._sender.problem

    def disable(self, timeout_s: float = 2.0) -> Report:
        """Restore all that was patched, deliver what is queued, and stop. May be called twice."""
        global _active
        with _switching:
            if _active is self:
                self.report(event("monitoring_disabled", {}, "SYSTEM", "INFO"))
                self.patches.restore()
                exits.forget(self)
                _active = None
        return self._stats(self._sender.close(timeout_s))

    def deliver_all(self) -> None:
        """At the end of the process."""
        if self._pid == os.getpid():
            self._sender.close(self.settings.exit_timeout_s)

    def after_fork(self) -> None:
        """In the child: what was queued is the parent's to send; the child begins a run of its own."""
        global _switching
        _switching = threading.RLock()  # a thread of the parent's may have held it
        self._sender.abandon()
        self._begin()

    def _stats(self, complete: bool) -> Report:
        counts = self._sender.counts
        lost = counts["spool_full"] + counts["spool_failed"] + counts["unencodable"]
        return Report(
            accepted=self._outbox.accepted,
            delivered=counts["delivered"],
            spooled=counts["spooled"],
            refused=counts["refused"],
            dropped=self._outbox.dropped + lost,
            complete=complete,
        )

    def __enter__(self) -> Monitoring:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disable()


def active() -> Monitoring | None:
    """What is switched on now."""
    return _active


def enable_monitoring(
    agent_id: str | None = None,
    llm_client: object = None,
    llm_method_path: str = "messages.create",
    log_file: str | os.PathLike[str] | None = None,
    debug_level: str | None = None,
    **settings: object,
) -> Monitoring:
    """Report what this process does to the daemon on this machine, until it ends or `disable_monitoring` is called.

    Clients of Anthropic are watched by their classes, whether they exist already or not, in any thread. With
    `llm_client`, that one too, whosever it is. Called again with the same settings it goes on; with others it begins
    anew.

    Args:
        agent_id: whose events these are; SKILLD_MONITOR_AGENT otherwise.
        llm_client: a client to watch.
        llm_method_path: the method of it, from the client on, with dots.
        log_file: a file or folder for the events as lines of JSON, beside what the daemon gets.
        debug_level: events below it are not reported; INFO.
        settings: by name, see `skilld_monitor.settings.Settings`.

    Raises:
        SettingsError: with `strict`, if a setting cannot be used. Otherwise that one goes by its default, and
            `problem` of what is returned says why.

    """
    global _active
    arguments: dict[str, object] = {
        "agent_id": agent_id,
        "log_file": os.fspath(log_file) if isinstance(log_file, os.PathLike) else log_file,
        "debug_level": debug_level,
        **settings,
    }
    found, problem = _settings(arguments)
    with _switching:
        made = _active
        if made is None or not made.settings.same_as(found):
            if made is not None:
                made.disable()
            made = _active = Monitoring(found)
            made.problem = problem
            exits.remember(made)
            _watch_known(made)
            made.report(event("monitoring_enabled", _about(made), "SYSTEM", "INFO"))
        if llm_client is not None:
            _watch_client(made, llm_client, llm_method_path)
        return made


def disable_monitoring(timeout_s: float = 2.0) -> Report | None:
    """Restore everything, deliver what is queued for at most so long, and stop. None if nothing was on."""
    made = _active
    return None if made is None else made.disable(timeout_s)


def _settings(arguments: dict[str, object]) -> tuple[Settings, str]:
    """The settings in force; with what is wrong in them, those that remain without it."""
    env, uid = os.environ, os.geteuid()
    try:
        return resolve(arguments, env, folder=os.getcwd(), uid=uid), ""
    except Exception:
        strict = str(arguments.get("strict", env.get("SKILLD_MONITOR_STRICT", ""))).lower()
        if strict in ("true", "1", "yes", "on"):
            raise
        try:
            folder: str | None = os.getcwd()
        except OSError:
            folder = None
        return usable(arguments, env, folder=folder, uid=uid)


def _log_path(settings: Settings) -> str | None:
    if not settings.log_file:
        return None
    from skilld_monitor.log_file import file_for

    try:
        return file_for(settings.log_file, settings.agent_id, time.time())
    except OSError:  # in a working directory that is gone
        return None


def _about(made: Monitoring) -> dict[str, object]:
    from skilld_monitor import __version__

    return {"client": __version__, "python": sys.version.split()[0], "environment": made.settings.environment}


def _watch_known(made: Monitoring) -> None:
    from skilld_monitor.adapters import watch_all

    watch_all(made)


def _watch_client(made: Monitoring, client: object, path: str) -> None:
    from skilld_monitor.adapters.generic import watch_client

    try:
        watch_client(made, client, path)
    except Exception as error:  # it may have slots, or refuse to be asked
        if made.settings.strict:
            raise SettingsError(f"llm_method_path {path!r}: {error}") from error
        made.problem = f"llm_method_path {path!r}: {error}"
