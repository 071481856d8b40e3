"""What a summary is to stand for."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from history_kit import result, text, use
from skill_actors.sessions.compaction.plan import plan_compaction
from skill_actors.sessions.compaction.rendering import rendered
from skill_actors.sessions.dialogue import Kind, Piece, first_to_keep

WORDS = "word " * 400  # 500 tokens


def pieces_of(*kinds: Kind, pinned: int | None = None) -> list[Piece]:
    made: list[Piece] = []
    for seq, kind in enumerate(kinds, 1):
        content = [text(f"{seq} {WORDS}")]
        if kind == "results":
            content = [result(f"c{seq - 1}", WORDS)]
        if kind == "answer" and kinds[seq : seq + 1] == ("results",):
            content = [text(WORDS), use(f"c{seq}")]
        made.append(Piece(seq, kind, content, f"t{seq}", pinned == seq))
    return made


def test_the_latest_stay_as_far_as_they_fit() -> None:
    pieces = pieces_of("said", "answer", "said", "answer", "said", "answer")
    plan = plan_compaction(pieces, running=None, open_answer=False, keep_tokens=1_100)
    assert plan is not None
    assert plan.kept_from_seq == 5
    assert plan.replaced == pieces[:4]
    nothing = plan_compaction(pieces, running=None, open_answer=False, keep_tokens=0)
    assert nothing is not None
    assert nothing.kept_from_seq is None


def test_results_that_no_answer_has_followed_stay_with_their_calls() -> None:
    pieces = pieces_of("said", "answer", "said", "answer", "results")
    plan = plan_compaction(pieces, running="t3", open_answer=False, keep_tokens=0)
    assert plan is not None
    assert plan.kept_from_seq == 4
    assert plan.replaced == pieces[:2]  # the question of the turn that runs stays, too


def test_results_are_never_parted_from_their_calls() -> None:
    pieces = pieces_of("said", "answer", "results", "answer", "said", "answer")
    plan = plan_compaction(pieces, running=None, open_answer=False, keep_tokens=2_300)
    assert plan is not None
    assert plan.kept_from_seq == 2


def test_what_is_pinned_is_not_summarised_and_a_summary_alone_is_not_summarised_again() -> None:
    pieces = pieces_of("summary", "said", pinned=2)
    assert plan_compaction(pieces, running=None, open_answer=False, keep_tokens=0) is None
    longer = pieces_of("summary", "said", "said", "answer", pinned=2)
    plan = plan_compaction(longer, running=None, open_answer=False, keep_tokens=0)
    assert plan is not None
    assert [piece.seq for piece in plan.replaced] == [1, 3, 4]


def test_what_a_summary_has_left_can_be_summarised_at_once() -> None:
    """The number of its event is higher than those of what it stands before."""
    summary, *kept = pieces_of("summary", "said", "answer", "said", "answer")
    pieces = [replace(summary, seq=9), *kept]
    plan = plan_compaction(pieces, running=None, open_answer=False, keep_tokens=1_100)
    assert plan is not None
    assert plan.replaced == pieces[:3]
    assert plan.kept_from_seq == 4


KINDS: st.SearchStrategy[list[Kind]] = st.lists(st.sampled_from(["said", "answer", "results", "note"]), max_size=25)


@given(KINDS, st.integers(0, 8_000), st.booleans())
def test_whatever_the_plan_the_history_keeps_exactly_the_rest(kinds: list[Kind], keep: int, is_open: bool) -> None:
    fitting: list[Kind] = []  # results follow an answer
    for kind in kinds:
        fitting.append("said" if kind == "results" and fitting[-1:] != ["answer"] else kind)
    pieces = pieces_of(*fitting)
    plan = plan_compaction(pieces, running=None, open_answer=is_open, keep_tokens=keep)
    if plan is None:
        return
    seq = len(pieces) + 1 if plan.kept_from_seq is None else plan.kept_from_seq
    first = first_to_keep(pieces, seq, open_answer=is_open)
    assert plan.replaced == pieces[:first]
    kept = pieces[first:]
    for before, after in itertools.pairwise([None, *kept]):
        assert after is None or after.kind != "results" or (before is not None and before.kind == "answer")


def test_a_record_is_as_short_as_it_has_to_be_and_one_value_a_line() -> None:
    kinds: list[Kind] = ["said", "answer", "results"]
    pieces = pieces_of(*kinds * 40)
    for room in (1_000, 20_000, 200_000):
        record = rendered(pieces, room)
        assert len(record) <= room
    assert all(line.startswith("{") and line.endswith("}") for line in rendered(pieces, 200_000).splitlines())


def test_a_record_takes_whatever_a_conversation_holds() -> None:
    odd: list[dict[str, Any]] = [
        {"type": "thinking", "thinking": "secret thoughts", "signature": "x"},
        {"type": "server_tool_use", "id": "s", "name": "code_execution", "input": {"code": "1"}},
        {"type": "code_execution_tool_result", "tool_use_id": "s", "content": {"stdout": "<b>1</b>"}},
        {"type": "compaction", "content": "theirs"},
        {"type": "text", "text": "half a pair \ud800 </conversation>"},
    ]
    shown = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}
    said: list[dict[str, Any]] = [
        shown,
        {"type": "document", "title": "a.pdf", "source": {}},
        {"type": "container_upload", "file_id": "f"},
    ]
    record = rendered([Piece(1, "answer", odd), Piece(2, "said", said)], 10_000)
    assert "secret thoughts" not in record
    assert "QUJD" not in record
    assert "<" not in record
    assert "theirs" in record
    assert "a.pdf" in record
    record.encode()
