"""What stands in the place of something secret. What is masked is found by no rule again."""

from __future__ import annotations

__all__ = ["MASK", "METHODS", "InTime", "masked"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Mask = Callable[[str, str], str | None]  # of a text that was found and the rule's id

MASK = "[masked]"
METHODS = ("none", "full", "partial", "credit_card", "email", "last4", "hash")
_STARS = "*" * 4


class InTime:
    """A function of the program's that masks, given so many seconds in a thread of its own.

    Raises:
        TimeoutError: when called, if it took longer, now or before.
        ValueError: if it failed, in whatever way, or gave something else than text.

    """

    def __init__(self, custom: Mask, timeout_s: float) -> None:
        self._custom = custom
        self._timeout_s = timeout_s
        self._is_slow = False

    def __call__(self, text: str, rule: str) -> str | None:
        import threading

        said: list[object] = []

        def ask() -> None:
            try:
                found: object = self._custom(text, rule)
            except BaseException as error:  # sys.exit() too: it would end the thread that asks
                found = error
            said.append(found)

        if self._is_slow:
            raise TimeoutError("it took too long before")
        thread = threading.Thread(target=ask, name="skilld-mask", daemon=True)
        thread.start()
        thread.join(self._timeout_s)
        if not said:
            self._is_slow = True
            raise TimeoutError(f"it took longer than {self._timeout_s:g} s")
        if said[0] is None or type(said[0]) is str:
            return said[0]
        raise ValueError(f"expected text or None, not {type(said[0]).__name__}")


def masked(text: str, method: str, key: bytes = b"") -> str:
    """The text, masked.

    Args:
        method: `full`; `partial`: the first and last 4 characters of a text of at least 16; `credit_card`: likewise of
            the digits; `email`: the first and last letter of the name, and the domain; `last4`: the last 4;
            `hash`: the same for the same text, by the key, and nothing that leads back to it.
        key: for `hash`; without one it is masked in full.

    """
    if method == "partial":
        return f"{text[:4]}{_STARS}{text[-4:]}" if len(text) >= 16 else MASK
    if method == "credit_card":
        digits = [letter for letter in text if letter.isdigit()]
        return f"{''.join(digits[:4])}{_STARS}{''.join(digits[-4:])}" if len(digits) >= 12 else MASK
    if method == "email":
        name, _, domain = text.rpartition("@")
        return f"{name[:1]}{_STARS}{name[-1:] if len(name) > 2 else ''}@{domain}"
    if method == "last4":
        return f"{_STARS}{text[-4:]}" if len(text) >= 9 else MASK
    if method == "hash" and key:
        return f"[{_digest(text, key)}]"
    return MASK


def _digest(text: str, key: bytes) -> str:
    import hmac

    return hmac.new(key, text.encode("utf-8", "surrogatepass"), "sha256").hexdigest()[:16]
