"""The watchdog: a thread that sees that the event loop hangs, says where, and ends the process if it goes on.

Once a tick it posts a job to the loop. The loop that runs it has beaten; one that does not is *quiet*, for as many
ticks as have passed. Time is counted in the watchdog's own ticks, never by a clock: while the whole process is
stopped, or the machine sleeps, the watchdog does not tick either, so that this is no stall.

  quiet for stall_dump_s   the stacks of all threads into the log, once a stall; `loop.stall` when it beats again
  quiet for stall_exit_s   a critical line, then exit with 70: a hung loop cannot stop in order

The service manager is fed (WATCHDOG=1) while the daemon is well: the loop beats, and, while it serves, a round trip
through the root supervisor and a canary actor (see `observability`) came back lately. While it starts and stops the
beat alone counts, and each one asks for more time; while the parts behind the socket are made again the beat counts
for REBUILD_S. A thread that holds Python's lock for good stops the watchdog as well: then nobody feeds the manager,
whose SIGABRT makes faulthandler write the stacks.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from skill_actors.runtime import ThreadActor
from skilld.exits import EXIT_FAILED
from skilld.notify import watchdog_interval_s

if TYPE_CHECKING:
    from skilld.config import DaemonConfig
    from skilld.parts import Parts

__all__ = ["Limits", "Pulse", "Stage", "Step", "Vigil", "Watchdog", "limits_of", "stacks"]

_log = logging.getLogger(__name__)

TICK_S: Final = 1.0
ROUND_TRIP_S: Final = 15.0  # where no service manager says how patient it is
REBUILD_S: Final = 150.0  # the journal may take 60 s to open, and the skills to load
_EXTEND_S: Final = 15.0
_LAST_WORDS_S: Final = 2.0


class Stage(Enum):
    """What the daemon is doing, as far as it decides who has to answer the watchdog."""

    STARTING = "starting"
    SERVING = "serving"
    REBUILDING = "rebuilding"  # the socket, or what it stands on, is being made again
    STOPPING = "stopping"


class Step(Enum):
    """What a tick leads to."""

    NOTHING = "nothing"
    DUMP = "dump"
    RECOVERED = "recovered"
    EXIT = "exit"


@dataclass(slots=True)
class Pulse:
    """What the loop tells the watchdog. Written on the trio thread, read in any.

    Args:
        beats: how often the loop has run the watchdog's job.
        round_trips: how often the root and the canary have answered.
        stage: as of the last beat.

    """

    beats: int = 0
    round_trips: int = 0
    stage: Stage = Stage.STARTING


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """All in seconds of the watchdog's ticks.

    Args:
        tick_s: length of a tick.
        dump_s: quiet for so long, the stacks are written.
        exit_s: quiet for so long, the process is ended.
        round_trip_s: a round trip older than this is too old while the daemon serves.
        rebuild_s: how long parts may be made again without one.

    """

    tick_s: float = TICK_S
    dump_s: float = 5.0
    exit_s: float = 30.0
    round_trip_s: float = ROUND_TRIP_S
    rebuild_s: float = REBUILD_S


class _Quiet:
    """For how many ticks a count has not grown."""

    def __init__(self) -> None:
        self.ticks = 0
        self._count = -1

    def see(self, count: int) -> None:
        self.ticks = self.ticks + 1 if count == self._count else 0
        self._count = count


class Vigil:
    """The watchdog's decisions, from one tick to the next. Does nothing itself."""

    def __init__(self, limits: Limits) -> None:
        self._limits: Final = limits
        self._beat = _Quiet()
        self._round_trip = _Quiet()
        self._stage = Stage.STARTING
        self._stage_ticks = 0
        self._dumped = False
        self.stall_s = 0.0  # how long the present or last stall lasted

    def tick(self, pulse: Pulse) -> Step:
        """A tick has passed; what to do."""
        self._beat.see(pulse.beats)
        self._round_trip.see(pulse.round_trips)
        self._enter(pulse.stage)
        quiet_s = self._beat.ticks * self._limits.tick_s
        if quiet_s == 0:
            recovered, self._dumped = self._dumped, False
            return Step.RECOVERED if recovered else Step.NOTHING
        self.stall_s = quiet_s
        if quiet_s >= self._limits.exit_s:
            return Step.EXIT
        if quiet_s >= self._limits.dump_s and not self._dumped:
            self._dumped = True
            return Step.DUMP
        return Step.NOTHING

    def _enter(self, stage: Stage) -> None:
        self._stage_ticks += 1
        if stage is not self._stage:
            self._stage, self._stage_ticks = stage, 0
            self._round_trip.ticks = 0

    def is_well(self) -> bool:
        """Whether the service manager may be told that the daemon lives."""
        limits = self._limits
        if self._beat.ticks * limits.tick_s >= limits.dump_s:
            return False
        match self._stage:
            case Stage.SERVING:
                return self._round_trip.ticks * limits.tick_s < limits.round_trip_s
            case Stage.REBUILDING:
                return self._stage_ticks * limits.tick_s < limits.rebuild_s
            case Stage.STARTING | Stage.STOPPING:
                return True


