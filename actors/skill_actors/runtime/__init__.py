"""Supervised actors: pykka's contract on trio's tasks, OTP's supervision. See README.md in this folder."""

from pykka import ActorDeadError, Timeout

from skill_actors.runtime.actor import TrioActor
from skill_actors.runtime.directory import Directory, NamedRef
from skill_actors.runtime.dynamic import DynamicSupervisor, DynamicSupervisorRef
from skill_actors.runtime.errors import (
    BlockingInTrioThread,
    ChildError,
    HandlerInterrupted,
    MailboxFull,
    NameNotRegistered,
    Reject,
    RestartLimitReached,
    StartFailed,
    SystemFailed,
    UnkillableChild,
)
from skill_actors.runtime.exit import ExitKind, ExitReason
from skill_actors.runtime.future import TrioFuture
from skill_actors.runtime.mailbox import Mailbox
from skill_actors.runtime.messages import Ask, Down
from skill_actors.runtime.ref import TrioActorRef
from skill_actors.runtime.report import Report, ReportEvent, Reports
from skill_actors.runtime.spec import BRUTAL_KILL, Backoff, ChildInfo, ChildSpec, Restart, Strategy
from skill_actors.runtime.supervisor import Supervisor
from skill_actors.runtime.supervisor_ref import SupervisorRef
from skill_actors.runtime.system import EXIT_FAILED, EXIT_OK, ActorSystem, open_system, run, serve

__all__ = [
    "BRUTAL_KILL",
    "EXIT_FAILED",
    "EXIT_OK",
    "ActorDeadError",
    "ActorSystem",
    "Ask",
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
    "Mailbox",
    "MailboxFull",
    "NameNotRegistered",
    "NamedRef",
    "Reject",
    "Report",
    "ReportEvent",
    "Reports",
    "Restart",
    "RestartLimitReached",
    "StartFailed",
    "Strategy",
    "Supervisor",
    "SupervisorRef",
    "SystemFailed",
    "Timeout",
    "TrioActor",
    "TrioActorRef",
    "TrioFuture",
    "UnkillableChild",
    "open_system",
    "run",
    "serve",
]
