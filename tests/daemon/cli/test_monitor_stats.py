"""What `skillctl monitor stats` says of money."""

from __future__ import annotations

import pytest

from skilld.cli.commands.monitor.stats import cost_text


@pytest.mark.parametrize(
    ("cost_usd", "said"),
    [(None, "-"), (0.0, "$0.0000"), (0.00004, "<$0.0001"), (0.0001, "$0.0001"), (12.34567, "$12.3457")],
)
def test_a_little_is_not_nothing(cost_usd: float | None, said: str) -> None:
    assert cost_text(cost_usd) == said