def limits_of(config: DaemonConfig, interval_s: float | None) -> Limits:
    """The limits for a configuration, and for a service manager that wants to hear every `interval_s` seconds."""
    patience_s = 2 * ROUND_TRIP_S if interval_s is None else interval_s
    return Limits(
        tick_s=min(TICK_S, config.stall_dump_s / 5, patience_s / 5),
        dump_s=config.stall_dump_s,
        exit_s=config.stall_exit_s,
        round_trip_s=patience_s / 2,
    )


class Watchdog(ThreadActor):
    """Watches the loop it was started from. One for each daemon.

    Args:
        parts: whose stage is looked at, on the loop.
        die: ends the process with a status, at once.

    """

    def __init__(self, parts: Parts, die: Callable[[int], object] = os._exit) -> None:
        super().__init__()
        self._parts = parts
        self._die = die
        self._interval_s = watchdog_interval_s(parts.environ) if parts.notifier.active else None
        limits = limits_of(parts.config.daemon, self._interval_s)
        self.tick_s = limits.tick_s
        self._vigil = Vigil(limits)
        self._asked = False
        self._well = True

    def on_start(self) -> None:
        """Begin at once: the loop that starts the daemon may hang as well."""
        self.on_tick()

    def on_tick(self) -> None:
        """Ask the loop for a beat, and act on those that came."""
        pulse = self._parts.pulse
        step = self._vigil.tick(pulse)
        if not self._asked:  # one job at a time, however long the loop hangs
            self._asked = True
            self.post(self._beat)
        match step:
            case Step.DUMP:
                self._say(f"the event loop has hung for {self._vigil.stall_s:g} s; all threads:\n{stacks()}")
            case Step.RECOVERED:
                _log.warning("the event loop answers again, after %g s", self._vigil.stall_s)
                self.post(self._parts.bus.emit, "loop.stall", {"duration": self._vigil.stall_s}, {})
            case Step.EXIT:
                self._say(f"the event loop has hung for {self._vigil.stall_s:g} s: ending the process\n{stacks()}")
                self._die(EXIT_FAILED)
            case Step.NOTHING:
                pass
        self._feed(pulse)

    def _feed(self, pulse: Pulse) -> None:
        well = self._vigil.is_well()
        if self._well and not well and pulse.stage in (Stage.SERVING, Stage.REBUILDING):
            self._say("the daemon does not answer itself: the service manager is told nothing until it does")
        self._well = well
        if self._interval_s is None or not well:
            return
        self._parts.notifier.watchdog()
        if pulse.stage in (Stage.STARTING, Stage.STOPPING):
            self._parts.notifier.extend_timeout(max(_EXTEND_S, self._interval_s))

    def _say(self, text: str) -> None:
        """Log without being held up: whoever hangs may hold the log's lock, or stderr may be full."""
        words = threading.Thread(target=_log.critical, args=("%s", text), name="last words", daemon=True)
        with contextlib.suppress(RuntimeError):  # there can be no more threads: then without a word
            words.start()
            words.join(_LAST_WORDS_S)

    def _beat(self) -> None:
        """On the loop."""
        self._asked = False
        self._parts.pulse.stage = self._parts.stage()
        self._parts.pulse.beats += 1


def stacks() -> str:
    """What every thread of the process is doing now, innermost call first."""
    # Not straight to stderr: faulthandler writes with Python's lock held, and a pipe may be full.
    try:
        with open(os.memfd_create("stacks"), "w+b", buffering=0) as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            return file.read().decode("utf-8", "replace").rstrip()
    except OSError as error:  # no descriptor, say: whoever hangs is ended all the same
        return f"(no stacks: {error})"
