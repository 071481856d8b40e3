"""What a call costs that had code executed: the time of its container is not told."""

from __future__ import annotations

from dataclasses import replace

from skill_actors.models.assembly import MessageAssembly
from skill_actors.models.base import Usage
from skill_actors.models.prices import load_prices

MODEL = "claude-sonnet-5-5"
PLAIN = Usage(input_tokens=1000, output_tokens=100)
RAN = replace(PLAIN, code_execution_requests=2)


def test_the_cost_is_unknown_unless_the_operator_says_that_containers_are_free() -> None:
    prices = load_prices()
    assert prices.cost_usd(MODEL, RAN) is None
    known = prices.cost_usd(MODEL, PLAIN)
    assert known is not None
    assert replace(prices, free_containers=True).cost_usd(MODEL, RAN) == known > 0


def test_runs_are_counted_from_what_the_api_reports_and_add_up() -> None:
    start = {"model": MODEL, "usage": {"input_tokens": 5, "server_tool_use": {"code_execution_requests": 1}}}
    assembly = MessageAssembly()
    assembly.feed({"type": "message_start", "message": start})
    more = {"server_tool_use": {"code_execution_requests": 3}, "output_tokens": 2}
    assembly.feed({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": more})
    assert assembly.usage.code_execution_requests == 3
    assert (assembly.usage + RAN).code_execution_requests == 5
    assert Usage.from_dict(RAN.to_dict()) == RAN
    assert Usage.from_dict({"input_tokens": 1}).code_execution_requests == 0


def test_the_container_may_be_told_at_the_begin_or_at_the_end() -> None:
    for at_start, at_end in (({"id": "c1"}, None), (None, {"id": "c1"}), ({"id": "old"}, {"id": "c1"})):
        assembly = MessageAssembly()
        assembly.feed({"type": "message_start", "message": {"model": MODEL, "container": at_start}})
        assembly.feed({"type": "message_delta", "delta": {"stop_reason": "end_turn", "container": at_end}})
        (done,) = assembly.feed({"type": "message_stop"})
        assert getattr(done, "container", None) == "c1"
