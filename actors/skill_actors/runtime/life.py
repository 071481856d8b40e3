"""The life of an actor's task: start, messages, end.

`on_start`, `setup` -> messages -> jobs are ended -> `on_stop` (or `on_failure` after a crash) -> `teardown(reason)`.
Rules:
- control messages first; up to `slice_messages` messages or `slice_s` seconds without a checkpoint, then one;
- whatever is awaited is awaited inside a cancel scope that the cell knows, so that stop and kill reach it;
- no exception of the actor leaves `live`: it becomes the ExitReason. Cancellation does leave it, always;
- every queued ask is answered, whatever happens.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Coroutine
from time import perf_counter
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, cast

import trio
from pykka import ActorDeadError
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from skill_actors.runtime import chain
from skill_actors.runtime.cell import Cell, Phase
from skill_actors.runtime.errors import HandlerInterrupted, Reject
from skill_actors.runtime.exit import ExitKind, ExitReason, detached, format_error, split_cancelled
from skill_actors.runtime.future import TrioFuture
from skill_actors.runtime.messages import Control, Stop

if TYPE_CHECKING:
    from skill_actors.runtime.actor import TrioActor

__all__ = ["finish", "live", "run_job"]

_Envelope = Envelope[Any]
_NORMAL: Final = ExitReason(ExitKind.NORMAL)
_log = logging.getLogger(__name__)


def finish(cell: Cell, reason: ExitReason) -> None:
    """The actor is gone: answer what is queued, and tell whoever waits for the end."""
    _refuse_queued(cell)
    cell.finish(reason)
    if cell.stop_reply is not None:
        cell.stop_reply.set(None)


async def live(
    actor: TrioActor,
    start_timeout_s: float,
    shutdown_s: float,
    end: Callable[[Cell, ExitReason], object] = finish,
) -> ExitReason:
    """Run an actor from start to end; why it ended. Raises only cancellation; calls `end` in any case."""
    cell = actor._cell
    try:
        reason = await _start(actor, start_timeout_s)
        if reason is None:
            cell.enter(Phase.RUNNING)
            reason = await _serve(actor)
            if reason is None:
                reason = await _serve_beside_jobs(actor)
        reason = await _close(actor, reason, shutdown_s)
    except BaseException as error:
        cancelled, rest = split_cancelled(error)
        reason = ExitReason(ExitKind.CRASH if cancelled is None else ExitKind.KILLED, rest)
        end(cell, reason)
        if cancelled is not None:
            raise cancelled from None
    else:
        end(cell, reason)
    return reason


def _own(error: BaseException) -> BaseException:
    """`error`, unless cancellation is part of it: that goes on upwards."""
    if split_cancelled(error)[0] is not None:
        raise error
    return error


# Start


async def _start(actor: TrioActor, timeout_s: float) -> ExitReason | None:
    cell = actor._cell
    cell.enter(Phase.STARTING)
    if (asked := cell.asked_to_stop()) is not None:
        return asked
    scope = token = None
    try:
        actor.on_start()
        if actor._runtime_starts_async:
            token = chain.enter(cell)
            with trio.CancelScope(deadline=trio.current_time() + timeout_s) as scope:
                cell.await_in(scope)
                await actor.setup()
    except BaseException as error:
        return ExitReason(ExitKind.INIT, _own(error))
    finally:
        cell.scope = None
        if token is not None:
            chain.leave(token)
    if scope is None or not scope.cancelled_caught:
        return None
    late = TimeoutError(f"{type(actor).__name__} was not set up within {timeout_s} s")
    return cell.asked_to_stop() or ExitReason(ExitKind.INIT, late)


# Messages


async def _serve(actor: TrioActor) -> ExitReason | None:
    """Handle messages until there is a reason to end, or (None) until there are jobs to run beside them."""
    cell = actor._cell
    mailbox = cell.mailbox
    outcome: Any
    cell.progress_at = now = perf_counter()
    left, until = actor.slice_messages, now + actor.slice_s
    while cell.jobs is None:
        item = mailbox.try_receive()
        if item is None:
            cell.progress_at = now = until = 0.0  # one float for all idle actors, where each would keep its own
            mailbox.park()
            await trio.lowlevel.wait_task_rescheduled(mailbox.unpark)
            cell.progress_at = now = perf_counter()
            left, until = actor.slice_messages, now + actor.slice_s
            if cell.begun is not None and (outcome := await _go_on(actor, *cell.begun)) is not None:
                return outcome
            continue
        if type(item) is Envelope:
            outcome = _dispatch(actor, item)
            if type(outcome) is CoroutineType:
                outcome = await _await_handler(actor, item, outcome)
        else:
            outcome = await _control(actor, cast("Control", item))
        if outcome is not None:
            return cast("ExitReason", outcome)
        left -= 1
        now = perf_counter()
        if left <= 0 or now >= until:
            await trio.lowlevel.checkpoint()
            now = perf_counter()
            left, until = actor.slice_messages, now + actor.slice_s
        cell.progress_at = now
    return None


async def _go_on(actor: TrioActor, envelope: _Envelope, rest: Any) -> ExitReason | None:
    """Go on with a message whose sync part was served inline: with its coroutine, or its crash."""
    actor._cell.begun = None
    if type(rest) is CoroutineType:
        return await _await_handler(actor, envelope, rest)
    try:
        return _failed(actor, envelope, rest)
    finally:
        del envelope, rest  # as in _dispatch


def _dispatch(actor: TrioActor, envelope: _Envelope) -> Any:
    """Handle a message. A coroutine is the rest of an async handler; an ExitReason ends the actor."""
    reply = cast("TrioFuture[Any] | None", envelope.reply_to)
    if reply is not None and reply.abandoned:
        return None
    if isinstance(envelope.message, _ActorStop):
        actor._cell.stop_reply = reply
        return _NORMAL
    try:
        result = actor._handle_receive(envelope.message)
    except BaseException as error:
        try:
            return _failed(actor, envelope, error)
        finally:
            del envelope, reply  # the traceback reaches this frame, and they reach the error: no cycles
    if type(result) is CoroutineType:
        return result
    if reply is not None:
        reply.set(result)
    return None


async def _await_handler(
    actor: TrioActor, envelope: _Envelope, coroutine: Coroutine[Any, Any, Any]
) -> ExitReason | None:
    """Await the rest of an async handler, where stop, interrupt and kill can reach it."""
    cell, reply = actor._cell, cast("TrioFuture[Any] | None", envelope.reply_to)
    token = chain.enter(cell)
    try:
        with cell.scope or trio.CancelScope() as scope:  # there is one already if the message was begun inline
            cell.await_in(scope)
            cell.handling = envelope.message
            if reply is not None and getattr(envelope.message, "cancel_with_caller", False):
                reply.on_abandon = scope.cancel
            result = await coroutine
        if scope.cancelled_caught:
            _answer_cancelled(actor, envelope)
        elif reply is not None:
            reply.set(result)
    except BaseException as error:
        if split_cancelled(error)[0] is None:
            return _failed(actor, envelope, error)
        _refuse(envelope)
        raise
    finally:
        cell.scope = cell.handling = None
        chain.leave(token)
        if reply is not None:
            reply.on_abandon = None
        del envelope, reply  # as in _dispatch
    return None


def _answer_cancelled(actor: TrioActor, envelope: _Envelope) -> None:
    if actor._cell.stop_reason is not None:
        _refuse(envelope)
    elif isinstance(envelope.reply_to, TrioFuture):
        handling = type(envelope.message).__name__
        error = HandlerInterrupted(f"{type(actor).__name__} was interrupted while it handled {handling}")
        envelope.reply_to.fail(error)


def _failed(actor: TrioActor, envelope: _Envelope, error: BaseException) -> ExitReason | None:
    """What a handler's exception means: an answer, or an answer and the end."""
    reply = cast("TrioFuture[Any] | None", envelope.reply_to)
    if isinstance(error, Reject):
        if reply is None:
            _log.debug("%s rejected a message that nobody asked: %s", type(actor).__name__, error)
        else:
            reply.fail(error)
        return None
    if reply is None:
        return ExitReason(ExitKind.CRASH, error)
    kept = detached(error)
    reply.fail(error if isinstance(error, Exception) else ActorDeadError(f"{actor.actor_ref} ended: {error!r}"))
    return ExitReason(ExitKind.CRASH, kept)


