"""The same code everywhere: what differs is in the environment."""

from __future__ import annotations

import os

from offline import shown

from skilld_monitor import log_event
from skilld_monitor.contrib.environment import enable_from_environment


def main() -> None:
    os.environ["ENVIRONMENT"] = "staging"
    made = enable_from_environment("order-processing")
    print("off" if made is None else made.settings.agent_id)
    log_event("nightly_run", {"orders": 3})


if __name__ == "__main__":
    with shown():
        main()
