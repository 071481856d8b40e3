"""The workshop of one daemon: what its parts are made of, and the actor that makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skill_actors.errors import Refused
from skill_actors.runtime import ChildSpec, Supervisor, TrioActor
from skill_actors.store import SqliteJournal
from skill_actors.workshop.agents import AgentDesk, AgentSurroundings
from skill_actors.workshop.agents.crashes import CrashRules
from skill_actors.workshop.board import Board, Workers
from skill_actors.workshop.entries import Entries
from skill_actors.workshop.events import Feed
from skill_actors.workshop.git.run import Git
from skill_actors.workshop.schedules import Scheduler, Schedules
from skill_actors.workshop.setup_file.setups import SetupFiles, Shop
from skill_actors.workshop.sweeping import Sweeper
from skill_actors.workshop.workflows.runner import Runner
from skill_actors.workshop.workflows.runs import Runs
from skilld.agent_bridge import check_tools
from skilld.board import board_children, open_board, open_workers
from skilld.monitor.alerts.keeper import alert_children
from skilld.monitor.inspection.children import inspection_children
from skilld.monitor.inspection.sessions import session_children
from skilld.monitor.keeper import monitor_children
from skilld.monitor.otlp.listening import otlp_children
from skilld.monitor.sinks.children import sink_children
from skilld.plans import plan_children
from skilld.workshop_setup import setup_children

if TYPE_CHECKING:
    from skilld.parts import Parts

__all__ = ["AgentWatcher", "Workshop", "WorkshopKeeper", "extras", "workshop_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """The workshop over one journal, by noun."""

    journal: SqliteJournal
    feed: Feed
    entries: Entries
    agents: AgentDesk
    board: Board
    workers: Workers
    schedules: Schedules
    scheduler: Scheduler
    runs: Runs
    runner: Runner
    setup_files: SetupFiles


class WorkshopKeeper(TrioActor):
    """Makes the workshop over the journal that is open now, and publishes it.

    One that is made again publishes what there is already: the actors beside it go on with that.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self._parts = parts

    async def setup(self) -> None:
        parts, journal = self._parts, self._parts.journal.get()
        config = parts.config.workshop
        made = parts.workshop.peek()
        if made is not None and made.journal is journal:
            return
        documents = journal.documents
        feed = Feed(documents, parts.bus)
        desk = AgentDesk(
            AgentSurroundings(
                sessions=parts.sessions.get(),
                journal=journal,
                documents=documents,
                ledger=parts.ledger.get(),
                spent=journal.ledger,
                bus=parts.bus,
                rules=CrashRules(
                    max_crashes=config.max_crashes,
                    period_s=config.crash_period_s,
                    max_per_prompt=config.max_crashes_per_message,
                ),
                max_agents=config.max_agents,
                check_tools=check_tools,
            ),
            Git(program=config.git),
        )
        board = open_board(parts, feed)
        workers = open_workers(parts, feed, board, desk)
        entries = Entries(documents, feed, room=lambda: _room(parts))
        schedules = Schedules(documents, feed)
        runs = Runs(documents, feed, keep_days=lambda: parts.config.retention.workshop_run_days)
        await schedules.open()
        await runs.open()
        parts.workshop.put(
            Workshop(
                journal=journal,
                feed=feed,
                entries=entries,
                agents=desk,
                board=board,
                workers=workers,
                schedules=schedules,
                scheduler=Scheduler(schedules, desk),
                runs=runs,
                runner=Runner(runs, desk, board),
                setup_files=SetupFiles(
                    Shop(
                        documents=documents,
                        feed=feed,
                        desk=desk,
                        board=board,
                        workers=workers,
                        schedules=schedules,
                        runs=runs,
                        entries=entries,
                    )
                ),
            )
        )


def _room(parts: Parts) -> tuple[int, int]:
    """How many values one owner may have, and bytes in them; of now: a reload may change it."""
    retention = parts.config.retention
    return retention.workshop_values, retention.workshop_value_bytes


class AgentWatcher(TrioActor):
    """Follows what becomes of agents' turns."""

    def __init__(self, desk: AgentDesk) -> None:
        super().__init__()
        self._desk = desk

    async def setup(self) -> None:
        self.spawn(self._desk.watching.run)


def extras(parts: Parts) -> Supervisor:
    """The branch of what conversations can do without. All are isolated."""
    return Supervisor(
        [
            ChildSpec(id="workshop", factory=lambda: WorkshopKeeper(parts), isolated=True, required=True),
            ChildSpec(id="agents", factory=lambda: AgentWatcher(parts.workshop.get().agents), isolated=True),
            *board_children(parts),
            *plan_children(parts),
            *setup_children(parts),
            *inspection_children(parts),
            *monitor_children(parts),
            *otlp_children(parts),
            *sink_children(parts),
            *alert_children(parts),
            *session_children(parts),
            ChildSpec(id="sweeper", factory=lambda: _sweeper(parts.workshop.get()), isolated=True),
        ]
    )


def _sweeper(workshop: Workshop) -> Sweeper:
    return Sweeper(workshop.entries, workshop.runs)


def workshop_of(parts: Parts) -> Workshop:
    """The workshop as it is now. Raises Refused while there is none."""
    workshop = parts.workshop.peek()
    if workshop is None:
        raise Refused("draining", "the workshop is starting; try again in a moment", retry_after_s=1)
    return workshop
