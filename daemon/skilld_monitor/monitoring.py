"""Monitoring of this process: switched on and off as a whole, and delivered at its end whichever way it ends."""

from __future__ import annotations

import os
import sys
import threading
import time

from skilld_monitor import exits
from skilld_monitor.channels import Sieve
from skilld_monitor.context import Who
from skilld_monitor.diagnostics import Diagnostics, advice_on
from skilld_monitor.health import EVERY_US, Costs, Told, health_of, totals_of
from skilld_monitor.losses import losses_of
from skilld_monitor.outbox import Outbox
from skilld_monitor.patching import Patches
from skilld_monitor.policy.holder import holder_for, policy_problem
from skilld_monitor.records import Record
from skilld_monitor.sender import Sender
from skilld_monitor.settings import Settings, SettingsError, replaced_variables, usable
from skilld_monitor.values import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from skilld_monitor.log_file import LogFile

__all__ = ["Monitoring", "Report", "active", "disable_monitoring", "enable_monitoring"]

_MAX_QUEUED_BYTES = 64 << 20
_FLUSH_POLL_S = 0.005
_WAIT_S = 2.0
_MAX_WAIT_S = 86_400.0  # what no lock takes is no time to wait either

_switching = threading.RLock()
_active: Monitoring | None = None


class Report:
    """What became of a run's records; `complete` says whether all were delivered or wait in the spool file.
    `sampled_out` were left out on purpose, and are in none of the other numbers; nor are `others_refused`, events that
    earlier programs left in the spool and the daemon will never have."""

    __slots__ = ("accepted", "complete", "delivered", "dropped", "others_refused", "refused", "sampled_out", "spooled")

    def __init__(
        self,
        accepted: int,
        delivered: int,
        spooled: int,
        refused: int,
        dropped: int,
        complete: bool,
        sampled_out: int = 0,
        others_refused: int = 0,
    ) -> None:
        self.accepted = accepted
        self.delivered = delivered
        self.spooled = spooled
        self.refused = refused
        self.dropped = dropped
        self.complete = complete
        self.sampled_out = sampled_out
        self.others_refused = others_refused

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in sorted(self.__slots__))
        return f"Report({values})"


