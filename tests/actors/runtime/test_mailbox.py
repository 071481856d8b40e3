"""The bounded mailbox with its control lane."""

from __future__ import annotations

import queue
import threading

import pytest
import trio
from pykka import ActorDeadError
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from skill_actors.runtime import Mailbox, MailboxFull, Overflow, Tally, TrioFuture
from skill_actors.runtime.exit import ExitKind, ExitReason
from skill_actors.runtime.messages import Control, Stop
from support import run, run_virtual

STOP = Stop(ExitReason(ExitKind.SHUTDOWN))


def message_of(item: Envelope[object] | Control | None) -> object:
    assert isinstance(item, Envelope)
    return item.message


def fill(mailbox: Mailbox, *messages: object) -> None:
    for message in messages:
        mailbox.put_nowait(Envelope(message))


def drain(mailbox: Mailbox) -> list[object]:
    taken = []
    while (item := mailbox.try_receive()) is not None:
        taken.append(message_of(item))
    return taken


def test_a_full_mailbox_refuses_a_tell_and_names_the_way_out() -> None:
    mailbox = Mailbox("Session", 2)
    fill(mailbox, 1, 2)
    with pytest.raises(MailboxFull, match=r"Session is full \(2 messages\).*await ref.send"):
        fill(mailbox, 3)
    assert drain(mailbox) == [1, 2]


def test_a_capacity_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        Mailbox("Session", 0)


def test_senders_wait_for_room_and_enter_in_order() -> None:
    async def main() -> list[object]:
        mailbox = Mailbox("Session", 2)
        fill(mailbox, 0, 1)
        async with trio.open_nursery() as nursery:
            for number in (2, 3, 4):
                nursery.start_soon(mailbox.send, Envelope(number))
                await trio.testing.wait_all_tasks_blocked()
            taken: list[object] = []
            while len(taken) < 5:
                taken += [message_of(mailbox.try_receive())]
                assert len(mailbox) <= 2
                await trio.lowlevel.checkpoint()
        return taken

    assert run_virtual(main) == [0, 1, 2, 3, 4]


def test_a_tell_cannot_overtake_a_waiting_sender() -> None:
    async def main() -> None:
        mailbox = Mailbox("Session", 1)
        fill(mailbox, 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mailbox.send, Envelope(1))
            await trio.testing.wait_all_tasks_blocked()
            assert message_of(mailbox.try_receive()) == 0
            with pytest.raises(MailboxFull):
                fill(mailbox, 2)
        assert drain(mailbox) == [1]

    run_virtual(main)


def test_a_cancelled_sender_leaves_no_message() -> None:
    async def main() -> None:
        mailbox = Mailbox("Session", 1)
        fill(mailbox, 0)
        with trio.move_on_after(1):
            await mailbox.send(Envelope("cancelled"))
        assert drain(mailbox) == [0]

    run_virtual(main)


def test_control_passes_a_full_mailbox() -> None:
    mailbox = Mailbox("Session", 1)
    fill(mailbox, 0)
    mailbox.put_control(STOP)
    assert mailbox.try_receive() is STOP
    assert drain(mailbox) == [0]


def test_pykkas_stop_is_admitted_past_the_bound_in_its_turn() -> None:
    mailbox = Mailbox("Session", 1)
    fill(mailbox, 0, _ActorStop())
    assert drain(mailbox) == [0, _ActorStop()]


def test_closing_returns_what_is_left_and_fails_waiting_senders() -> None:
    async def main() -> None:
        mailbox = Mailbox("Session", 1)
        fill(mailbox, 0)
        failed = []

        async def sender() -> None:
            with pytest.raises(ActorDeadError, match="Session has stopped"):
                await mailbox.send(Envelope(1))
            failed.append(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender)
            await trio.testing.wait_all_tasks_blocked()
            assert [envelope.message for envelope in mailbox.close()] == [0]
        assert failed == [1]
        with pytest.raises(ActorDeadError):
            await mailbox.send(Envelope(2))
        with pytest.raises(ActorDeadError):
            fill(mailbox, 2)
        mailbox.put_control(STOP)
        assert mailbox.try_receive() is None

    run_virtual(main)


def test_a_thread_waits_for_room_instead_of_failing() -> None:
    async def main() -> None:
        mailbox = Mailbox("Session", 1)
        mailbox.bind(trio.lowlevel.current_trio_token(), threading.get_ident())
        fill(mailbox, 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, mailbox.put, Envelope("from a thread"))
            await trio.sleep(0.02)
            assert message_of(mailbox.try_receive()) == 0
        assert drain(mailbox) == ["from a thread"]

    run(main)


def test_drop_oldest_makes_room_and_answers_what_it_drops() -> None:
    mailbox = Mailbox("Feed", 2, Overflow.DROP_OLDEST)
    future = TrioFuture[None]()
    mailbox.put_nowait(Envelope(0, future))
    fill(mailbox, 1, 2, 3)
    with pytest.raises(MailboxFull, match=r"mailbox of Feed was full \(2 messages\): this one was dropped"):
        future.get(timeout=0)
    assert drain(mailbox) == [2, 3]


