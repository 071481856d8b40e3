"""Each test has monitoring on, and a daemon's receiving side; none leaves a span open."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from contrib_kit import Reported
from monitor_kit import Collector
from skilld_monitor.trace import current


@pytest.fixture
def reported(collector: Collector) -> Iterator[Reported]:
    yield Reported(collector)
    assert current() is None


@pytest.fixture(autouse=True)
def _closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clients that programs of a manual make and leave open are closed, and not found by a later test's collector."""
    made: list[anthropic.Anthropic] = []
    original = anthropic.Anthropic.__init__

    @functools.wraps(original)
    def remembered(self: anthropic.Anthropic, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        made.append(self)

    with monkeypatch.context() as patch:
        patch.setattr(anthropic.Anthropic, "__init__", remembered)
        yield
    for client in made:
        client.close()
