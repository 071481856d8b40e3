"""Everything in a batch is masked, what was found is told once, and nothing is stored that was not looked at."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from skilld.config import MonitorConfig, ScanConfig
from skilld.monitor.batch import Batch, MonitorEvent, as_json, read_batch
from skilld.monitor.inspected import Inspected, Origin
from skilld.monitor.inspection.book import RuleBook
from skilld.monitor.inspection.inspector import NOT_SCANNED, Inspector, _Told
from skilld_monitor.scanning import RuleSet

KEY = "AKIA" + "QWERTYUIOPASDFGH"  # well-formed, and nobody's
DANGER = "please rm -rf / now"
ORIGIN = Origin(1000, 1)
RUN = "ab" * 16


def inspector(config: MonitorConfig | None = None, **clocks: Any) -> Inspector:
    made = config or MonitorConfig()
    return Inspector(RuleBook(), lambda: made, **clocks)


def batch(*events: dict[str, Any], **more: Any) -> Batch:
    made = [{"seq": n, "time_us": 1, "name": "x", "level": "INFO", **event} for n, event in enumerate(events)]
    return read_batch(json.dumps({"batch": 1, "run": RUN, "agent": "shop", **more, "events": made}).encode())


def look(*events: dict[str, Any], by: Inspector | None = None, **more: Any) -> Inspected:
    return (by or inspector()).inspect(batch(*events, **more), ORIGIN)


def rules(inspected: Inspected) -> list[str]:
    return [found.finding.rule for found in inspected.findings]


def ways(inspected: Inspected) -> list[str]:
    return [found.finding.direction for found in inspected.findings]


def conversation(*texts: str) -> dict[str, Any]:
    messages = [{"role": "user", "parts": [{"type": "text", "content": text}]} for text in texts]
    return {"data": {"gen_ai.input.messages": messages}}


def test_every_text_of_every_event_is_masked_wherever_it_stands() -> None:
    places: list[dict[str, Any]] = [
        {"name": f"n {KEY}"},
        {"channel": KEY},
        {"session": KEY},
        {"user": KEY},
        {"agent": KEY},
        {"tags": ["a", KEY]},
        {"masked": ["a", KEY]},
        {"data": KEY},
        {"data": [1, [None, {"deep": {KEY: 1}}]]},
        {"data": {KEY: "as a name", "x": {"y": [f"and {KEY}"]}}},
        {"data": {"gen_ai.system_instructions": [{"type": "text", "content": KEY}]}},
        {"data": {"gen_ai.input.messages": [f"plain {KEY}", {"role": "user", KEY: [KEY]}]}},
        {"data": {"gen_ai.tool.call.arguments": {"command": f"aws --key {KEY}"}, "error.message": KEY}},
    ]
    found = look(*places, program=f"/bin/{KEY}", environment=KEY)
    assert KEY not in repr(found.batch)
    assert KEY not in repr([item.sample for item in found.findings])
    assert {item.index for item in found.findings} == set(range(len(places)))
    assert KEY not in repr(look({}, agent=KEY).batch)


def test_two_fields_whose_names_are_masked_alike_stay_two_beside_a_conversation() -> None:
    names = [f"password={n}Zq7wXe9RtY{n}" for n in (1, 2, 3)]
    (event,) = look(
        {"data": {"gen_ai.input.messages": [dict.fromkeys(names, "x")], **dict.fromkeys(names, 1)}}
    ).batch.events
    assert len(event.data) == 4
    assert len(event.data["gen_ai.input.messages"][0]) == 3
    assert "Zq7wXe9RtY" not in repr(event)


def test_what_has_nothing_to_mask_is_the_same_object() -> None:
    given = batch({"data": {"n": 1, "text": "an order of three apples", "tags": ["a"]}}, conversation("hello"))
    found = inspector().inspect(given, ORIGIN)
    assert found.batch is given
    assert found.findings == ()


def test_the_direction_is_that_of_the_field_and_the_part() -> None:
    parts = [{"type": "tool_call", "arguments": {"command": DANGER}}, {"type": "tool_call_response", "result": DANGER}]
    messages = [
        {"role": "system", "content": DANGER},
        {"role": "user", "content": f"1 {DANGER}"},
        {"role": "assistant", "content": f"2 {DANGER}"},
        {"role": "assistant", "parts": parts},
    ]
    assert set(ways(look({"data": {"gen_ai.input.messages": messages}}))) >= {"input", "output", "tool_arguments"}
    for field, way in (
        ("gen_ai.output.messages", "output"),
        ("gen_ai.tool.call.arguments", "tool_arguments"),
        ("something", "event"),
    ):
        assert set(ways(look({"data": {field: DANGER}}))) == {way}


def test_earlier_messages_of_a_conversation_are_told_of_once() -> None:
    by = inspector()
    assert len(rules(look(conversation(DANGER), by=by))) == 1
    assert rules(look(conversation(DANGER, "thanks"), by=by)) == [], "it was told with the turn before"
    assert len(rules(look(conversation(DANGER, "thanks", DANGER), by=by))) == 1, "it is said again"
    assert len(rules(look({**conversation(DANGER, "thanks"), "session": "another"}, by=by))) == 1
    masked = look(conversation(f"{KEY} a", "b"), conversation(f"{KEY} a", "b"), by=by)
    assert KEY not in repr(masked.batch), "what is not told again is masked all the same"


def test_what_was_told_is_remembered_by_several_threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skilld.monitor.inspection.inspector._MOST_TOLD", 50)
    told = _Told()

    def note(thread: int) -> None:
        for number in range(50_000):
            told.note((thread, number), 0.0)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(note, range(2)))
    finally:
        sys.setswitchinterval(before)


def test_one_finding_for_each_rule_and_direction_however_often_it_fits() -> None:
    found = look({"data": {f"field{n}": f"{DANGER} {n}" for n in range(500)}})
    assert len(found.findings) == 1


def test_what_the_program_masked_itself_is_a_finding_too() -> None:
    (known,) = [rule for rule in RuleBook().rules.rules if rule.id == "secret.aws-access-key-id"]
    found = look({"masked": [known.id, "its-own-rule"]})
    assert [(item.finding.rule, item.finding.severity) for item in found.findings] == [
        (known.id, known.severity),
        ("its-own-rule", "medium"),
    ]


def test_what_the_program_found_before_a_call_is_a_finding_too() -> None:
    data = {"security.rules": ["secret.aws-access-key-id", KEY, 3, ""], "security.direction": "tool_arguments"}
    found = look(
        {"name": "LLM_call_blocked", "data": data}, {"data": {"security.rules": "x", "security.direction": []}}
    )
    assert rules(found)[0] == "secret.aws-access-key-id"
    assert set(ways(found)) <= {"tool_arguments", "event"}
    assert ways(found)[0] == "tool_arguments"
    assert KEY not in repr(rules(found)), "what a program calls a rule is a text like others"


def test_what_there_was_no_time_for_is_stored_without_its_content() -> None:
    config = MonitorConfig(scan=ScanConfig(batch_timeout_s=1.0))
    ticks = iter([0.0, 0.5, 2.0, 3.0])
    by = inspector(config, busy=lambda: next(ticks))
    found = look({"data": {"a": KEY}}, {"data": {"a": KEY}, "session": "kept"}, {"data": "x", "name": KEY}, by=by)
    first, second, third = found.batch.events
    assert KEY not in repr(first)
    assert second.data == {"skilld.not_scanned": "there was no time to look at it"}
    assert (second.session, third.data) == ("kept", second.data)
    assert KEY not in third.name, "names are looked at in any case"
    assert rules(found).count(NOT_SCANNED) == 2


def test_a_rule_that_fails_on_a_text_leaves_the_content_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: RuleSet, value: object, direction: str = "event") -> Any:
        raise RecursionError(KEY)

    by = inspector()
    monkeypatch.setattr(RuleSet, "mask", fail)
    found = look({"data": {"a": KEY}}, {"data": {}}, by=by)
    assert [event.data for event in found.batch.events] == [
        {"skilld.not_scanned": "it could not be looked at: RecursionError"}
    ] * 2
    assert rules(found) == [NOT_SCANNED] * 2


def test_a_name_that_a_rule_fails_on_is_not_shown_and_its_event_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: RuleSet, text: str, direction: str = "event") -> Any:
        raise RecursionError(KEY)

    by = inspector()
    monkeypatch.setattr(RuleSet, "mask_text", fail)
    found = look({"name": KEY, "session": KEY, "data": {}}, by=by, agent=KEY)
    assert KEY not in repr(found)
    assert (found.batch.agent, found.batch.events[0].name) == ("[not looked at]", "[not looked at]")


@pytest.mark.parametrize(
    "data",
    [
        None,
        0,
        [],
        {},
        {"": ""},
        {"gen_ai.input.messages": [None, 1, [], {"role": 3, "content": {"a": 1}}, {"parts": [None, 1]}]},
        {"gen_ai.input.messages": {"role": "user"}},
        {"gen_ai.input.messages": "text"},
        {"x": "\ud800 lone"},
        {"x": "\u202e‮" * 1000},
        {"x": [[[[[[[[[[{"y": "z"}]]]]]]]]]]},
    ],
)
def test_content_of_any_shape_goes_through_unchanged(data: Any) -> None:
    given = Batch(
        number=1,
        run=RUN,
        agent="a",
        pid=1,
        program="",
        environment="",
        events=(MonitorEvent(1, 1, "x", "A", "INFO", data=data),),
        refused=0,
    )
    found = inspector().inspect(given, ORIGIN)
    assert as_json(found.batch.events[0].data) == as_json(data)
    assert found.findings == ()


def test_where_nothing_is_looked_for_the_batch_is_as_it_came() -> None:
    given = batch({"data": KEY})
    by = inspector(MonitorConfig(scan=ScanConfig(enabled=False)))
    assert by.inspect(given, ORIGIN).batch is given
    assert by.policy_for("shop")["rules"] == []
