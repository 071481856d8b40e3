"""How long monitoring took to begin, and whether it is well: here it is not, since no daemon listens."""

from __future__ import annotations

import os

from offline import shown

from skilld_monitor.contrib.meta import enable_timed, report_health


def main() -> None:
    os.environ["SKILLD_MONITOR_SOCKET"] = "/nowhere/monitor.sock"
    enable_timed("order-processing").flush(timeout_s=30)
    found = report_health()
    print(found["is_on"], found["is_well"], found["dropped"])


if __name__ == "__main__":
    with shown():
        main()
