"""What may become of items, and what that means for those that wait for them. Pure.

Each function gives the item as it is afterwards, or raises Refused: `conflict` with `details` {"id", "status"} where
its state does not permit it.

    claim      ready -> claimed                       only of an item that nobody has
    start      claimed -> in_progress                 by the holder alone, as the next three
    complete   claimed, in_progress -> done
    fail       claimed, in_progress -> ready, or failed after the last attempt
    release    claimed, in_progress -> ready          the attempt does not count
    expire     claimed, in_progress -> ready, or failed after the last attempt
    cancel     all but done and cancelled -> cancelled
    retry      failed, cancelled -> new, ready or blocked, with all attempts before it
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from skill_actors.errors import Refused
from skill_actors.workshop.board.item import HELD, WAITING, Item, Lease, Status, Step

__all__ = [
    "Ripple",
    "added",
    "ancestors",
    "cancelled",
    "check_additions",
    "check_dependencies",
    "check_holder",
    "check_removals",
    "claimed",
    "completed",
    "edited",
    "expired",
    "failed",
    "implied_status",
    "released",
    "retried",
    "ripple",
    "settled",
    "started",
]

Lookup = Callable[[str], Item | None]
Dependents = Callable[[str], Iterable[str]]


def implied_status(item: Item, lookup: Lookup) -> Status:
    """What those it depends on make of an item that waits. One that is missing counts as failed."""
    found = [lookup(id) for id in item.depends_on]
    if any(other is None or other.status in ("failed", "cancelled", "blocked") for other in found):
        return "blocked"
    return "ready" if all(other is not None and other.status == "done" for other in found) else "new"


def settled(item: Item, lookup: Lookup, now: str) -> Item:
    """The item as it is among those it depends on; one that does not wait stays as it is."""
    if item.status not in WAITING:
        return item
    status = implied_status(item, lookup)
    return item if status == item.status else _stepped(item, status, now)


@dataclass(frozen=True, slots=True)
class Ripple:
    """What follows from a change: the items as they are to be, and ids of all that were looked at for it."""

    items: Mapping[str, Item]
    seen: Collection[str]


def ripple(
    changed: Mapping[str, Item], lookup: Lookup, dependents: Dependents, now: str, *, suspects: Iterable[str] = ()
) -> Ripple:
    """The changed items, and all those, however far away, whose state follows from theirs.

    Args:
        changed: by id, as they are to be.
        lookup: all others, as they are.
        dependents: ids of those that depend on an item directly.
        suspects: further ones to be looked at.

    """
    found, seen = dict(changed), set(changed)

    def see(id: str) -> Item | None:
        return found.get(id) or lookup(id)

    left = deque([*suspects, *(other for id in changed for other in dependents(id))])
    while left:
        id = left.popleft()
        item = see(id)
        if item is None:
            continue
        seen.add(id)
        new = settled(item, see, now)
        if new is not item:
            found[id] = new
            left.extend(dependents(id))
    return Ripple(found, seen)


def ancestors(item: Item, lookup: Lookup) -> set[str]:
    """Ids of all that it depends on, however far away."""
    found: set[str] = set()
    left = list(item.depends_on)
    while left:
        id = left.pop()
        if id not in found:
            found.add(id)
            other = lookup(id)
            left.extend(() if other is None else other.depends_on)
    return found


def added(drafts: Sequence[Item], lookup: Lookup, now: str) -> Sequence[Item]:
    """New items in the state that those they depend on give them, which may be each other."""
    new = {draft.id: draft for draft in drafts}
    dependents: dict[str, list[str]] = {}
    for draft in drafts:
        for other in draft.depends_on:
            dependents.setdefault(other, []).append(draft.id)
    found = ripple(new, lookup, lambda id: dependents.get(id, ()), now, suspects=new).items
    return [replace(item, steps=(Step(time=now, status=item.status, attempt=0),)) for item in found.values()]


def check_additions(drafts: Sequence[Item], lookup: Lookup) -> None:
    """See that new items may be added together: ids that are free, and that depend on what there is, in no circle.

    Raises Refused: conflict, bad_request.
    """
    new: dict[str, Item] = {}
    for draft in drafts:
        if draft.id in new or lookup(draft.id) is not None:
            raise Refused("conflict", f"there is an item {draft.id!r} already; edit it, or choose another id")
        new[draft.id] = draft
    check_dependencies(new, lookup)


def check_dependencies(changed: Mapping[str, Item], lookup: Lookup) -> None:
    """See that what these items depend on exists, and that none waits for itself. Raises Refused("bad_request")."""

    def see(id: str) -> Item | None:
        return changed.get(id) or lookup(id)

    for item in changed.values():
        missing = [id for id in item.depends_on if see(id) is None]
        if missing:
            raise _bad_dependencies(item, f"depends on {', '.join(missing)}, and there is no such item", missing)
    for item in changed.values():
        circle = _circle_from(item.id, see)
        if circle:
            raise _bad_dependencies(item, f"would wait for itself: {' -> '.join(circle)}", circle)


def _circle_from(start: str, see: Lookup) -> list[str]:
    """A way from an item along what it depends on back to itself; empty if there is none."""
    came_from: dict[str, str] = {}
    left = [start]
    while left:
        id = left.pop()
        item = see(id)
        for other in () if item is None else item.depends_on:
            if other == start:
                way = [start, id]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return way[::-1]
            if other not in came_from:
                came_from[other] = id
                left.append(other)
    return []


def claimed(item: Item, lease: Lease, now: str) -> Item:
    """Somebody has it from now on."""
    if item.status != "ready":
        raise _not_from(item, "claimed")
    taken = replace(item, attempts=item.attempts + 1, lease=lease, claimed=now, started=None, turn=None)
    return _stepped(taken, "claimed", now, lease.holder)


def started(item: Item, token: str, now: str, *, turn: str | None = None, worktree: str | None = None) -> Item:
    """Its holder has begun."""
    check_holder(item, token)
    if item.status != "claimed":
        raise _not_from(item, "in_progress")
    return _stepped(replace(item, started=now, turn=turn, worktree=worktree), "in_progress", now)


def completed(item: Item, token: str, now: str, *, result: str | None, structured: Any, note: str = "") -> Item:
    """Its holder has done it."""
    check_holder(item, token)
    done = replace(item, result=result, structured=structured, error=None, lease=None, ended=now)
    return _stepped(done, "done", now, note)


def failed(item: Item, token: str, now: str, error: str, *, final: bool = False) -> Item:
    """Its holder could not do it: somebody may try again, if attempts are left and it is not final."""
    check_holder(item, token)
    return _unsuccessful(item, now, error, final=final)


def expired(item: Item, now: str) -> Item:
    """Nothing was heard of its holder for too long."""
    if item.lease is None:
        raise _not_from(item, "ready")
    why = f"nothing was heard of {item.lease.holder} for {item.lease.lease_s:g} s"
    return _unsuccessful(item, now, why, final=False)


def released(item: Item, token: str, now: str, note: str = "") -> Item:
    """Its holder gives it back; that was no attempt."""
    check_holder(item, token)
    given_back = replace(item, attempts=item.attempts - 1, lease=None, claimed=None, started=None, turn=None)
    return _stepped(given_back, "ready", now, note or "given back")


def cancelled(item: Item, now: str, reason: str) -> Item:
    """It is not wanted any more."""
    if item.status in ("done", "cancelled"):
        raise _not_from(item, "cancelled")
    return _stepped(replace(item, lease=None, error=reason or None, ended=now), "cancelled", now, reason)


def retried(item: Item, lookup: Lookup, now: str) -> Item:
    """It is wanted after all: with all its attempts, as soon as what it depends on is done."""
    if item.status not in ("failed", "cancelled"):
        raise _not_from(item, "ready")
    again = replace(item, attempts=0, ended=None, claimed=None, started=None, result=None, structured=None, turn=None)
    return _stepped(again, implied_status(again, lookup), now, "retried")


def edited(item: Item, changes: Mapping[str, Any], lookup: Lookup, now: str) -> Item:
    """It is asked for otherwise. What somebody works on, or has done, can only be labelled anew.

    Raises Refused: conflict; bad_request where it would wait for itself or for what is not there.
    """
    free = {"labels", "due"} if item.status == "done" else {"labels", "due", "priority"}
    fixed = sorted(changes.keys() - free) if item.status in HELD or item.status == "done" else []
    if fixed:
        raise Refused(
            "conflict",
            f"item {item.id!r} is {item.status}: {', '.join(fixed)} cannot be changed; "
            + ("add another item" if item.status == "done" else "wait until it has ended, or cancel it"),
            details={"id": item.id, "status": item.status},
        )
    new = replace(item, **changes, updated=now)
    if "depends_on" in changes:
        check_dependencies({new.id: new}, lookup)
    return settled(new, lookup, now)


def check_holder(item: Item, token: str) -> None:
    """Raise Refused("conflict") unless somebody works on the item, with this token."""
    if item.lease is None or item.status not in HELD:
        raise Refused(
            "conflict",
            f"item {item.id!r} is {item.status}, and nobody has it: a lease that ran out was taken back",
            details={"id": item.id, "status": item.status, "reason": "lease_lost"},
        )
    if not hmac.compare_digest(item.lease.token.encode(), token.encode()):
        raise Refused(
            "conflict",
            f"item {item.id!r} is {item.lease.holder}'s by now, and the token is another's",
            details={"id": item.id, "status": item.status, "reason": "lease_lost"},
        )


def check_removals(ids: Collection[str], lookup: Lookup, dependents: Dependents) -> None:
    """See that items can go: nobody works on them, and no other depends on them. Raises Refused."""
    for id in ids:
        item = lookup(id)
        if item is None:
            raise Refused("not_found", f"there is no item {id[:80]!r}")
        if item.status in HELD:
            raise _not_from(item, "removed")
        others = sorted(other for other in dependents(id) if other not in ids)
        if others:
            raise Refused(
                "conflict",
                f"item {id!r} cannot be removed: {', '.join(others[:5])} depends on it",
                details={"id": id, "dependents": others[:100]},
            )


def _unsuccessful(item: Item, now: str, error: str, *, final: bool) -> Item:
    over = final or item.attempts >= item.max_attempts
    after = replace(item, error=error, lease=None, ended=now if over else None)
    return _stepped(after, "failed" if over else "ready", now, error)


def _stepped(item: Item, status: Status, now: str, note: str = "") -> Item:
    return replace(item, status=status, updated=now, steps=item.stepped(status, now, note[:500]))


def _not_from(item: Item, wanted: str) -> Refused:
    return Refused(
        "conflict",
        f"item {item.id!r} is {item.status} and cannot become {wanted}",
        details={"id": item.id, "status": item.status},
    )


def _bad_dependencies(item: Item, why: str, ids: Sequence[str]) -> Refused:
    return Refused("bad_request", f"item {item.id!r} {why}", details={"id": item.id, "depends_on": list(ids)})
