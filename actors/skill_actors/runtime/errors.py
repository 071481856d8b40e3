"""What the runtime raises.

Exception
  Reject                    a domain answer: the asker gets it, the actor lives
    StartFailed             a child's factory, on_start or setup failed, or took too long
    ChildError              a supervisor was asked for something its table of children does not allow
    RequestRefused          a request cannot be put into a frame for a worker process
    WorkerError             a worker process's code raised; the process lives
    WorkerKilled            a worker process was killed for what it did with a request; it is replaced
      WorkerTimeout         because it took too long
  MailboxFull               no room for a message that cannot wait
  HandlerInterrupted        the answer of an ask whose handler was interrupted
  BlockingInTrioThread      a blocking call that would stop the event loop
  AskCycle                  a call that could only wait for itself
  LinkedActorEnded          why an actor ended that was linked to another
  NameNotRegistered         nobody holds this name now
  RestartLimitReached       why a supervisor gave up
  UnkillableChild           why a supervisor gave up: a child ignores cancellation
  SystemFailed              the root supervisor gave up
  WorkerEnded               why a ProcessActor crashed: its process ended by itself
    WorkerBroken            or what it said is not the protocol
    WorkerNotStarted        or it could not be started
pykka's ActorDeadError and Timeout keep their meaning.
"""

from __future__ import annotations

__all__ = [
    "AskCycle",
    "BlockingInTrioThread",
    "ChildError",
    "HandlerInterrupted",
    "LinkedActorEnded",
    "MailboxFull",
    "NameNotRegistered",
    "Reject",
    "RequestRefused",
    "RestartLimitReached",
    "StartFailed",
    "SystemFailed",
    "UnkillableChild",
    "WorkerBroken",
    "WorkerEnded",
    "WorkerError",
    "WorkerKilled",
    "WorkerNotStarted",
    "WorkerTimeout",
]


class Reject(Exception):
    """Raised by a handler to refuse a message. It reaches the asker as it is; the actor goes on.

    Any other exception reaches the asker too, and crashes the actor.
    """


class StartFailed(Reject):
    """A child could not be started; `__cause__` says why."""


class ChildError(Reject):
    """A child is unknown, already there, running, not running, or one too many."""


class MailboxFull(Exception):
    """A `tell` found the mailbox at its bound, or an ask was dropped by an overflow policy.

    `await ref.send(message)` waits for room instead, where the policy is to refuse.
    """


class HandlerInterrupted(Exception):
    """The handler of this ask was cancelled by `ref.interrupt()`."""


class BlockingInTrioThread(RuntimeError):
    """`Future.get` or `ask(block=True)` on the trio thread. Await the future, or use `ref.call`."""


class AskCycle(RuntimeError):
    """A call to an actor that waits, directly or not, for the caller: neither would ever go on. Nothing was sent."""


class LinkedActorEnded(Exception):
    """An actor that this one was linked to ended, and not by its own wish."""


class NameNotRegistered(LookupError):
    """No living actor holds the name. It may come back: `Directory.wait` waits for it."""


class RestartLimitReached(Exception):
    """More restarts than the supervisor tolerates within its period."""


class UnkillableChild(Exception):
    """A child went on running after it was cancelled. Its replacement is never started beside it."""


class SystemFailed(Exception):
    """The root supervisor gave up; `__cause__` says why where that is known."""


class RequestRefused(Reject):
    """A request that is neither bytes nor finite JSON in UTF-8, or is larger than a frame may be. Nothing was sent."""


class WorkerError(Reject):
    """The code in a worker process raised. The process goes on.

    Args:
        kind: class name of what was raised there.
        text: what it said.
        trace: the end of its traceback.

    """

    def __init__(self, kind: str, text: str, trace: str) -> None:
        super().__init__(kind, text, trace)
        self.kind = kind
        self.text = text
        self.trace = trace

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" if self.text else self.kind


class WorkerKilled(Reject):
    """A worker process was killed, with all that it started, because of this request. Another takes its place.

    `reason`: "timeout", "cancelled", "flood" (it printed too much), "memory" (it reached its limit), "unread" (its
    output was not taken), "unanswered" (it asked, and there was no answer).
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(reason, text)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[1])


class WorkerTimeout(WorkerKilled):
    """The request took longer than its `timeout_s`."""


class WorkerEnded(Exception):
    """A worker process ended by itself. The message has its name, exit code or signal, and the end of its stderr."""


class WorkerBroken(WorkerEnded):
    """A worker process sent what is not the protocol: garbage, half a frame, or one that is too large."""


class WorkerNotStarted(WorkerEnded):
    """A worker process was not ready in time, or its target could not be imported."""
