"""What is not a conversation: named documents with versions, and the numbered line of workshop events."""

from skill_actors.store.documents.base import (
    MAX_DOCUMENT_BYTES,
    MAX_EVENT_BYTES,
    Applied,
    Change,
    Counted,
    Document,
    DocumentConflict,
    DocumentDamaged,
    DocumentHead,
    DocumentsFull,
    DocumentStore,
    DocumentTooLarge,
    NewEvent,
    Room,
    WorkshopEvent,
)
from skill_actors.store.documents.sqlite import SqliteDocuments

__all__ = [
    "MAX_DOCUMENT_BYTES",
    "MAX_EVENT_BYTES",
    "Applied",
    "Change",
    "Counted",
    "Document",
    "DocumentConflict",
    "DocumentDamaged",
    "DocumentHead",
    "DocumentStore",
    "DocumentTooLarge",
    "DocumentsFull",
    "NewEvent",
    "Room",
    "SqliteDocuments",
    "WorkshopEvent",
]