class Monitoring:
    """Monitoring of this process as it is switched on now. A context manager that switches it off.

    `costs` is how much of the program's time watching took, `advice` what would be better done otherwise, `policy` what
    is looked for before calls, with `counts` of what became of them, and a `problem` of its own.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.patches = Patches()
        self.advice = advice_on(settings.agent_id)
        self._problem = ""
        self._diagnostics = Diagnostics(settings.diagnostics, settings.diagnostics_level)
        self._log_path = _log_path(settings)
        self.policy = holder_for(settings)
        self._begin()

    def _begin(self) -> None:
        """A run: a queue and a sender of its own. A forked child has another than its parent."""
        settings = self.settings
        self.run = os.urandom(16).hex()
        self._losses = losses_of(self.run)
        self.costs = Costs()
        self._told = Told()
        self.policy.begin_run()
        self._sieve = Sieve(settings.debug_level, settings.channels)
        self._health_due_us = time.time_ns() // 1000 + EVERY_US
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
            policy=self.policy,
            mask=settings.mask,
        )

    def _open_log(self) -> LogFile | None:
        if self._log_path is None:
            return None
        from skilld_monitor.log_file import LogFile  # it brings what takes a third of all our imports

        settings = self.settings
        return LogFile(
            self._log_path,
            settings.agent_id,
            full=settings.full_events,
            log_format=settings.log_format,
            run=self.run,
            mask=settings.mask,
        )

    @property
    def problem(self) -> str:
        """What could not be done as it was asked for, the last of it; "" while all could."""
        return self._problem

    @problem.setter
    def problem(self, text: str) -> None:
        self._problem = text
        if text:
            self._diagnostics.say("WARNING", text)

    @property
    def log_path(self) -> str | None:
        """The file of JSON lines that is written, if one was asked for."""
        return self._log_path

    def report(self, record: Record) -> None:
        """Queue a record. Waits for nothing, and never raises."""
        if self._sieve.keeps(record) and self._outbox.put(record) and not self._sender.is_started:
            self._sender.start()
        if record.time_us > self._health_due_us:
            self._report_health()

    def tell(self, name: str, data: dict[str, object], channel: str = "SYSTEM", level: str = "INFO") -> int:
        """Queue an event about monitoring itself: nobody's, in no trace, and left out by no share of them.

        Its number; 0 if there was no room, or nobody wants it.
        """
        record = Record(name, plain(data), channel=channel, level=level, who=Who())
        if not (self._sieve.keeps(record, whatever_share=True) and self._outbox.put(record)):
            return 0
        self._sender.start()
        return record.seq

    def _report_health(self) -> None:
        now_us = time.time_ns() // 1000
        if now_us < self._health_due_us:
            return  # the program dates its events into the future
        self._health_due_us = now_us + EVERY_US
        stats = self.stats()
        unjudged = {"unjudged": self.policy.counts["unjudged"]}
        is_policy_unwell = bool(self.policy.standing_problem) or self._told.lacks(unjudged)
        is_unwell = stats.dropped or stats.refused or self._losses.named() or is_policy_unwell
        self._tell_health("monitoring_health", stats, "META", "WARNING" if is_unwell else "INFO")
        if self._sender.problem:
            self._diagnostics.say("WARNING", f"records wait in the spool file: {self._sender.problem}")
        self._check_log()
        self._check_policy()
        self._check_left_behind()

    def _tell_health(self, name: str, stats: Report, channel: str, level: str) -> None:
        sender, totals = self._sender, totals_of(stats, self._sender, self.policy)
        data = health_of(stats, totals, len(self._outbox), self.costs, self._losses, self.policy)
        data.update(spool_bytes=sender.spool_bytes, told=self._told.before(sender))
        lost = sender.lost
        self._told.tell(self.tell(name, data, channel, level), totals, lost)

    def _check_policy(self) -> None:
        problem = self.policy.standing_problem
        if problem not in self.problem:
            self.problem = problem

    def _check_left_behind(self) -> None:
        if lost := self._losses.named():
            self.problem = f"what earlier programs left behind cannot be delivered: {'; '.join(lost)}"

    def _check_log(self) -> None:
        failed = self._sender.counts["file_failed"]
        if failed:
            self.problem = f"{failed} events could not be written to {self.log_path}"

    def flush(self, timeout_s: float = _WAIT_S) -> bool:
        """Wait until all that is queued now is delivered or in the spool file; whether it is."""
        wait_s, _ = _seconds(timeout_s)
        wanted, deadline = self._outbox.accepted, time.monotonic() + wait_s
        self._sender.start()
        while self._sender.handled < wanted:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_FLUSH_POLL_S)
        return True

    def stats(self) -> Report:
        """What became of the records of this run so far."""
        return self._stats(len(self._outbox) == 0 and self._sender.handled >= self._outbox.accepted)

    @property
    def is_over(self) -> bool:
        """Whether it was switched off and nothing of it runs any more."""
        return self._sender.is_over

    def delivery_problem(self) -> str:
        """Why records wait in the spool file; "" while they need not."""
        return self._sender.problem

    def ask_policy(self) -> None:
        """Have the daemon asked for its policy now; `policy` has it when it came. Waits for nothing."""
        self._sender.ask_policy()

    def disable(self, timeout_s: float = _WAIT_S) -> Report:
        """Restore all that was patched, deliver what is queued, and stop. May be called twice.

        Raises:
            SettingsError: with `strict`, if `timeout_s` is no time; all is done by then. Otherwise `problem` says so.

        """
        wait_s, problem = _seconds(timeout_s)
        report = self._disable(wait_s)
        self._object_to(problem)
        return report

    def _object_to(self, problem: str) -> None:
        if problem:
            self.problem = problem
            if self.settings.strict:
                raise SettingsError(problem)

    def _disable(self, timeout_s: float) -> Report:
        global _active
        with _switching:
            if _active is self:
                self._tell_health("monitoring_disabled", self.stats(), "SYSTEM", "INFO")
                left = self.patches.restore()
                if left:
                    self.problem = left
                _active = None
        is_complete = self._sender.close(timeout_s)
        if is_complete:
            exits.forget(self)  # else the end of the program waits for the rest
        report = self._stats(is_complete)
        self._check_log()
        self._check_policy()
        self._check_left_behind()
        self._diagnostics.say("INFO" if report.complete else "WARNING", f"monitoring is switched off: {report!r}")
        return report

    def tell_settings(self) -> None:
        """Say what it goes by, where diagnostics are wanted."""
        settings = self.settings
        self._diagnostics.say("INFO", f"monitoring is on for {settings.agent_id!r}, run {self.run}, {settings.socket}")
        self._diagnostics.say("DEBUG", f"log file {self.log_path or 'none'}, capture {sorted(settings.capture)}")
        if self.advice:
            self._diagnostics.say("WARNING", self.advice)

    def deliver_all(self) -> None:
        """At the end of the process."""
        if self._pid == os.getpid():
            if self._outbox.dropped or self._losses.named() or self._told.lacks(self.policy.counts):
                self._health_due_us = 0
                self._report_health()
            self._sender.close(self.settings.exit_timeout_s)
            self._check_left_behind()

    def after_fork(self) -> None:
        """In the child: what was queued is the parent's to send; the child begins a run of its own."""
        global _switching
        _switching = threading.RLock()  # a thread of the parent's may have held it
        self.patches.after_fork()
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
            sampled_out=self._sieve.sampled_out,
            others_refused=self._losses.refused,
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
    config: object = None,
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
        config: settings as generation B of Cylestio Monitor had them, see `skilld_monitor.aliases.read_config`.
        settings: by name, see `skilld_monitor.settings.Settings`.

    Raises:
        SettingsError: with `strict`, if a setting cannot be used. Otherwise that one goes by its default, and
            `problem` of what is returned says why.

    """
    global _active
    arguments: dict[str, object] = {
        "agent_id": agent_id,
        "log_file": _named(log_file),
        "debug_level": debug_level,
        **settings,
    }
    found, problem = _settings(*_with_config(arguments, config))
    with _switching:
        made = _active
        if made is None or not made.settings.same_as(found):
            if made is not None:
                made.disable()
            made = Monitoring(found)
            made.problem = _joined(problem, made.policy.own_problem)
            _bring_what_is_called_anywhere()
            exits.remember(made)  # before anybody reports: a child forked in between would report as its parent
            _active = made
            _watch_known(made)
            made.tell("monitoring_enabled", _about(made))
            made.tell_settings()
        elif problem:
            made.problem = problem
        if llm_client is not None:
            _watch_client(made, llm_client, llm_method_path)
        return made


def disable_monitoring(timeout_s: float = _WAIT_S, *unknown: object, **more: object) -> Report | None:
    """Restore everything, deliver what is queued for at most so long, and stop. None if nothing was on.

    It takes no other argument; one that comes all the same, such as the agent's id, changes nothing.

    Raises:
        SettingsError: with `strict`, for an argument that means nothing here; all is done by then. Otherwise `problem`
            of what `enable_monitoring` returned says so.

    """
    made = _active
    if made is None:
        return None
    report = made.disable(timeout_s)
    if unknown or more:
        named = [*map(repr, more), *("one without a name" for _ in unknown)]
        made._object_to(f"disable_monitoring takes timeout_s alone: {', '.join(named)}")
    return report


def _seconds(value: object) -> tuple[float, str]:
    """How long to wait, and what is to be said of what was handed over; never raises."""
    try:
        wait_s = float(value)  # type: ignore[arg-type]
        if wait_s == wait_s:
            return min(max(wait_s, 0.0), _MAX_WAIT_S), ""
    except Exception:  # of somebody's class
        pass
    return _WAIT_S, f"timeout_s is of {type(value).__name__}; expected a number of seconds"


def _named(path: object) -> object:
    """A path as text; whatever else was handed over as it is, for the settings to judge."""
    try:
        return os.fspath(path) if isinstance(path, os.PathLike) else path
    except Exception:  # of somebody's class
        return path


def _with_config(arguments: dict[str, object], config: object) -> tuple[dict[str, object], str]:
    """The arguments with those that came in a dictionary, where they are not given themselves; and what was said."""
    if config is None:
        return arguments, ""
    from skilld_monitor.aliases import read_config

    found, notes = read_config(config)
    return {**found, **{name: value for name, value in arguments.items() if value is not None}}, notes


def _settings(arguments: dict[str, object], notes: str) -> tuple[Settings, str]:
    """The settings in force, and what is to be said of them, before the notes that there are already.

    Raises:
        SettingsError: if one is wrong, with `strict`.

    """
    try:
        folder: str | None = os.getcwd()
    except OSError:
        folder = None
    found, problem = usable(arguments, os.environ, folder=folder, uid=os.geteuid())
    if found.strict:
        problem = problem or policy_problem(found.policy_file)
        if problem:
            raise SettingsError(problem)
    return found, _joined(problem, notes, replaced_variables(os.environ))


def _joined(*texts: str) -> str:
    return "; ".join(filter(None, texts))


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

    found: dict[str, object] = {
        "client": __version__,
        "python": sys.version.split()[0],
        "environment": made.settings.environment,
    }
    if made.advice:
        found["advice"] = made.advice
    return found


def _bring_what_is_called_anywhere() -> None:
    """A signal handler must not find its name half imported, nor a destructor at the end that nothing is any more."""
    import skilld_monitor

    for name in (
        "Span",
        "disable_monitoring",
        "enable_monitoring",
        "log_error",
        "log_event",
        "log_info",
        "log_warning",
    ):
        getattr(skilld_monitor, name)


def _watch_known(made: Monitoring) -> None:
    from skilld_monitor.adapters import watch_all

    watch_all(made)


def _watch_client(made: Monitoring, client: object, path: str) -> None:
    from skilld_monitor.adapters.generic import watch_client

    try:
        watch_client(made, client, path)
    except Exception as error:  # it may have slots, or refuse to be asked
        problem = f"llm_method_path {plain(path)!r}: {plain(error)}"
        if made.settings.strict:
            raise SettingsError(problem) from error
        made.problem = problem
