"""A program that ends in a way of its own says when."""

from __future__ import annotations

import signal

from offline import shown

from skilld_monitor import enable_monitoring, log_event
from skilld_monitor.contrib.shutdown import graceful, on_signals


def main() -> None:
    enable_monitoring("nightly")
    on_signals(signal.SIGTERM, signal.SIGINT)
    with graceful(timeout_s=60):
        log_event("nightly_run", {"orders": 3})


if __name__ == "__main__":
    with shown():
        main()
