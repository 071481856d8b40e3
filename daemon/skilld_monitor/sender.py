"""The one thread that encodes and delivers, so that the program's own threads only enqueue.

Records go to the daemon; while it is away, or does not answer in time, to the spool file, which is sent first when it
is back. It gives way to the program after a few records that it encodes: a thread that holds the interpreter for
milliseconds would be felt in the slowest of the program's calls, and one that asks for it at each record in all of them
(0.11 ms added to a call of 0.3 ms that never waits, where 16 records at a time add 0.03).
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress

from skilld_monitor.delivery import MAX_BATCH_BYTES, MAX_BATCH_RECORDS, Closed, Delivery, DeliveryError, Refusal
from skilld_monitor.outbox import Outbox
from skilld_monitor.spool import Spool, batches, left_behind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skilld_monitor.log_file import LogFile
    from skilld_monitor.policy.holder import Holder
    from skilld_monitor.records import Record
    from skilld_monitor.scanning.masking import Mask
    from skilld_monitor.scanning.rule_set import RuleSet

__all__ = ["Sender"]

_GATHER_S = 0.05  # each batch takes the interpreter from a busy thread some seven times, whatever is in it
_SLICE = 16  # records between two chances for others, about 0.2 ms; 4 KiB count as one more
_BEHIND = 8  # of so many that wait, one more: each chance costs 5 ms for each thread of the program that is busy
_IDLE_S = 5.0
_SPOOL_S = 1.0
_ACK_S = 2.0
_MOST_FLYING = 2  # batches on their way: while the daemon writes one it has the next, and this thread encodes a third
_START_AGAIN_S = 1.0
_SPARE_S = 1.0  # less of the time at the end of a program is not spent on what others left
# Events wait: who may not report now may be let in; a program that was stopped in the middle of a batch is slow.
_LATER = ("overloaded", "slow", "forbidden")
_POLICY_EVERY_S = 60.0
_POLICY_LEAST_S = 1.0
_RETRY_S = (0.5, 1.0, 2.0, 5.0, 15.0)
_COUNTS = (
    *("delivered", "refused", "spooled", "ever_spooled"),
    *("spool_full", "spool_failed", "file_failed", "unencodable"),
)


class Sender:
    """Takes from the outbox until `close`; never raises.

    Args:
        head: of every batch, see `skilld_monitor.delivery`.
        spool_dir: for the spool file.
        log_file: gets everything too; None for none.
        policy: is kept as the daemon says it.
        mask: the program's own way to mask what waits in the spool file, see `skilld_monitor.settings.Settings`.

    """

    def __init__(
        self,
        outbox: Outbox,
        socket_path: str,
        head: dict[str, object],
        *,
        spool_dir: str,
        max_spool_bytes: int,
        log_file: LogFile | None,
        policy: Holder,
        mask: Mask | None = None,
    ) -> None:
        self._outbox = outbox
        self._head = head
        self._policy = policy
        self._delivery = Delivery(socket_path, self._hello, policy.heard)
        self._is_asked = False  # for the policy
        self._asked_at = 0.0
        self._spool_dir = spool_dir
        self._spool = Spool(spool_dir, head, max_spool_bytes)
        self._log_file = log_file
        self._mask = mask
        self._rules: RuleSet | None = None
        self._thread: threading.Thread | None = None
        self.is_started = False
        self._starting = threading.Lock()
        self._starts_again_at = 0.0  # where no thread could be started
        self._closing = False
        self._deadline = 0.0  # while closing
        self._spool_s = 0.0  # of the time until then, what is left for masking and writing what is not delivered
        self._failures = 0
        self._retry_at = 0.0
        self._handled = 0
        self._foreign_sent = False
        self._flying: list[list[bytes]] = []  # batches that were sent and not acknowledged yet, the oldest first
        self.counts = dict.fromkeys(_COUNTS, 0)
        self.problem = ""  # why records go to the spool; "" while they do not

    @property
    def handled(self) -> int:
        """Records that left the queue for good: delivered, kept in a file, or counted as lost."""
        return self._handled

    @property
    def is_over(self) -> bool:
        """Whether its thread has ended and left nothing, also where `close` did not wait so long."""
        ended = self._closing and self._thread is not None and not self._thread.is_alive()
        return ended and self._handled >= self._outbox.accepted

    @property
    def spool_bytes(self) -> int:
        """How large the spool file is; 0 while there is none."""
        return len(self._spool)

    @property
    def lost(self) -> int:
        """Records that left the queue, and the daemon will never have."""
        counts = self.counts
        return counts["refused"] + counts["spool_full"] + counts["spool_failed"] + counts["unencodable"]

    def start(self) -> None:
        """Start the thread, once. Where none can be started, as at the end of a program, `close` does all."""
        if self._thread is not None or time.monotonic() < self._starts_again_at:
            return
        if self._starting.acquire(blocking=False):  # for ever, once it is started
            try:
                if not self._closing:
                    thread = threading.Thread(target=self._run, name="skilld-monitor", daemon=True)
                    thread.start()
                    self._thread = thread
                    self.is_started = True
            except RuntimeError:  # no room for another thread, or none are started any more as the program ends
                self.problem = "no thread can be started"
                self._starts_again_at = time.monotonic() + _START_AGAIN_S
                self._starting.release()

    def close(self, timeout_s: float) -> bool:
        """Handle what is queued, and end; whether all was handled within the time. May be called twice."""
        self._deadline = time.monotonic() + timeout_s
        self._spool_s = min(_SPOOL_S, timeout_s * 0.75)  # to mask takes longer than a daemon to answer
        self._closing = True
        self._outbox.wake()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s - self._spool_s)
            if thread.is_alive():  # it may wait for an answer as if there were no end
                self._delivery.give_up()
                thread.join(self._spool_s)
            if thread.is_alive():
                return False
        self._finish()
        return True

    def ask_policy(self) -> None:
        """Ask the daemon for its policy now. Waits for nothing."""
        self._is_asked = True
        self.start()
        self._outbox.wake()

    def abandon(self) -> None:
        """After a fork, in the child: let go of what belongs to the parent, without a word to anybody."""
        self._closing = True
        self._delivery.close()
        self._spool.close()
        if self._log_file is not None:
            self._log_file.close()

    def _run(self) -> None:
        while not self._closing:
            if not len(self._outbox):
                self._settle()
            record = self._outbox.take(self._wait_s())
            if record is None:
                self._send_spooled()
            else:
                if len(self._outbox) < MAX_BATCH_RECORDS and not self._closing:
                    time.sleep(_GATHER_S)
                self._handle(record)
            self._refresh_policy()
        self._finish()

    def _hello(self) -> dict[str, object]:
        self._asked_at = time.monotonic()
        return {"hello": 1, "agent": self._head["agent"], "run": self._head["run"], "policy": self._policy.version}

    def _refresh_policy(self) -> None:
        """Say hello again where the daemon has another policy by now, or might have."""
        age_s = time.monotonic() - self._asked_at
        told = self._delivery.policy_version
        is_old = told is not None and told != self._policy.version and age_s >= _POLICY_LEAST_S
        is_due = self._delivery.connected and age_s >= _POLICY_EVERY_S
        if self._closing or not (self._is_asked or is_old or is_due):
            return
        self._is_asked = False
        self._settle()
        try:
            self._delivery.greet(_ACK_S)
        except DeliveryError as error:
            self.problem = str(error)

    def _wait_s(self) -> float:
        if not len(self._spool):
            return _IDLE_S
        return min(_IDLE_S, max(0.05, self._retry_at - time.monotonic()))

    def _finish(self) -> None:
        while True:
            record = self._outbox.take(0)
            if record is None and not len(self._outbox):
                break
            if record is not None:
                self._handle(record)
        self._settle()
        self._retry_at = 0.0
        self._send_spooled()
        self._delivery.close()
        self._spool.close()
        if self._log_file is not None:
            self._log_file.close()

    def _handle(self, record: Record | None) -> None:
        """This record and what waits behind it, as one batch."""
        records: list[Record] = []
        encoded: list[bytes] = []
        size = unyielded = 0
        while record is not None:
            raw = self._encode(record)
            if raw is not None:
                records.append(record)
                encoded.append(raw)
                size += len(raw)
            unyielded += 1 + (0 if raw is None else len(raw) >> 12)
            if unyielded >= _SLICE + len(self._outbox) // _BEHIND and not self._closing:
                unyielded = 0
                time.sleep(0)
            if len(encoded) >= MAX_BATCH_RECORDS or size >= MAX_BATCH_BYTES - (64 << 10):
                break
            record = self._outbox.take(0)
        if not records:
            return
        if self._closing:  # what may be lost at the end is the file's part, if any
            self._ship(encoded)
            self._write_log(records)
        else:
            self._write_log(records)
            self._ship(encoded)

    def _encode(self, record: Record) -> bytes | None:
        record.complete()
        try:
            return record.to_wire()
        except (ValueError, TypeError, RecursionError):  # a value that is none of the plain ones
            self.counts["unencodable"] += 1
            self._handled += 1
            return None

    def _write_log(self, records: list[Record]) -> None:
        if self._log_file is None:
            return
        try:
            self.counts["file_failed"] += self._log_file.write(records)
        except (OSError, ValueError, TypeError):
            self.counts["file_failed"] += len(records)

    def _ship(self, encoded: list[bytes]) -> None:
        """Send the batch, or keep it. Where more wait behind it, what becomes of it is seen to later."""
        self._settle(_MOST_FLYING - 1)
        if self._flying or (len(self._outbox) and self._is_under_way()):
            try:
                self._delivery.begin(self._head, encoded, self._timeout_s())
            except DeliveryError as error:
                self._flying.append(encoded)
                self._ground(error)
            else:
                self._flying.append(encoded)
            return
        self._ship_now(encoded)

    def _is_under_way(self) -> bool:
        """Whether nothing has to go before, neither a hello nor what lies in files."""
        return self._delivery.connected and self._foreign_sent and not len(self._spool)

    def _ship_now(self, encoded: list[bytes]) -> None:
        if not (self._send_spooled() and self._deliver(self._head, encoded)):
            self._keep(encoded)
        self._handled += len(encoded)

    def _keep(self, encoded: list[bytes]) -> None:
        try:
            kept = self._spool.add(self._masked(encoded))
        except OSError as error:
            self.counts["spool_failed"] += len(encoded)
            nor = f"; nor can events wait in {self._spool_dir} (SKILLD_MONITOR_SPOOL names another folder): {error}"
            if not self.problem.endswith(nor):
                self.problem += nor
            return
        self.counts["spooled"] += kept
        self.counts["ever_spooled"] += kept
        self.counts["spool_full"] += len(encoded) - kept

    def _settle(self, most: int = 0) -> None:
        """See to it that at most so many batches are on their way."""
        while len(self._flying) > most:
            try:
                refused = self._delivery.finish(self._timeout_s())
            except DeliveryError as error:
                self._ground(error)
                return
            self._arrived(self._flying.pop(0), refused)

    def _ground(self, error: DeliveryError) -> None:
        """The connection is gone: each batch that was on its way goes again, alone, or is kept.

        One that was refused for good is refused again, and counted then; those behind it are not refused with it.
        """
        flying, self._flying = self._flying, []
        is_final = isinstance(error, Refusal) and error.code not in _LATER
        if not isinstance(error, Closed) and not is_final:
            self._failed(error)
        for encoded in flying:
            self._ship_now(encoded)

    def _arrived(self, encoded: list[bytes], refused: int) -> None:
        self._failures = 0
        self.problem = ""
        self.counts["delivered"] += len(encoded) - refused
        self.counts["refused"] += refused
        self._handled += len(encoded)

    def _timeout_s(self) -> float:
        """For one batch."""
        timeout_s = _ACK_S
        if self._closing:
            timeout_s = min(_ACK_S, self._deadline - time.monotonic() - self._spool_s)
        return max(timeout_s, 0.05)

    def _send_spooled(self) -> bool:
        """Whether nothing is left in the spool file, so that new records may overtake none."""
        self._settle()
        if time.monotonic() < self._retry_at:
            return False
        try:
            for batch in self._spool.batches():
                if not self._deliver(self._head, batch):
                    return False
                self._spool.sent(batch)
                self.counts["spooled"] -= len(batch)
            self._spool.clear()
        except OSError as error:
            self.problem = str(error)
            return False
        return True

    def _deliver(self, head: dict[str, object], encoded: list[bytes]) -> bool:
        """Whether the daemon has the batch, or will never take it."""
        if time.monotonic() < self._retry_at:
            return False
        try:
            refused = self._delivery.send(head, encoded, self._timeout_s())
        except Refusal as refusal:
            if refusal.code not in _LATER:
                if head is self._head:
                    self.counts["refused"] += len(encoded)
                return True
            self._failed(refusal)
            return False
        except DeliveryError as error:
            self._failed(error)
            return False
        except Exception as error:  # whatever it was that answered: the thread goes on, and the records are kept
            self._delivery.close()
            self._failed(DeliveryError(f"its answer was of no use: {type(error).__name__}"))
            return False
        self._failures = 0
        self.problem = ""
        if head is self._head:
            self.counts["delivered"] += len(encoded) - refused
            self.counts["refused"] += refused
        self._send_left_behind()
        return True

    def _failed(self, error: DeliveryError) -> None:
        self.problem = str(error)
        self._retry_at = time.monotonic() + _RETRY_S[min(self._failures, len(_RETRY_S) - 1)]
        self._failures += 1

    def _masked(self, encoded: list[bytes]) -> list[bytes]:
        """As they may lie in a file. What masks is brought when a daemon is away, and not before."""
        from skilld_monitor.scanning.stored import masked_record

        if self._rules is None:
            from skilld_monitor.scanning.builtin import builtin

            self._rules = builtin(self._mask)
        return [masked_record(raw, self._rules) for raw in encoded]

    def _send_left_behind(self) -> None:
        """Once a run: what processes of this user could not deliver before they ended."""
        if self._foreign_sent or (self._closing and self._deadline - time.monotonic() < _SPARE_S):
            return
        self._foreign_sent = True
        try:
            for path, fd, head in left_behind(self._spool_dir, self._spool.path):
                if not all(self._deliver(head, batch) for batch in batches(fd)):
                    self._foreign_sent = False
                    return
                _remove(path)
        except OSError as error:  # a disk that cannot be read any more costs what is on it, and not this thread
            self.problem = str(error)


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
