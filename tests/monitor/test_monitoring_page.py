"""The programs of docs/monitoring.md run as they stand there."""

from __future__ import annotations

import pytest

import skilld_monitor
from doc_kit import ROOT, blocks
from monitor_kit import Collector
from skilld_monitor.context import clear

PAGE = "docs/monitoring.md"

pytestmark = pytest.mark.skipif(not (ROOT / PAGE).is_file(), reason="reads the manual, and this is a copy of the tests")


def test_what_a_thread_reports_belongs_to_the_request(collector: Collector) -> None:
    (block,) = (block for block in blocks(PAGE) if "ThreadPoolExecutor" in block.text)
    try:
        exec(compile(block.text, PAGE, "exec"), {"__name__": "page"})
    finally:
        clear(everywhere=True)
    skilld_monitor.disable_monitoring()
    found = {event["name"]: event for event in collector.events()}
    looked_up, request = found["looked_up"], found["request"]
    assert (looked_up["agent"], request["agent"]) == ("clerk", "order-desk")
    for event in (looked_up, request):
        assert (event["session"], event["user"], event["tags"]) == ("s-17", "u-4", ["beta"])
    assert looked_up["data"] == {"tenant": "acme", "n": 3}
    assert looked_up["span"] == request["span"]
