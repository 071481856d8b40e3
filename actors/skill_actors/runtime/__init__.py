"""Supervised actors: pykka's contract on trio's tasks, OTP's supervision. See README.md in this folder."""

from pykka import ActorDeadError, Timeout

from skill_actors.runtime.actor import TrioActor
from skill_actors.runtime.directory import Directory, NamedRef
from skill_actors.runtime.dynamic import DynamicSupervisor, DynamicSupervisorRef
from skill_actors.runtime.errors import (
    AskCycle,
    BlockingInTrioThread,
    ChildError,
    HandlerInterrupted,
    LinkedActorEnded,
    MailboxFull,
    NameNotRegistered,
    Reject,
    RequestRefused,
    RestartLimitReached,
    StartFailed,
    SystemFailed,
    UnkillableChild,
    WorkerBroken,
    WorkerEnded,
    WorkerError,
    WorkerKilled,
    WorkerNotStarted,
    WorkerTimeout,
)
from skill_actors.runtime.exit import ExitKind, ExitReason
from skill_actors.runtime.future import TrioFuture
from skill_actors.runtime.mailbox import Mailbox, Overflow
from skill_actors.runtime.messages import Ask, Down, Ping
from skill_actors.runtime.poison import Admission, Poison
from skill_actors.runtime.process import ProcessActor
from skill_actors.runtime.process_spec import Perform, WorkerLimits, WorkerSpec
from skill_actors.runtime.ref import TrioActorRef
from skill_actors.runtime.report import Report, ReportEvent, Reports
from skill_actors.runtime.spec import BRUTAL_KILL, AutoShutdown, Backoff, ChildInfo, ChildSpec, Restart, Strategy
from skill_actors.runtime.supervisor import Supervisor
from skill_actors.runtime.supervisor_ref import SupervisorRef
from skill_actors.runtime.system import EXIT_FAILED, EXIT_OK, ActorSystem, open_system, run, serve
from skill_actors.runtime.tally import Tallied, Tally
from skill_actors.runtime.thread import ThreadActor, threads_leaked

__all__ = [
    "BRUTAL_KILL",
    "EXIT_FAILED",
    "EXIT_OK",
    "ActorDeadError",
    "ActorSystem",
    "Admission",
    "Ask",
    "AskCycle",
    "AutoShutdown",
    "Backoff",
    "BlockingInTrioThread",
    "ChildError",
    "ChildInfo",
    "ChildSpec",
    "Directory",
    "Down",
    "DynamicSupervisor",
    "DynamicSupervisorRef",
    "ExitKind",
    "ExitReason",
    "HandlerInterrupted",
    "LinkedActorEnded",
    "Mailbox",
    "MailboxFull",
    "NameNotRegistered",
    "NamedRef",
    "Overflow",
    "Perform",
    "Ping",
    "Poison",
    "ProcessActor",
    "Reject",
    "Report",
    "ReportEvent",
    "Reports",
    "RequestRefused",
    "Restart",
    "RestartLimitReached",
    "StartFailed",
    "Strategy",
    "Supervisor",
    "SupervisorRef",
    "SystemFailed",
    "Tallied",
    "Tally",
    "ThreadActor",
    "Timeout",
    "TrioActor",
    "TrioActorRef",
    "TrioFuture",
    "UnkillableChild",
    "WorkerBroken",
    "WorkerEnded",
    "WorkerError",
    "WorkerKilled",
    "WorkerLimits",
    "WorkerNotStarted",
    "WorkerSpec",
    "WorkerTimeout",
    "open_system",
    "run",
    "serve",
    "threads_leaked",
]
