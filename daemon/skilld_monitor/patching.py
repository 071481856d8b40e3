"""Attributes of other people's classes and objects, replaced for a while and put back exactly as they were."""

from __future__ import annotations

import threading
import weakref

__all__ = ["Patches"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MISSING = object()
_WRAPPED = object()


class Patches:
    """What was replaced, in order."""

    def __init__(self) -> None:
        self._made: list[_Patch] = []
        self._replacing = threading.RLock()  # of two threads that replace the same one puts back what the other made
        self._undo: list[Callable[[], None]] = []

    def replace(self, owner: object, name: str, make: Callable[[object], object]) -> bool:
        """Put `make(original)` in the place of an attribute. False if it is replaced by us already.

        Raises:
            AttributeError: if there is none.

        """
        with self._replacing:
            return self._replace(owner, name, make)

    def after_fork(self) -> None:
        """In the child: another thread of the parent's may have been at it."""
        self._replacing = threading.RLock()

    def _replace(self, owner: object, name: str, make: Callable[[object], object]) -> bool:
        original = getattr(owner, name)
        before = vars(owner).get(name, _MISSING)
        if getattr(original, "__skilld_monitor__", False):
            known = any(made.owner() is owner and made.name == name for made in self._made)
            if before is original and not known:  # a class that took it over from the one where it was replaced
                self._keep(_Patch(owner, name, getattr(original, "__wrapped__", original), original))
            return False
        made: Any = make(original)
        if not getattr(made, "__skilld_monitor__", False):
            made.__skilld_monitor__ = True
        setattr(owner, name, made)
        is_wrapped = before is original and getattr(made, "__wrapped__", None) is original
        self._keep(_Patch(owner, name, _WRAPPED if is_wrapped else before, made))
        return True

    def _keep(self, patch: _Patch) -> None:
        self._made = [made for made in self._made if made.owner() is not None]
        self._made.append(patch)

    def on_restore(self, undo: Callable[[], None]) -> None:
        """Call this too when all is put back."""
        self._undo.append(undo)

    def restore(self) -> str:
        """Put everything back, the last first; what could not be put back and why, "" for nothing.

        What somebody else has replaced since is left to them: theirs calls ours, which does nothing any more.
        """
        problems: list[str] = []
        while self._made:
            patch = self._made.pop()
            try:
                patch.undo()
            except Exception as error:  # an owner that refuses now; the others are put back all the same
                problems.append(f"{patch.name} cannot be put back: {type(error).__name__}")
        while self._undo:
            try:
                self._undo.pop()()
            except Exception as error:  # such as at the end of a program, when there are no modules any more
                problems.append(f"{type(error).__name__}: {error}")
        return "; ".join(problems)


class _Patch:
    """One attribute that was replaced. A client that the program drops is not kept alive by it.

    Args:
        before: what the owner had itself; `_MISSING` for nothing, `_WRAPPED` for what `made` is around.

    """

    __slots__ = ("_before", "made", "name", "owner")

    def __init__(self, owner: object, name: str, before: object, made: object) -> None:
        is_weak = not isinstance(owner, type) and (before is _MISSING or before is _WRAPPED)
        self.name = name
        self.owner = _held(owner, weakly=is_weak)
        self.made = _held(made, weakly=is_weak)
        self._before = before

    def undo(self) -> None:
        owner: Any = self.owner()
        made: Any = self.made()
        if owner is None or vars(owner).get(self.name, _MISSING) is not made:
            return
        if self._before is _WRAPPED:
            setattr(owner, self.name, made.__wrapped__)
        elif self._before is not _MISSING:
            setattr(owner, self.name, self._before)
        elif isinstance(owner, type) or hasattr(type(owner), self.name):
            delattr(owner, self.name)
        else:  # it makes its attributes when they are asked for, and might take this for the wish to have none
            object.__delattr__(owner, self.name)


def _held(what: object, *, weakly: bool) -> Callable[[], object]:
    """What gives it; None once nobody else has it, if it is held weakly and can be."""
    if weakly:
        try:
            return weakref.ref(what)
        except TypeError:  # of a class with slots
            pass
    return lambda: what
