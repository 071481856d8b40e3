"""Which records are reported: by channel, their level, and a share of the traces.

The share is one of traces and not of records, by the trace's own number, so that what is kept of a trace is whole, in
each program that has a part of it and goes by the same share. Errors are kept whatever the share.
"""

from __future__ import annotations

import os

from skilld_monitor.records import LEVELS, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Rule = tuple[int, float]  # the least level that is reported, and the share of the traces

__all__ = ["OTHERS", "Sieve", "read_channels"]

OTHERS = "*"
_RANDOM_DIGITS = 14  # of a trace's number, the last ones: W3C has them random
_ALL = 1 << (4 * _RANDOM_DIGITS)
_NAMES = ("level", "sample")


def read_channels(value: object) -> dict[str, dict[str, object]]:
    """What a program, a variable or a file says about channels, checked: by channel, `level` and `sample`.

    As text it is `LLM level=DEBUG sample=0.1, API level=WARNING, * sample=0.5`; `*` is each channel without a rule.

    Raises:
        ValueError: naming what is wrong.

    """
    given: object = _parse(value) if isinstance(value, str) else value
    if not isinstance(given, dict):
        raise ValueError(f"channels is {_shown(value)}; expected such as 'LLM level=DEBUG sample=0.1, API level=ERROR'")
    return {str(name): _rule(str(name), rule) for name, rule in given.items()}


def _parse(text: str) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = {}
    for part in text.replace("\n", ",").split(","):
        name, *words = part.split() or [""]
        if not name:
            continue
        pairs = [word.partition("=") for word in words]
        wrong = [word for word, (_name, sign, _value) in zip(words, pairs) if not sign]
        if wrong or "=" in name:
            raise ValueError(f"channels: {_shown(wrong[0] if wrong else name)} in {_shown(part.strip())}")
        found[name] = {key: value for key, _sign, value in pairs}
    return found


def _rule(channel: str, rule: object) -> dict[str, object]:
    if not isinstance(rule, dict) or set(rule) - set(_NAMES):
        raise ValueError(f"channels: {channel[:64]} is {_shown(rule)}; a channel has {' and '.join(_NAMES)}")
    found: dict[str, object] = {}
    if rule.get("level") is not None:
        level = {"WARN": "WARNING"}.get(str(rule["level"]).upper(), str(rule["level"]).upper())
        if level not in LEVELS:
            raise ValueError(
                f"channels: {channel[:64]}: level is {_shown(rule['level'])}; there are {', '.join(LEVELS)}"
            )
        found["level"] = level
    if rule.get("sample") is not None:
        found["sample"] = _share(channel, rule["sample"])
    return found


def _share(channel: str, value: object) -> float:
    try:
        share = float(str(value))
    except ValueError:
        share = float("nan")
    if not 0 <= share <= 1:
        raise ValueError(f"channels: {channel[:64]}: sample is {_shown(value)}; expected a number from 0 to 1")
    return share


def _shown(value: object) -> str:
    return repr(value)[:60]


class Sieve:
    """Tells which records are reported, and counts those that the share left out.

    Args:
        level: of channels without one.
        channels: as `read_channels` gives them.

    """

    def __init__(self, level: str, channels: Mapping[str, Mapping[str, object]]) -> None:
        others = channels.get(OTHERS, {})
        self.sampled_out = 0
        self._others = _resolved(others, level, 1.0)
        self._rules = {
            name: _resolved(rule, str(others.get("level", level)), self._others[1])
            for name, rule in channels.items()
            if name != OTHERS
        }

    def keeps(self, record: Record, *, whatever_share: bool = False) -> bool:
        """Whether it is reported; `whatever_share`: by its level alone."""
        least, share = self._rules.get(record.channel, self._others) if self._rules else self._others
        level = LEVELS[record.level]
        if level < least:
            return False
        if share >= 1 or whatever_share or level >= LEVELS["ERROR"] or record.status == "error":
            return True
        if _number(record) < share * _ALL:
            return True
        self.sampled_out += 1
        return False


def _resolved(rule: Mapping[str, object], level: str, share: float) -> Rule:
    return LEVELS[str(rule.get("level", level))], float(str(rule.get("sample", share)))


def _number(record: Record) -> int:
    """From 0 to `_ALL`, the same for all records of a trace."""
    if record.place is None:
        return int.from_bytes(os.urandom(_RANDOM_DIGITS // 2), "big")
    return int(record.place.trace[-_RANDOM_DIGITS:], 16)
