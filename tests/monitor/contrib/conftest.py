"""Each test has monitoring on, and a daemon's receiving side; none leaves a span open."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contrib_kit import Reported
from monitor_kit import Collector
from skilld_monitor.trace import current


@pytest.fixture
def reported(collector: Collector) -> Iterator[Reported]:
    yield Reported(collector)
    assert current() is None
