"""Records as they may lie in a file of the program's user: without the secrets that are in them."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skilld_monitor.scanning.rule_set import RuleSet

__all__ = ["masked_record"]

_MASKED = ("name", "channel", "data", "session", "user", "agent", "tags")


def masked_record(raw: bytes, by: RuleSet) -> bytes:
    """A record as JSON, with all that the rules find masked, and the rules' ids under `masked`.

    What cannot be masked is left out, and the record says so. Never raises.
    """
    try:
        record = json.loads(raw)
        rules: set[str] = set()
        for name in _MASKED:
            if name in record:
                record[name], found = by.mask(record[name])
                rules.update(finding.rule for finding in found)
        if not rules:
            return raw
        record["masked"] = sorted({*record.get("masked", ()), *rules})
        return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    except Exception:  # a secret that passes is worse than an event without its content
        return _bare(raw)


def _bare(raw: bytes) -> bytes:
    kept = ("seq", "time_us", "channel", "level", "trace", "span", "parent", "duration_ms", "status")
    try:
        record = json.loads(raw)
        bare = {name: record[name] for name in kept if name in record}
    except Exception:  # it was none
        return b"{}"
    return json.dumps({**bare, "name": "unreadable", "data": {"skilld.not_masked": True}}).encode()
