"""Whose event it is: session, user, tags, agent and facts of the program's own, for all that is reported from here on.

Kept per thread and per task by contextvars, so that requests that are served at the same time do not mix. A task takes
over what held where it was made; a thread of its own does not, unless its function went through `carried`.

    with session("s-17"), user("u-4"), tags("beta"):
        ...  # every event and span in here says so

The `set_` forms hold until they are called again, or until the context that they were called in ends.
"""

from __future__ import annotations

import functools
from contextlib import suppress
from contextvars import ContextVar, copy_context

from skilld_monitor.values import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import TracebackType
    from typing import Any, Self

__all__ = [
    "MAX_NAME_CHARS",
    "MAX_TAGS",
    "MAX_TAG_CHARS",
    "NOBODY",
    "Scope",
    "Who",
    "WithBlock",
    "agent",
    "carried",
    "clear",
    "current_who",
    "facts",
    "session",
    "set_agent",
    "set_facts",
    "set_facts_everywhere",
    "set_session",
    "set_tags",
    "set_user",
    "tags",
    "user",
]

MAX_NAME_CHARS = 1_024  # more than is stored: the daemon cuts, once it has masked what would stand across the cut
MAX_TAGS = 20
MAX_TAG_CHARS = 512


class Who:
    """What holds in one context; never changed, only replaced.

    Args:
        session: None for none, as with the others.
        agent: whose events these are, where it is not the one that monitoring was switched on for.
        facts: go into the data of each event that has no value of its own under that name. Plain values.
        entry: the entering of a scope that this holds since, or whose value this was made of; None outside of all.

    """

    __slots__ = ("agent", "entry", "facts", "session", "tags", "user")

    def __init__(
        self,
        session: str | None = None,
        user: str | None = None,
        tags: tuple[str, ...] = (),
        agent: str | None = None,
        facts: dict[str, object] | None = None,
        entry: _Entry | None = None,
    ) -> None:
        self.session = session
        self.user = user
        self.tags = tags
        self.agent = agent
        self.facts = facts
        self.entry = entry

    def but(self, **changed: object) -> Who:
        """The same with some of it changed."""
        found: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        found.update(changed)
        return Who(**found)

    def or_else(self, other: Who) -> Who:
        """The same, with what the other says where this one says nothing."""
        if self is other:
            return self
        merged = None if self.facts is None and other.facts is None else {**(other.facts or {}), **(self.facts or {})}
        return Who(
            self.session or other.session,
            self.user or other.user,
            self.tags or other.tags,
            self.agent or other.agent,
            merged,
        )


class _Entry:
    """One entering of a scope.

    Args:
        before: what held before it.

    """

    __slots__ = ("before", "is_left")

    def __init__(self, before: Who) -> None:
        self.before = before
        self.is_left = False  # while something else held, as where a generator is closed inside another scope


NOBODY = Who()
_here: ContextVar[Who] = ContextVar("skilld_monitor_who", default=NOBODY)
_everywhere: dict[str, object] = {}  # replaced as a whole, never changed


def current_who() -> Who:
    """What holds here."""
    who = _here.get()
    return who if not _everywhere else who.but(facts={**_everywhere, **(who.facts or {})})


def held() -> Who:
    """What scopes and `set_...` made hold here, without what holds everywhere."""
    return _here.get()


def hold(who: Who) -> Token[Who]:
    """Have this hold here, with the scopes that it has open, until `let_go`."""
    return _here.set(who)


def let_go(token: Token[Who]) -> None:
    """What held before holds again; in a copy of the context that it was held in there is nothing to go back to."""
    with suppress(ValueError, RuntimeError):
        _here.reset(token)


class WithBlock:
    """What may be entered with `with` and with `async with`, which do the same."""

    def __enter__(self) -> Self:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


