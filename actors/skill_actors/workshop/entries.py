"""Values that agents and users share: by namespace and key, with versions, and a time to live where one is given.

A value that has outlived its time is gone at once for whoever asks; `sweep` removes it for good, and tells of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from skill_actors.errors import Refused
from skill_actors.store.documents import (
    MAX_DOCUMENT_BYTES,
    Change,
    Document,
    DocumentConflict,
    DocumentHead,
    DocumentStore,
    NewEvent,
    Room,
)
from skill_actors.workshop.events import Feed
from skill_actors.workshop.names import check_name, document_id
from skill_actors.workshop.refusals import refusing

__all__ = ["MAX_KEY_BYTES", "MAX_TTL_S", "MAX_VALUE_BYTES", "Entries", "Entry", "EntryPage", "check_key"]

MAX_KEY_BYTES: Final = 255
MAX_TTL_S: Final = 10 * 366 * 86_400.0

_WRAPPER_BYTES: Final = len('{"value":}')
MAX_VALUE_BYTES: Final = MAX_DOCUMENT_BYTES - _WRAPPER_BYTES

_KIND: Final = "entry"
_AT_ONCE: Final = 200
_TRIES: Final = 20
_ROOM_KEYS: Final = 100_000
_ROOM_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A value, or where `has_value` is False only what there is to say of it.

    Args:
        version: 1 for a new one, and again for one that is put after it was deleted or has expired.
        expires: RFC 3339 UTC, or None.
        size_bytes: of the value as JSON.

    """

    namespace: str
    key: str
    version: int
    created: str
    updated: str
    expires: str | None
    owner_uid: int
    size_bytes: int
    value: Any = None
    has_value: bool = True

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "namespace": self.namespace,
            "key": self.key,
            "version": self.version,
            "created": self.created,
            "updated": self.updated,
            "expires": self.expires,
            "owner_uid": self.owner_uid,
            "size_bytes": self.size_bytes,
            **({"value": self.value} if self.has_value else {}),
        }


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Some entries without their values, by namespace and key; `next` is where to go on, None at the end."""

    items: Sequence[Entry]
    next: str | None


def check_key(key: str) -> str:
    """The key itself.

    Raises:
        Refused: bad_request, unless it is 1 to 255 bytes of UTF-8 without control characters, and no part of it between
            slashes is `.` or `..`, which programs that read addresses would take away.

    """
    try:
        size_bytes = len(key.encode())
    except UnicodeEncodeError as error:
        raise Refused("bad_request", "key: it holds half a surrogate pair") from error
    shown = ascii(key if len(key) <= 60 else f"{key[:57]}...")
    if not 1 <= size_bytes <= MAX_KEY_BYTES:
        raise Refused("bad_request", f"key {shown}: 1 to {MAX_KEY_BYTES} bytes of UTF-8")
    if any(character < " " or "\x7f" <= character <= "\x9f" or character == "\U0010ffff" for character in key):
        raise Refused("bad_request", f"key {shown}: without control characters")
    if {".", ".."} & set(key.split("/")):
        raise Refused("bad_request", f"key {shown}: no part between slashes may be '.' or '..'")
    return key


class Entries:
    """The store of values over one Feed. Whoever calls says whose they are.

    Args:
        now: the time, in UTC.
        room: how many keys, and bytes of values, one owner may have at most.

    """

    def __init__(
        self,
        store: DocumentStore,
        feed: Feed,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        room: Callable[[], tuple[int, int]] = lambda: (_ROOM_KEYS, _ROOM_BYTES),
    ) -> None:
        self._store = store
        self._feed = feed
        self._now = now
        self._room = room

    async def put(
        self,
        owner_uid: int,
        namespace: str,
        key: str,
        value: Any,
        *,
        expected: int | None = None,
        ttl_s: float | None = None,
    ) -> Entry:
        """Store a value durably.

        Args:
            value: JSON-ready, less than 1 MiB as JSON.
            expected: the version it must be at; 0: it must not exist; None: whatever.
            ttl_s: it is gone after so many seconds; None: it stays.

        Raises:
            Refused: conflict, with the version `found` in its details; too_large, bad_request, storage_full, draining.

        """
        id_ = _id(owner_uid, namespace, key)
        change = Change(
            kind=_KIND,
            id=id_,
            owner_uid=owner_uid,
            data={"value": value},
            expected=_checked_version(expected),
            expires=self._expires(ttl_s),
        )
        event = _event(owner_uid, "put", namespace=namespace, key=key)
        keys, size_bytes = self._room()
        room = Room(kind=_KIND, owner_uid=owner_uid, documents=keys, size_bytes=size_bytes)
        try:
            with refusing():
                applied = await self._feed.apply((change,), (event,), opens_work=True, room=(room,))
        except Refused as error:
            raise _in_our_words(error, namespace, key) from error
        except (ValueError, TypeError) as error:
            raise Refused("bad_request", f"the value of {namespace}/{key} cannot be stored: {error}") from error
        return _entry(applied.documents[0])

    async def get(self, owner_uid: int, namespace: str, key: str) -> Entry:
        """Raises: Refused (not_found, bad_request, draining)."""
        with refusing():
            found = await self._store.get(_KIND, _id(owner_uid, namespace, key))
        if found is None or self._is_over(found):
            raise _missing(namespace, key)
        return _entry(found)

    async def keys(
        self, owner_uid: int, namespace: str | None = None, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> EntryPage:
        """Entries without their values, by namespace and key.

        Args:
            namespace: only of this one; None: of all, and then `prefix` begins with a namespace.
            prefix: only keys that begin so.
            after: `next` of the page before.

        """
        begin = f"{owner_uid}/" if namespace is None else f"{owner_uid}/{check_name(namespace, 'namespace')}/"
        if "\0" in prefix or "\0" in after:
            raise Refused("bad_request", "prefix and cursor hold no NUL character")
        after = f"{owner_uid}/{after}" if after else ""
        with refusing():
            heads = await self._store.heads(_KIND, prefix=begin + prefix, after=after, limit=limit)
        items = [_of_head(head) for head in heads if not self._is_over(head)]
        return EntryPage(items, heads[-1].name if len(heads) == limit else None)

    async def delete(self, owner_uid: int, namespace: str, key: str, *, expected: int | None = None) -> None:
        """Remove a value durably.

        Raises:
            Refused: not_found, if there is none; conflict, if it is at another version than `expected`.

        """
        id_ = _id(owner_uid, namespace, key)
        for _ in range(_TRIES):
            with refusing():
                heads = await self._store.heads(_KIND, prefix=id_, limit=1)
            found = next((head for head in heads if head.id == id_ and not self._is_over(head)), None)
            if found is None:
                raise _missing(namespace, key)
            wanted = found.version if expected is None else _checked_version(expected)
            removal = Change(kind=_KIND, id=id_, owner_uid=owner_uid, data=None, expected=wanted)
            try:
                with refusing():
                    await self._feed.apply((removal,), (_event(owner_uid, "delete", namespace=namespace, key=key),))
            except Refused as error:
                if error.code != "conflict" or expected is not None:
                    raise _in_our_words(error, namespace, key) from error
                continue  # somebody changed it meanwhile, and all the same it is to go
            return
        raise Refused("overloaded", f"{namespace}/{key} changes all the time; try again", retry_after_s=1)

    async def clear(self, owner_uid: int, namespace: str) -> int:
        """Remove all values of a namespace, some at a time; how many."""
        begin = f"{owner_uid}/{check_name(namespace, 'namespace')}/"
        removed = 0
        with refusing():
            while heads := await self._store.heads(_KIND, prefix=begin, limit=_AT_ONCE):
                removals = [_removal(head, None) for head in heads]
                event = _event(owner_uid, "clear", namespace=namespace, keys=len(removals))
                removed += (await self._feed.apply(removals, (event,))).removed
        return removed

    async def sweep(self) -> int:
        """Remove what has outlived its time, and tell of each; how many. Raises StorageFull, JournalClosed."""
        removed = 0
        while heads := await self._store.expired(_KIND, now=_stamp(self._now()), limit=_AT_ONCE):
            swept = await self._sweep(heads)
            if not swept:
                break
            removed += swept
        return removed

    async def _sweep(self, heads: Sequence[DocumentHead]) -> int:
        """All of them at once, or one by one where some of them were put anew since they were found."""
        try:
            return await self._sweep_all(heads)
        except DocumentConflict:
            pass
        removed = 0
        for head in heads:
            try:
                removed += await self._sweep_all((head,))
            except DocumentConflict:
                continue
        return removed

    async def _sweep_all(self, heads: Sequence[DocumentHead]) -> int:
        events = [_event(head.owner_uid, "expire", namespace=_split(head)[0], key=_split(head)[1]) for head in heads]
        return (await self._feed.apply([_removal(head, 0) for head in heads], events)).removed

    def _is_over(self, document: Document | DocumentHead) -> bool:
        return document.expires is not None and document.expires <= _stamp(self._now())

    def _expires(self, ttl_s: float | None) -> str | None:
        if ttl_s is None:
            return None
        if not 0 < ttl_s <= MAX_TTL_S:
            raise Refused("bad_request", f"ttl_s {ttl_s:g}: expected more than 0, and at most {MAX_TTL_S:g}")
        return _stamp(self._now() + timedelta(seconds=ttl_s))


def _id(owner_uid: int, namespace: str, key: str) -> str:
    return document_id(owner_uid, f"{check_name(namespace, 'namespace')}/{check_key(key)}")


def _split(document: Document | DocumentHead) -> tuple[str, str]:
    namespace, _, key = document.name.partition("/")
    return namespace, key


def _removal(head: DocumentHead, expected: int | None) -> Change:
    """An expired one does not exist for changes: 0 is what is expected of it."""
    return Change(kind=_KIND, id=head.id, owner_uid=head.owner_uid, data=None, expected=expected)


def _entry(document: Document) -> Entry:
    namespace, key = _split(document)
    return Entry(
        namespace=namespace,
        key=key,
        version=document.version,
        created=document.created,
        updated=document.updated,
        expires=document.expires,
        owner_uid=document.owner_uid,
        size_bytes=document.size_bytes - _WRAPPER_BYTES,
        value=document.data["value"],
    )


def _of_head(head: DocumentHead) -> Entry:
    namespace, key = _split(head)
    return Entry(
        namespace=namespace,
        key=key,
        version=head.version,
        created=head.created,
        updated=head.updated,
        expires=head.expires,
        owner_uid=head.owner_uid,
        size_bytes=head.size_bytes - _WRAPPER_BYTES,
        has_value=False,
    )


def _event(owner_uid: int, name: str, **facts: Any) -> NewEvent:
    return NewEvent(owner_uid=owner_uid, topic="store", name=name, data=facts)


def _missing(namespace: str, key: str) -> Refused:
    return Refused("not_found", f"there is no value {namespace}/{key[:80]}")


def _in_our_words(refused: Refused, namespace: str, key: str) -> Refused:
    if refused.code != "conflict":
        return refused
    found, expected = refused.details["found"], refused.details["expected"]
    is_ = f"is at version {found}" if found else "is not there"
    wanted = f"version {expected}" if expected else "that there is none"
    message = f"{namespace}/{key[:80]} {is_}, and {wanted} was expected: read it again"
    return Refused("conflict", message, details=refused.details)


def _checked_version(expected: int | None) -> int | None:
    if expected is not None and expected < 0:
        raise Refused("bad_request", f"expected {expected}: a version is 1 or more, and 0 is that it does not exist")
    return expected


def _stamp(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
