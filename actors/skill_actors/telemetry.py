"""The bus: named measurements, handed to subscribers in the process.

`emit` calls each matching handler at once, in the order of attachment, so handlers must be quick and must not
wait. A handler that raises is logged and detached: watching never breaks what is watched.
Names are dotted words; a pattern is a name, or a prefix ending in `.*`, or `*`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Bus", "Handler", "Measurements", "Metadata"]

Measurements = Mapping[str, float]
Metadata = Mapping[str, object]
Handler = Callable[[str, Measurements, Metadata], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Subscription:
    patterns: tuple[str, ...]
    handler: Handler

    def wants(self, name: str) -> bool:
        return any(
            pattern in ("*", name) or (pattern.endswith(".*") and name.startswith(pattern[:-1]))
            for pattern in self.patterns
        )


class Bus:
    """Subscribers by id. Not for use from several threads."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, _Subscription] = {}
        self._routes: dict[str, tuple[tuple[str, Handler], ...]] = {}  # cache: name -> who wants it

    def attach(self, id: str, patterns: Sequence[str], handler: Handler) -> None:
        """Call `handler(name, measurements, metadata)` for every event that matches one of `patterns`.

        Raises:
            ValueError: if `id` is attached already, or a pattern is empty or has `*` elsewhere than at its end.

        """
        if id in self._subscriptions:
            raise ValueError(f"subscriber {id!r} is attached already; detach it first")
        for pattern in patterns:
            if not pattern or "*" in pattern.removesuffix(".*" if pattern != "*" else "*"):
                raise ValueError(f"pattern {pattern!r} is neither a name, a prefix ending in '.*', nor '*'")
        self._subscriptions[id] = _Subscription(tuple(patterns), handler)
        self._routes.clear()

    def detach(self, id: str) -> bool:
        """Stop calling the subscriber; False if there is none of this id."""
        self._routes.clear()
        return self._subscriptions.pop(id, None) is not None

    def emit(self, name: str, measurements: Measurements, metadata: Metadata) -> None:
        """Tell everyone who wants to know."""
        route = self._routes.get(name)
        if route is None:
            route = tuple((id, s.handler) for id, s in self._subscriptions.items() if s.wants(name))
            self._routes[name] = route
        for id, handler in route:
            try:
                handler(name, measurements, metadata)
            except Exception:
                _log.exception("subscriber %r failed on %s and is detached", id, name)
                self.detach(id)