async def _control(actor: TrioActor, message: Control) -> ExitReason | None:
    if isinstance(message, Stop):
        return message.reason
    cell = actor._cell
    result = None  # stays so if a stop cancels it, which is then the next control message
    try:
        with trio.CancelScope() as scope:
            result = actor._runtime_control(message)
            if type(result) is CoroutineType:
                cell.await_in(scope)
                awaiting, result = result, None
                token = chain.enter(cell)
                try:
                    result = await awaiting
                finally:
                    chain.leave(token)
    except BaseException as error:
        return ExitReason(ExitKind.CRASH, _own(error))
    finally:
        cell.scope = None
    return result if isinstance(result, ExitReason) else None


# Jobs


async def _serve_beside_jobs(actor: TrioActor) -> ExitReason:
    cell = actor._cell
    reason = None
    try:
        async with trio.open_nursery() as nursery:
            jobs, cell.jobs, cell.job_nursery = cell.jobs or [], None, nursery
            for job, args in jobs:
                nursery.start_soon(run_job, cell, job, args)
            reason = await _serve(actor)
            nursery.cancel_scope.cancel()
    except BaseException as error:  # a handler that a failed job cancelled failed as well, in a nursery of its own
        reason = ExitReason(ExitKind.CRASH, _own(error))
    failed, cell.job_error = cell.job_error, None
    return ExitReason(ExitKind.CRASH, failed) if failed is not None else cast("ExitReason", reason)


