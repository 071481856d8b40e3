"""What the runtime raises.

Exception
  Reject                    a domain answer: the asker gets it, the actor lives
    StartFailed             a child's factory, on_start or setup failed, or took too long
    ChildError              a supervisor was asked for something its table of children does not allow
  MailboxFull               no room for a message that cannot wait
  HandlerInterrupted        the answer of an ask whose handler was interrupted
  BlockingInTrioThread      a blocking call that would stop the event loop
  NameNotRegistered         nobody holds this name now
  RestartLimitReached       why a supervisor gave up
  UnkillableChild           why a supervisor gave up: a child ignores cancellation
  SystemFailed              the root supervisor gave up
pykka's ActorDeadError and Timeout keep their meaning.
"""

from __future__ import annotations

__all__ = [
    "BlockingInTrioThread",
    "ChildError",
    "HandlerInterrupted",
    "MailboxFull",
    "NameNotRegistered",
    "Reject",
    "RestartLimitReached",
    "StartFailed",
    "SystemFailed",
    "UnkillableChild",
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
    """A `tell` found the mailbox at its bound. `await ref.send(message)` waits for room instead."""


class HandlerInterrupted(Exception):
    """The handler of this ask was cancelled by `ref.interrupt()`."""


class BlockingInTrioThread(RuntimeError):
    """`Future.get` or `ask(block=True)` on the trio thread. Await the future, or use `ref.call`."""


class NameNotRegistered(LookupError):
    """No living actor holds the name. It may come back: `Directory.wait` waits for it."""


class RestartLimitReached(Exception):
    """More restarts than the supervisor tolerates within its period."""


class UnkillableChild(Exception):
    """A child went on running after it was cancelled. Its replacement is never started beside it."""


class SystemFailed(Exception):
    """The root supervisor gave up; `__cause__` says why where that is known."""
