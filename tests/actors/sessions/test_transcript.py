"""The file that an export writes, and what an import refuses: by line, and before anything is stored."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_actors.errors import Refused
from skill_actors.sessions.events import Event
from skill_actors.sessions.history import History
from skill_actors.sessions.lineage import branch_of
from skill_actors.sessions.transcript import end_line, event_line, head_line, read_transcript
from skill_actors.store.base import SessionRecord

SESSION = "ses_" + "a" * 26
TURN = "trn_" + "b" * 26
TIME = "2026-01-15T03:29:51.606Z"
USAGE = {"input_tokens": 1, "output_tokens": 2}
ENDING = {"text": "x", "stop_reason": "end_turn", "usage": USAGE, "cost_usd": None}

Lines = list[dict[str, Any]]


def lines() -> Lines:
    """A good file of one turn with a tool call."""
    call = {"type": "tool_use", "id": "t1", "name": "view", "input": {"path": "a"}}
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("turn.queued", {"text": "hello", "files": [{"name": "a", "size": 1}]}),
        ("turn.started", {"model": None}),
        ("model.message", {"model": "m", "content": [call], "stop_reason": "tool_use", "usage": USAGE}),
        ("tool.started", {"id": "t1", "name": "view", "input": {"path": "a"}}),
        ("tool.finished", {"id": "t1", "name": "view", "content": "1\ta", "is_error": False}),
        ("model.delta", {"text": "x", "block": 0, "offset": 1, "kind": "text"}),
        ("model.message", {"model": "m", "content": [{"type": "text", "text": "x"}], "usage": None}),
        ("turn.finished", ENDING),
    ]
    record = SessionRecord(
        id=SESSION,
        owner_uid=7,
        created=TIME,
        updated=TIME,
        settings={"title": "t", "key_digest": "secret"},
        totals={"turns": 1, "usage": USAGE, "cost_usd": 0.5, "attempts": {"x": 1}},
    )
    events = [
        Event(seq=seq, type=type, time=TIME, session=SESSION, turn=TURN, data=data)
        for seq, (type, data) in enumerate(kinds, 1)
    ]
    told = [head_line(record), *map(event_line, events), end_line(len(events))]
    return [json.loads(line) for line in told]


def raw(told: Lines) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in told)


def fault(data: bytes) -> str:
    with pytest.raises(Refused) as caught:
        read_transcript(data)
    assert caught.value.code == "bad_request"
    assert caught.value.message.startswith(f"line {caught.value.details['line']}: ")
    return caught.value.message


def test_a_good_file_is_read_and_holds_nothing_of_the_daemons_own() -> None:
    read = read_transcript(raw(lines()))
    assert (read.session, read.created, len(read.events)) == (SESSION, TIME, 8)
    assert read.settings == {"title": "t"}
    assert read.totals == {"turns": 1, "usage": USAGE, "cost_usd": 0.5}
    for ends in (b"", b"\n", b"\r\n\n"):
        assert read_transcript(raw(lines()).rstrip(b"\n") + ends).events == read.events
    (turn,) = branch_of(read.events, SESSION).turns
    assert (turn.status, turn.seq, turn.result) == ("finished", 1, ENDING)


def test_a_file_that_was_cut_anywhere_is_refused() -> None:
    whole = raw(lines())
    for end in range(len(whole) - 1):
        assert fault(whole[:end])
    ends = fault(whole[: whole.rindex(b'{"kind": "end"')])
    assert ends == "line 9: the file ends here without its end line: it was cut off"


def change(number: int, **fields: Any) -> Callable[[Lines], None]:
    def apply(told: Lines) -> None:
        told[number - 1].update(fields)

    return apply


def change_data(number: int, **fields: Any) -> Callable[[Lines], None]:
    def apply(told: Lines) -> None:
        told[number - 1]["data"].update(fields)

    return apply


def swap(told: Lines) -> None:
    told[2], told[3] = told[3], told[2]


def start_twice(told: Lines) -> None:
    told[3] = {**told[2], "seq": 3}


def go_on_after_the_end(told: Lines) -> None:
    told.insert(9, {**told[6], "seq": 9})
    told[10]["events"] = 9


BAD: dict[str, tuple[Callable[[Lines], Any], str]] = {
    "another kind first": (change(1, kind="event"), 'line 1: the first line'),
    "a newer format": (change(1, format=2), "line 1: format '2' is unknown here; this program reads 1"),
    "a format that is true": (change(1, format=True), "line 1: format"),
    "a field too many in the head": (change(1, owner_uid=0), "line 1: unknown field 'owner_uid'"),
    "settings that are a list": (change(1, settings=[]), "line 1: settings"),
    "half a surrogate pair in a title": (change(1, settings={"title": "a\ud800"}), "line 1: settings"),
    "a NUL in a label": (change(1, settings={"labels": {"a": "b\0"}}), "line 1: settings"),
    "a time in other digits": (change(1, created="\u0662\u0660\u0662\u0666" + TIME[4:]), "line 1: created"),
    "negative costs": (change(1, totals={"cost_usd": -5}), "line 1: totals.cost_usd"),
    "negative tokens": (change(1, totals={"usage": {"input_tokens": -5}}), "line 1: totals.usage"),
    "unknown totals": (change(1, totals={"attempts": {}}), "line 1: totals"),
    "a path as id": (change(1, session="../../etc"), "line 1: session"),
    "another time": (change(1, created="yesterday"), "line 1: created"),
    "an unknown type": (change(2, type="turn.exploded"), "line 2: type 'turn.exploded' is unknown here"),
    "an unknown kind": (change(2, kind="file"), "line 2: \"kind\" is 'file'"),
    "an unknown field": (change(2, session=SESSION), "line 2: unknown field 'session'"),
    "no field": (lambda told: told[1].pop("turn"), "line 2: turn is missing"),
    "a number that comes again": (change(3, seq=1), "line 3: seq: expected a number above 1"),
    "a number that is none": (change(2, seq="1"), "line 2: seq"),
    "a number that is huge": (change(9, seq=2**70), "line 9: seq"),
    "a turn that is a number": (change(2, turn=3), "line 2: turn"),
    "events in the wrong order": (swap, "line 3: turn trn_bbb"),
    "a turn that was not queued": (change(2, turn="trn_" + "c" * 26), "line 3: turn trn_bbb"),
    "a turn that begins twice": (start_twice, "line 4: a turn begins while one runs"),
    "a turn that goes on after its end": (go_on_after_the_end, "line 10: turn trn_bbbb"),
    "an event without its turn": (change(4, turn=None), "line 4: a model.message event belongs to a turn"),
    "a session event with a turn": (change(2, type="session.reset"), "line 2: a session.reset event belongs"),
    "a message that is no text": (change_data(2, text=None), "line 2: data"),
    "a NUL in a message": (change_data(2, text="a\0b"), "line 2: data"),
    "files that are none": (change_data(2, files=["a"]), "line 2: data"),
    "content that is a text": (change_data(4, content="x"), "line 4: data"),
    "a container that is none": (change_data(4, container={"id": "x"}), "line 4: data"),
    "a block without a type": (change_data(4, content=[{"id": "x"}]), "line 4: data"),
    "a call without an id": (change_data(4, content=[{"type": "tool_use", "name": "x"}]), "line 4: data"),
    "a result in an answer": (change_data(4, content=[{"type": "tool_result", "tool_use_id": "x"}]), "line 4: data"),
    "usage that is text": (change_data(4, usage={"input_tokens": "many"}), "line 4: data"),
    "a tool without an id": (lambda told: told[5]["data"].pop("id"), "line 6: data"),
    "an ending without usage": (lambda told: told[8]["data"].pop("usage"), "line 9: data"),
    "an ending with usage that is text": (change_data(9, usage={"input_tokens": "x"}), "line 9: data"),
    "costs that are text": (change_data(9, cost_usd="free"), "line 9: data"),
    "a duration that is text": (change_data(6, duration_ms="long"), "line 6: data"),
    "calls that are a number": (change_data(9, ambiguous=5), "line 9: data"),
    "an error that is no text": (change_data(9, error={"message": {}}), "line 9: data"),
    "a wrong count": (change(10, events=7), "line 10: the end line counts 7 events, and there are 8"),
    "something behind the end": (lambda told: told.append({}), "line 11: something follows"),
    "a number out of range": (change_data(5, input={"x": 10**400}), "line 5: "),
}  # fmt: skip


HOSTED = {"name": "a.xlsx", "file_id": "file_1", "source": "anthropic", "size": None, "checksum": None}


def with_file(data: dict[str, Any]) -> bytes:
    told = lines()
    event = {"kind": "event", "seq": 9, "type": "file.created", "time": TIME, "turn": None, "data": data}
    return raw([*told[:-1], event, {"kind": "end", "events": 9}])


@pytest.mark.parametrize(
    "change",
    [
        {"name": None},
        {"name": "../../etc/passwd"},
        {"name": "/etc/passwd"},
        {"name": ".skilld/x"},
        {"file_id": {"a": 1}},
        {"file_id": "../messages"},
        {"source": None},
        {"size": "many"},
        {"size": -1},
        {"checksum": 5},
    ],
)
def test_a_file_event_that_the_daemon_would_not_have_written_is_refused(change: dict[str, Any]) -> None:
    assert read_transcript(with_file(HOSTED)).events[-1].data == HOSTED
    assert fault(with_file({**HOSTED, **change})) == "line 10: data: not that of a file.created event"


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named_with_its_line(name: str) -> None:
    told = lines()
    spoil, says = BAD[name]
    spoil(told)
    assert re.match(re.escape(says), fault(raw(told)))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "line 1: the file is empty"),
        (b"\n", "line 1: the file is empty"),
        (b"\n{}", "line 1: not JSON"),
        (b"hello", "line 1: not JSON"),
        (b"\xff\xfe{", "line 1: not UTF-8 at byte 0"),
        (b"\xef\xbb\xbf{}", "line 1: not JSON"),
        (b'{"a": "\x00"}', "line 1: not JSON"),
        (b"[]", "line 1: not a JSON object"),
        (b'{"a": NaN}', "line 1: NaN is not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "line 1: not JSON"),
        (b"[" * 100_000, "line 1: nested too deeply"),
        (b'{"a":' * 80 + b"1" + b"}" * 80, "line 1: nested more than 64"),
        (b'{"a": "' + b"x" * (4 << 20) + b'"}', "line 1: the first line"),
    ],
)
def test_what_is_no_json_line_is_refused(data: bytes, says: str) -> None:
    assert fault(data).startswith(says)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 9), st.data())
def test_whatever_is_changed_the_file_is_refused_or_gives_a_history(number: int, data: st.DataObject) -> None:
    """What is let in can be folded into messages and made into turns: nothing that reads events later can fail."""
    told = lines()
    name = data.draw(st.sampled_from(sorted(told[number])))
    if name == "data" and told[number]["data"]:
        inner = data.draw(st.sampled_from(sorted(told[number]["data"])))
        told[number]["data"][inner] = data.draw(json_values)
    else:
        told[number][name] = data.draw(json_values)
    try:
        read = read_transcript(raw(told))
    except Refused:  # anything else is a failure of the test
        return
    branch = branch_of(read.events, SESSION)
    assert [event.seq for event in branch.events] == list(range(1, len(branch.events) + 1))
    History(branch.events).messages()
