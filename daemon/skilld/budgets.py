"""The ledger as the socket offers it: what was spent, which caps are in force, and who may change them.

Who has the role admin sees and sets everything. Others see what they have spent and the caps that bind them, and set
caps on sessions of their own: up to the one that holds for each session, and not in place of one that somebody else has
set there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any, Final, Protocol

import trio

from skill_actors.errors import Refused
from skill_actors.sessions.ledger import Account, Amounts, Cap, CapState, Ledger, Limits, cap_name
from skill_actors.sessions.table import Viewer
from skill_actors.store.ledger import LedgerStore, StoredCap, UsageBy

__all__ = ["Budgets"]

_SESSION: Final = "session/"
_MOST_ITEMS: Final = 10_000
_MOST_DAYS: Final = 100_000
_MOST_SESSIONS: Final = 200  # whose caps are looked through for those of a viewer's own


class _Sessions(Protocol):
    async def get(self, session: str, viewer: Viewer) -> dict[str, Any]:
        """Raises Refused where the viewer may not see it."""


class Budgets:
    """Answers about money, JSON-ready.

    Args:
        store: where caps that are set are kept.
        configured: the caps of the configuration in force.
        sessions: says who may see which.
        audit: takes what happened and its facts.

    """

    def __init__(
        self,
        ledger: Ledger,
        store: LedgerStore,
        configured: Callable[[], Sequence[Cap]],
        sessions: _Sessions,
        audit: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._configured = configured
        self._sessions = sessions
        self._audit = audit
        self._setting = trio.Lock()  # what is set is read before, and others are not to set it meanwhile

    async def usage(self, viewer: Viewer, by: UsageBy, since: date | None, until: date | None) -> Mapping[str, Any]:
        """What was spent on the days from `since` to `until`, both included; one's own, an admin's view everybody's.

        Of more items than one answer lists, it has those that cost most; the total is that of all.
        """
        days = [None if day is None else day.isoformat() for day in (since, until)]
        owner_uid = None if viewer.admin else viewer.uid
        ask = partial(self._ledger.usage, since=days[0], until=days[1], owner_uid=owner_uid)
        rows = await ask(by, limit=_MOST_ITEMS)
        items = [{"key": row.key, **_spent(row.used, row.held)} for row in rows]
        whole = rows if len(rows) < _MOST_ITEMS else await ask("day", limit=_MOST_DAYS)
        used, held = _sum([row.used for row in whole]), _sum([row.held for row in whole])
        return {"by": by, "since": days[0], "until": days[1], "items": items, "total": _spent(used, held)}

    async def caps(self, viewer: Viewer, name: str | None) -> Sequence[Mapping[str, Any]]:
        """The caps in force that concern the viewer, or those of this name. Raises Refused."""
        if name is not None:
            name = _checked_name(name)
            await self._refuse_unseen(viewer, name)
        if viewer.admin:
            states = await self._ledger.caps(name=name)
        else:
            states = await self._of_viewer(viewer, name)
        by = {cap.name: cap for cap in await self._store.caps([state.cap.name for state in states]) if _is_set(cap)}
        return [_view(state, by.get(state.cap.name)) for state in states]

    async def set_cap(self, viewer: Viewer, name: str, changes: Mapping[str, Any]) -> Mapping[str, Any]:
        """Change limits of a cap, None takes one away; what the cap is then.

        Raises:
            Refused: bad_request, forbidden, not_found.

        """
        name = _checked_name(name)
        await self._refuse_foreign(viewer, name)
        if viewer.admin and _is_session(name):  # of a mistyped id it would bind nothing, and nobody would see that
            await self._sessions.get(name.removeprefix(_SESSION), viewer)
        async with self._setting:
            before, configured = await self._now(name)
            if before is not None:
                self._refuse_others(viewer, before)
            base = before.limits if before is not None else configured
            limits = _limits({**base, **changes})
            if not viewer.admin:
                await self._refuse_wider(limits)
            is_gone = limits == Limits() and not configured
            await self._ledger.set_cap(name, None if is_gone else limits, viewer.uid)
            self._audit("budget.set", {"uid": viewer.uid, "name": name, "limits": limits.to_json()})
        found = await self.caps(viewer, name)
        return next((cap for cap in found if cap["source"] == "set"), _gone(name))

    async def unset_cap(self, viewer: Viewer, name: str) -> None:
        """Take away a cap that was set. Raises Refused: not_found if there is none, forbidden, bad_request."""
        name = _checked_name(name)
        await self._refuse_foreign(viewer, name)
        async with self._setting:
            before, _ = await self._now(name)
            if before is None:
                raise Refused(
                    "not_found", f"no cap {name!r} is set; those of the configuration are changed in [budget]"
                )
            self._refuse_others(viewer, before)
            await self._ledger.set_cap(name, None, viewer.uid)
            self._audit("budget.unset", {"uid": viewer.uid, "name": name, "limits": dict(before.limits)})

    async def _of_viewer(self, viewer: Viewer, name: str | None) -> Sequence[CapState]:
        """What binds somebody: caps of all, of each, of this user, and of sessions of this user."""
        nobody = Account(session="", turn="", owner_uid=viewer.uid)
        bound = [_of_none_in_particular(state) for state in await self._ledger.caps(nobody)]
        agents = [state for state in await self._ledger.caps() if state.cap.name == "agent"]
        names = [name] if name is not None else [cap.name for cap in await self._store.caps() if _is_session(cap.name)]
        mine: list[CapState] = []
        for session in filter(_is_session, names[:_MOST_SESSIONS]):
            if await self._sees(viewer, session):
                mine.extend(await self._ledger.caps(name=session))
        return [state for state in (*bound, *agents, *mine) if name in (None, state.cap.name)]

    async def _refuse_unseen(self, viewer: Viewer, name: str) -> None:
        first, _, rest = name.partition("/")
        if viewer.admin or first in ("turn", "agent", "global") or rest in ("", "day", "month"):
            return
        if _is_session(name):
            await self._sessions.get(name.removeprefix(_SESSION), viewer)
        elif rest.split("/")[0] != str(viewer.uid):
            raise Refused("forbidden", f"the cap {name!r} is somebody else's: only an admin sees it")

    async def _refuse_foreign(self, viewer: Viewer, name: str) -> None:
        """Raise Refused unless the viewer may set such a cap."""
        if viewer.admin:
            return
        if not _is_session(name):
            message = (
                f"the cap {name!r} is set by an admin; yours to set are those of sessions of your own, session/ses_..."
            )
            raise Refused("forbidden", message)
        await self._sessions.get(name.removeprefix(_SESSION), viewer)

    @staticmethod
    def _refuse_others(viewer: Viewer, before: StoredCap) -> None:
        if not viewer.admin and before.by_uid != viewer.uid:
            raise Refused(
                "forbidden", f"the cap {before.name!r} was set by uid {before.by_uid}: only an admin changes it"
            )

    async def _refuse_wider(self, limits: Limits) -> None:
        """Raise Refused where a session's cap would say more than the one of each session allows."""
        wanted = limits.to_json()
        for state in await self._ledger.caps(name="session"):
            for unit, most in state.cap.limits.to_json().items():
                if wanted.get(unit, 0) > most:
                    raise Refused(
                        "bad_request", f"{unit}: {wanted[unit]} is beyond the {most} that each session may have"
                    )

    async def _now(self, name: str) -> tuple[StoredCap | None, Mapping[str, Any]]:
        """The cap of this name that is set, and the limits of the configured one."""
        stored = next((cap for cap in await self._store.caps([name]) if _is_set(cap)), None)
        configured = next((cap.limits for cap in self._configured() if cap.name == name), Limits())
        return stored, configured.to_json()

    async def _sees(self, viewer: Viewer, name: str) -> bool:
        try:
            await self._sessions.get(name.removeprefix(_SESSION), viewer)
        except Refused:
            return False
        return True