class Scope(WithBlock):
    """Something holds inside `with` or `async with`, and what held before holds again after it."""

    def __init__(self, change: Callable[[Who], Who]) -> None:
        self.change = change
        self._entered: list[tuple[_Entry, Token[Who]]] = []

    def __enter__(self) -> Scope:
        entry = _Entry(_here.get())
        self._entered.append((entry, _here.set(self.change(entry.before).but(entry=entry))))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._entered:
            return
        here = _here.get().entry
        at = next((at for at, (entry, _token) in enumerate(self._entered) if entry is here), -1)
        entry, token = self._entered.pop(at)
        if entry is not here:  # of a scope that was entered since, or in another context: that goes on
            entry.is_left = True
            return
        try:
            _here.reset(token)
        except ValueError:  # in a copy of the context that it was entered in
            _here.set(entry.before)
        now = _here.get()
        while now.entry is not None and now.entry.is_left:
            now = now.entry.before
        _here.set(now)


def session(id: object) -> Scope:
    """What is reported inside belongs to this session, such as a conversation; None for none. 200 characters."""
    return Scope(lambda who: who.but(session=_name(id)))


def user(id: object) -> Scope:
    """What is reported inside is done for this user; None for none. 200 characters."""
    return Scope(lambda who: who.but(user=_name(id)))


def tags(*names: object) -> Scope:
    """What is reported inside has these tags too: 20 in all, of 64 characters."""
    return Scope(lambda who: who.but(tags=_tags((*who.tags, *names))))


def agent(name: object) -> Scope:
    """What is reported inside is this agent's, such as a sub-agent; None for the program's own. 200 characters."""
    return Scope(lambda who: who.but(agent=_name(name)))


def facts(**values: object) -> Scope:
    """The data of what is reported inside has these values too, unless it has its own under the name."""
    added = _plain(values)
    return Scope(lambda who: who.but(facts={**(who.facts or {}), **added}))


def set_session(id: object) -> None:
    """As `session`, from here on."""
    _here.set(_here.get().but(session=_name(id)))


def set_user(id: object) -> None:
    """As `user`, from here on."""
    _here.set(_here.get().but(user=_name(id)))


def set_tags(*names: object) -> None:
    """These tags and no others, from here on."""
    _here.set(_here.get().but(tags=_tags(names)))


def set_agent(name: object) -> None:
    """As `agent`, from here on."""
    _here.set(_here.get().but(agent=_name(name)))


def set_facts(**values: object) -> None:
    """As `facts`, from here on."""
    who = _here.get()
    _here.set(who.but(facts={**(who.facts or {}), **_plain(values)}))


def set_facts_everywhere(**values: object) -> None:
    """As `set_facts`, in every thread and task of this process."""
    global _everywhere
    _everywhere = {**_everywhere, **_plain(values)}


def clear(*, everywhere: bool = False) -> None:
    """Nothing of it holds here any more; `everywhere` also drops what `set_facts_everywhere` set."""
    global _everywhere
    entry = _here.get().entry
    _here.set(NOBODY if entry is None else NOBODY.but(entry=entry))
    if everywhere:
        _everywhere = {}


def carried(func: Callable[..., Any]) -> Callable[..., Any]:
    """The function, run with the session, user, open span and so on of here, whichever thread calls it:
    `Thread(target=carried(work))`, `pool.submit(carried(work), ...)`. All other context variables come along too."""
    context = copy_context()

    @functools.wraps(func)
    def run(*args: Any, **kwargs: Any) -> Any:
        return context.copy().run(func, *args, **kwargs)  # a copy: two threads cannot be in one context at once

    return run


def _name(value: object) -> str | None:
    """An id as text; None for none. Never raises."""
    return None if value is None else _text(value, MAX_NAME_CHARS) or None


def _tags(names: tuple[object, ...]) -> tuple[str, ...]:
    """Each once, in the order they came."""
    found = dict.fromkeys(_text(name, MAX_TAG_CHARS) for name in names)
    found.pop("", None)
    return tuple(found)[:MAX_TAGS]


def _text(value: object, most: int) -> str:
    return (value if type(value) is str else str(plain(value)))[:most]


def _plain(values: dict[str, object]) -> dict[str, object]:
    made = plain(values)
    return made if isinstance(made, dict) else {}
