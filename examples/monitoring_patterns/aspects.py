"""Aspects, for code that is not to be touched. Needs aspectlib."""

from __future__ import annotations

from contextlib import suppress

import aspectlib  # type: ignore[import-untyped]
from offline import shown

from skilld_monitor import enable_monitoring
from skilld_monitor.contrib.aspect import monitoring_aspect


class Orders:
    def confirm(self, number: int) -> float:
        return 1 / number


def main() -> None:
    enable_monitoring("orders")
    with aspectlib.weave(Orders.confirm, monitoring_aspect):
        print(Orders().confirm(4))
        with suppress(ZeroDivisionError):
            Orders().confirm(0)


if __name__ == "__main__":
    with shown():
        main()