def test_drop_new_lets_go_what_comes_and_answers_it() -> None:
    mailbox = Mailbox("Feed", 2, Overflow.DROP_NEW)
    fill(mailbox, 0, 1, 2)
    future = TrioFuture[None]()
    mailbox.put_nowait(Envelope(3, future))
    with pytest.raises(MailboxFull, match="was dropped"):
        future.get(timeout=0)
    assert drain(mailbox) == [0, 1]


@pytest.mark.parametrize("overflow", [Overflow.DROP_OLDEST, Overflow.DROP_NEW])
def test_senders_never_wait_where_messages_are_dropped(overflow: Overflow) -> None:
    async def main() -> None:
        mailbox = Mailbox("Feed", 1, overflow)
        mailbox.bind(trio.lowlevel.current_trio_token(), threading.get_ident())
        with trio.CancelScope() as scope:
            scope.cancel()  # a wait, or a checkpoint, would be cancelled
            for number in range(3):
                await mailbox.send(Envelope(number))
        assert not scope.cancelled_caught
        await trio.to_thread.run_sync(mailbox.put, Envelope(3))
        assert drain(mailbox) == [3 if overflow is Overflow.DROP_OLDEST else 0]

    run(main)


@pytest.mark.parametrize("overflow", [Overflow.DROP_OLDEST, Overflow.DROP_NEW])
def test_stop_messages_are_never_dropped(overflow: Overflow) -> None:
    mailbox = Mailbox("Feed", 2, overflow)
    fill(mailbox, _ActorStop(), 1, _ActorStop(), 2, 3)
    expected = [_ActorStop(), _ActorStop(), 3] if overflow is Overflow.DROP_OLDEST else [_ActorStop(), 1, _ActorStop()]
    assert drain(mailbox) == expected


def test_with_nothing_but_stops_in_it_the_lane_does_not_grow() -> None:
    mailbox = Mailbox("Feed", 1, Overflow.DROP_OLDEST)
    fill(mailbox, _ActorStop(), *range(100))
    assert drain(mailbox) == [_ActorStop()]


def test_what_is_refused_and_what_is_dropped_is_counted() -> None:
    tally = Tally()
    for overflow in Overflow:
        mailbox = Mailbox("Feed", 1, overflow)
        mailbox.tally = tally
        fill(mailbox, 0)
        for _ in range(2):
            try:
                fill(mailbox, 1)
            except MailboxFull:
                assert overflow is Overflow.RAISE
    counts = tally.snapshot()
    assert (counts["mailbox_rejected"], counts["mailbox_dropped"]) == ({"Feed": 2}, {"Feed": 4})


def test_pykkas_protocol_takes_messages_in_order_and_never_waits() -> None:
    mailbox = Mailbox("Session", 2)
    assert mailbox.empty()
    fill(mailbox, 1, 2)
    assert not mailbox.empty()
    assert [message_of(mailbox.get()) for _ in range(2)] == [1, 2]
    with pytest.raises(queue.Empty):
        mailbox.get()


def test_a_thread_can_stop_an_actor_whose_mailbox_is_full() -> None:
    async def main() -> None:
        mailbox = Mailbox("Session", 1)
        mailbox.bind(trio.lowlevel.current_trio_token(), threading.get_ident())
        fill(mailbox, 0)
        await trio.to_thread.run_sync(mailbox.put, Envelope(_ActorStop()))
        assert drain(mailbox) == [0, _ActorStop()]

    run(main)


def test_a_thread_that_outlives_the_trio_run_is_told_that_the_actor_has_stopped() -> None:
    mailbox = Mailbox("Session", 1)

    async def main() -> None:
        mailbox.bind(trio.lowlevel.current_trio_token(), threading.get_ident())

    run(main)
    told: list[Exception] = []

    def late() -> None:
        try:
            mailbox.put(Envelope("late"))
        except Exception as error:
            told.append(error)

    thread = threading.Thread(target=late)
    thread.start()
    thread.join(10)
    assert [type(error) for error in told] == [ActorDeadError]


def test_a_receiver_that_is_cancelled_is_not_woken_later() -> None:
    async def main() -> None:
        mailbox = Mailbox("Session", 1)
        with trio.move_on_after(1):
            mailbox.park()
            assert mailbox.parked is trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(mailbox.unpark)
        assert mailbox.parked is None
        fill(mailbox, 1)  # waking a task that does not wait is an error inside of trio
        assert drain(mailbox) == [1]

    run_virtual(main)


def test_a_mailbox_holds_1024_messages_unless_told_otherwise() -> None:
    mailbox = Mailbox()
    assert (mailbox.owner, mailbox.capacity, mailbox.overflow, mailbox.closed) == ("actor", 1024, Overflow.RAISE, False)


def test_a_stop_past_the_bound_lets_no_sender_in_before_there_is_room() -> None:
    async def main() -> None:
        mailbox = Mailbox("Session", 1)
        fill(mailbox, 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mailbox.send, Envelope(1))
            await trio.testing.wait_all_tasks_blocked()
            fill(mailbox, _ActorStop())
            assert message_of(mailbox.try_receive()) == 0
            assert len(mailbox) == 1
            assert drain(mailbox) == [_ActorStop(), 1]

    run_virtual(main)


def test_before_its_actor_has_a_trio_run_anybody_may_put_a_message_in() -> None:
    mailbox = Mailbox("Session", 1)
    mailbox.put(Envelope(1))
    with pytest.raises(MailboxFull):
        mailbox.put(Envelope(2))
    assert drain(mailbox) == [1]
