"""Decorators, for some functions among many."""

from __future__ import annotations

from offline import shown

from skilld_monitor import enable_monitoring, log_event
from skilld_monitor.contrib.decorator import monitor


@monitor(channel="BUSINESS_LOGIC")
def process_order(amount: int) -> int:
    log_event("order_created", {"order_id": 17, "amount": amount}, "BUSINESS_LOGIC")
    return 17


def main() -> None:
    enable_monitoring("order-processing")
    print(process_order(3))


if __name__ == "__main__":
    with shown():
        main()