def _checked_name(name: str) -> str:
    try:
        return cap_name(name)
    except ValueError as error:
        raise Refused("bad_request", f"name: {error}") from error


def _limits(value: Mapping[str, Any]) -> Limits:
    try:
        return Limits.from_json(value)
    except ValueError as error:
        raise Refused("bad_request", str(error)) from error


def _is_set(cap: StoredCap) -> bool:
    return cap.source == "set"


def _is_session(name: str) -> bool:
    return name.startswith(_SESSION)


def _of_none_in_particular(state: CapState) -> CapState:
    """A cap over each turn or session is over none here."""
    is_one = state.key is not None and state.key.startswith(("turn/", "session/"))
    return replace(state, key=None, sums=None) if is_one else state


def _view(state: CapState, stored: StoredCap | None) -> dict[str, Any]:
    limits, sums, source = state.cap.limits, state.sums, state.cap.source
    used, held = (None, None) if sums is None else (_amounts(sums.used), _amounts(sums.held))
    left = None
    if used is not None and held is not None:
        least = limits.to_json()
        left = {unit: max(least[unit] - used[unit] - held[unit], 0) if unit in least else None for unit in used}
    return {
        "name": state.cap.name,
        "source": source,
        "by_uid": stored.by_uid if stored is not None and source == "set" else None,
        "limits": {unit: getattr(limits, unit) for unit in ("usd", "tokens", "seconds", "tool_calls")},
        "used": used,
        "held": held,
        "left": left,
    }


def _gone(name: str) -> dict[str, Any]:
    """A cap of which no limit is left."""
    return _view(CapState(cap=Cap(name=name, limits=Limits(), source="set"), key=None, sums=None), None)


def _amounts(amounts: Amounts) -> dict[str, float]:
    return {
        "usd": amounts.nanousd / 10**9,
        "tokens": amounts.tokens,
        "seconds": amounts.millis / 1000,
        "tool_calls": amounts.tool_calls,
    }


def _sum(amounts: Sequence[Amounts]) -> Amounts:
    return Amounts(
        nanousd=sum(each.nanousd for each in amounts),
        tokens=sum(each.tokens for each in amounts),
        millis=sum(each.millis for each in amounts),
        tool_calls=sum(each.tool_calls for each in amounts),
        priced=all(each.priced for each in amounts),
    )


def _spent(used: Amounts, held: Amounts) -> dict[str, Any]:
    """What was used and what is set aside, together; the money None where some of it has no price."""
    both = _amounts(used + held)
    known_usd = both.pop("usd")
    held_usd = held.nanousd / 10**9
    return {"cost_usd": known_usd if used.priced else None, "known_usd": known_usd, "held_usd": held_usd, **both}
