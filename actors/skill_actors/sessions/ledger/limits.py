"""How much may be used, in the units that people write, and in the whole numbers that are added up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Final, Literal

from skill_actors.store.ledger.base import Amounts

__all__ = ["UNITS", "Limits", "Unit", "amount_of", "nanousd_of", "shown"]

Unit = Literal["usd", "tokens", "seconds", "tool_calls"]
UNITS: Final[tuple[Unit, ...]] = ("usd", "tokens", "seconds", "tool_calls")

_WHOLE: Final[Mapping[str, bool]] = {"usd": False, "tokens": True, "seconds": False, "tool_calls": True}
_SCALE: Final[Mapping[Unit, int]] = {"usd": 10**9, "tokens": 1, "seconds": 1000, "tool_calls": 1}
_LARGEST: Final = 10**9  # of any unit but tokens: a sum of a thousand million limits still fits what is stored
_LARGEST_TOKENS: Final = 10**15
_MAX_QUOTED: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """At most so much; None is no limit. `usd` in US dollars."""

    usd: float | None = None
    tokens: int | None = None
    seconds: float | None = None
    tool_calls: int | None = None

    @classmethod
    def from_json(cls, value: object) -> Limits:
        """From the form that a session's `budget` has, such as {"usd": 2.5, "tool_calls": 100}; null is no limit.

        Raises:
            ValueError: naming the field and the value.

        """
        if not isinstance(value, Mapping):
            raise ValueError(f"a budget must be an object such as {{'usd': 2.5}}, not {value!r}")
        if unknown := sorted(map(str, value.keys() - set(UNITS))):
            raise ValueError(f"{unknown[0]!r} is no limit of a budget; known are {', '.join(UNITS)}")
        return cls(**{name: _checked(name, number) for name, number in value.items() if number is not None})

    def to_json(self) -> dict[str, Any]:
        """Only the limits that there are."""
        return {unit: getattr(self, unit) for unit in UNITS if getattr(self, unit) is not None}

    def whole(self, unit: Unit) -> int | None:
        """The limit in the whole numbers that are added up (billionths of a dollar, milliseconds), rounded down."""
        limit = getattr(self, unit)
        return None if limit is None else int((Decimal(str(limit)) * _SCALE[unit]).to_integral_value(ROUND_FLOOR))


def _checked(name: str, number: object) -> Any:
    largest = _LARGEST_TOKENS if name == "tokens" else _LARGEST
    whole = _WHOLE[name]
    expected = "a whole number" if whole else "a number"
    # A comparison with NaN is false, and one with a whole number of a thousand digits is no trouble.
    if isinstance(number, bool) or not isinstance(number, int if whole else int | float) or not 0 <= number <= largest:
        raise ValueError(f"budget {name} must be {expected} from 0 to {largest}, not {_quoted(number)}")
    return number


def _quoted(value: object) -> str:
    """For a message: a whole number may have more digits than Python writes."""
    try:
        return repr(value)[:_MAX_QUOTED]
    except ValueError:
        return "one of thousands of digits"


def amount_of(amounts: Amounts, unit: Unit) -> int:
    """What amounts hold of a unit, as it is added up."""
    match unit:
        case "usd":
            return amounts.nanousd
        case "tokens":
            return amounts.tokens
        case "seconds":
            return amounts.millis
        case "tool_calls":
            return amounts.tool_calls


def natural(whole: int, unit: Unit) -> float:
    """A number as it is added up, in the unit that people write."""
    return whole if _SCALE[unit] == 1 else whole / _SCALE[unit]


def shown(whole: int, unit: Unit) -> str:
    """A number as it is added up, for people: `0.25 USD`, `12000 tokens`, `90 seconds`, `3 tool calls`."""
    if unit == "usd":
        dollars, _, fraction = f"{Decimal(whole) / _SCALE[unit]:.6f}".partition(".")
        return f"{dollars}.{fraction.rstrip('0'):0<2} USD"
    number = natural(whole, unit)
    return f"{number:g} {unit.replace('_', ' ')}" if unit == "seconds" else f"{whole} {unit.replace('_', ' ')}"


def nanousd_of(usd: float | Decimal) -> int:
    """Billionths of a dollar, rounded up."""
    return int((Decimal(str(usd)) * _SCALE["usd"]).to_integral_value(ROUND_CEILING))
