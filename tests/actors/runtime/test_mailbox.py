"""The bounded mailbox with its control lane."""

from __future__ import annotations

import threading

import pytest
import trio
from pykka import ActorDeadError
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from skill_actors.runtime import Mailbox, MailboxFull
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
