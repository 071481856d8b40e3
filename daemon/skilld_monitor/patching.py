"""Attributes of other people's classes and objects, replaced for a while and put back exactly as they were."""

from __future__ import annotations

__all__ = ["Patches"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MISSING = object()


class Patches:
    """What was replaced, in order."""

    def __init__(self) -> None:
        self._made: list[tuple[object, str, object, object]] = []
        self._undo: list[Callable[[], None]] = []

    def replace(self, owner: object, name: str, make: Callable[[object], object]) -> bool:
        """Put `make(original)` in the place of an attribute. False if it is replaced by us already.

        Raises:
            AttributeError: if there is none.

        """
        original = getattr(owner, name)
        before = vars(owner).get(name, _MISSING)
        if getattr(original, "__skilld_monitor__", False):
            known = any(made[0] is owner and made[1] == name for made in self._made)
            if before is original and not known:  # a class that took it over from the one where it was replaced
                self._made.append((owner, name, getattr(original, "__wrapped__", original), original))
            return False
        made: Any = make(original)
        made.__skilld_monitor__ = True
        setattr(owner, name, made)
        self._made.append((owner, name, before, made))
        return True

    def on_restore(self, undo: Callable[[], None]) -> None:
        """Call this too when all is put back."""
        self._undo.append(undo)

    def restore(self) -> str:
        """Put everything back, the last first; what could not be put back and why, "" for nothing.

        What somebody else has replaced since is left to them: theirs calls ours, which does nothing any more.
        """
        problems: list[str] = []
        while self._made:
            owner, name, before, made = self._made.pop()
            try:
                if vars(owner).get(name, _MISSING) is not made:
                    continue
                if before is _MISSING:
                    delattr(owner, name)
                else:
                    setattr(owner, name, before)
            except Exception as error:  # an owner that refuses now; the others are put back all the same
                problems.append(f"{name} cannot be put back: {type(error).__name__}")
        while self._undo:
            try:
                self._undo.pop()()
            except Exception as error:  # such as at the end of a program, when there are no modules any more
                problems.append(f"{type(error).__name__}: {error}")
        return "; ".join(problems)
