"""What a client is told when the store of documents did not take something."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from skill_actors.errors import Refused
from skill_actors.store.base import JournalClosed, StorageFull, StoreError
from skill_actors.store.documents import DocumentConflict, DocumentDamaged, DocumentsFull, DocumentTooLarge

__all__ = ["refusal", "refusing"]


def refusal(error: StoreError) -> Refused:
    """The error as a refusal with a code."""
    match error:
        case DocumentConflict():
            details = {"expected": error.expected, "found": error.found}
            return Refused("conflict", str(error), details=details)
        case DocumentTooLarge() | DocumentsFull():
            return Refused("too_large", str(error))
        case StorageFull():
            return Refused("storage_full", f"the disk is full: {error}")
        case JournalClosed():
            return Refused("draining", "the daemon is stopping")
        case DocumentDamaged():
            return Refused("internal", str(error))
        case _:
            return Refused("internal", "the store did not take the change; the daemon's log says why")


@contextmanager
def refusing() -> Iterator[None]:
    """Raise what the store raises as Refused."""
    try:
        yield
    except StoreError as error:
        raise refusal(error) from error