async def run_job(cell: Cell, job: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> None:
    """One background job: its failure ends the nursery, and with it the serving of messages."""
    chain.forget()
    try:
        await job(*args)
    except BaseException as error:
        cancelled, rest = split_cancelled(error)
        if rest is not None and cell.job_nursery is not None:
            cell.job_error = cell.job_error or rest
            cell.job_nursery.cancel_scope.cancel()
        if cancelled is not None:
            raise cancelled from None


# End


async def _close(actor: TrioActor, reason: ExitReason, shutdown_s: float) -> ExitReason:
    """Refuse what is queued, then run the stop hooks, shielded.

    Who was asked to stop is killed by its supervisor in time; who ends by itself, or with an actor it is linked to,
    has `shutdown_s` seconds.
    """
    cell = actor._cell
    limit_s = shutdown_s if cell.stop_reason is None or cell.self_bounded else math.inf
    hooks = cell.phase is Phase.RUNNING
    cell.enter(Phase.CLOSING)
    cell.progress_at = 0.0
    _refuse_queued(cell)
    scope = token = None
    try:
        if actor._runtime_ends_async:
            token = chain.enter(cell)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + limit_s) as scope:
                cell.scope = scope
                await actor._runtime_release()
                if hooks and not cell.killed:
                    _tell_sync_hook(actor, reason)
                    await actor.teardown(reason)
        elif hooks and not cell.killed:
            _tell_sync_hook(actor, reason)
    except BaseException as error:
        crash = ExitReason(ExitKind.CRASH, _own(error))
        if reason.abnormal:
            _log.error("%s failed again while it stopped:\n%s", type(actor).__name__, format_error(error))
        reason = reason if reason.abnormal and isinstance(error, Exception) else crash
    finally:
        if token is not None:
            chain.leave(token)
    if scope is not None and scope.cancelled_caught and not cell.killed:
        late = TimeoutError(f"{type(actor).__name__} did not end within {shutdown_s} s")
        return ExitReason(ExitKind.KILLED, reason.error or late)
    return ExitReason(ExitKind.KILLED, reason.error) if cell.killed else reason


def _tell_sync_hook(actor: TrioActor, reason: ExitReason) -> None:
    if reason.kind is ExitKind.CRASH:
        error = reason.error
        actor.on_failure(type(error) if error else None, error, error.__traceback__ if error else None)
    else:
        actor.on_stop()


def _refuse_queued(cell: Cell) -> None:
    for envelope in cell.mailbox.close():
        _refuse(envelope)


def _refuse(envelope: _Envelope) -> None:
    """Answer a message that will not be handled, or not to its end."""
    if not isinstance(envelope.reply_to, TrioFuture):
        return
    if isinstance(envelope.message, _ActorStop):
        envelope.reply_to.set(None)
    else:
        name = type(envelope.message).__name__
        envelope.reply_to.fail(ActorDeadError(f"the actor stopped before it answered {name}; look it up again"))
