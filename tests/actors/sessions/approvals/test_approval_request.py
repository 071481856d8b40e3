"""What is shown is what is bound: any difference in what would run is another digest, and is told in words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_actors.sessions.approvals import ApprovalRequest, NamedFile
from skill_actors.sessions.policy.shown import is_visible

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.lists(st.text(max_size=10), max_size=4)
FILES = st.lists(
    st.builds(NamedFile, path=st.text(max_size=8), sha256=st.none() | st.text(max_size=4), note=st.text(max_size=4)),
    max_size=3,
    unique_by=lambda file: file.path,
)
REQUESTS = st.builds(
    ApprovalRequest,
    session=st.text(max_size=5),
    turn=st.text(max_size=5),
    call=st.text(max_size=5),
    tool=st.sampled_from(["bash_tool", "create_file"]),
    place=st.sampled_from(["local", "box"]),
    backend=st.sampled_from(["local", "docker"]),
    input=st.dictionaries(st.sampled_from(["command", "path", "x"]), JSON, max_size=3),
    argv=st.none() | WORDS.map(tuple),
    cwd=st.none() | st.text(max_size=5),
    environment=WORDS.map(tuple),
    files=FILES.map(tuple),
    skill=st.none() | st.dictionaries(st.sampled_from(["name", "digest"]), st.text(max_size=4)),
    reason=st.text(max_size=5),
    rule=st.none() | st.text(max_size=5),
)
BOUND = ["tool", "place", "backend", "input", "argv", "cwd", "environment", "files", "skill"]


@given(REQUESTS, REQUESTS)
def test_two_have_one_digest_only_if_the_same_would_run_for_the_same_call(
    one: ApprovalRequest, other: ApprovalRequest
) -> None:
    same = all(
        json.dumps(_plain(getattr(one, name)), sort_keys=True)
        == json.dumps(_plain(getattr(other, name)), sort_keys=True)
        for name in [*BOUND, "session", "turn", "call"]
    )
    assert (one.digest == other.digest) == same


@given(REQUESTS, REQUESTS, st.sampled_from(BOUND))
def test_whatever_differs_is_named_and_nothing_else_is(one: ApprovalRequest, other: ApprovalRequest, name: str) -> None:
    changed = replace(one, **{name: getattr(other, name)}, reason=other.reason, rule=other.rule)
    assert (one.changes(changed) == []) == (one.digest == changed.digest)


@given(REQUESTS)
def test_what_is_stored_is_read_back_and_bound_to_the_same(request_: ApprovalRequest) -> None:
    stored = json.loads(json.dumps(request_.to_dict()))
    back = ApprovalRequest.from_dict(stored)
    assert back.digest == request_.digest == stored["digest"]
    assert back.to_dict() == stored


@given(REQUESTS, st.text())
def test_the_line_for_people_is_inert_and_short(request_: ApprovalRequest, command: str) -> None:
    line = replace(request_, input={"command": command}).shown()
    assert all(is_visible(char) for char in line)
    assert len(line) <= 500


@pytest.mark.parametrize(
    "hostile",
    ["\x1b[2K\rls", "a\nb", "a\u202erm", "x\u200by", "\x9b31m", "\ue000", "tag\U000e0041", "cr\rlf", "\x00", "\ud800"],
)
def test_escapes_directions_and_what_cannot_be_seen_are_made_visible(hostile: str) -> None:
    line = _request(input={"command": f"echo {hostile}; rm x"}).shown()
    assert all(is_visible(char) for char in line)
    assert "\\" in line
    assert line.endswith("; rm x")


def test_a_long_command_loses_its_middle_and_the_input_keeps_it() -> None:
    command = f"begin {'x' * 5000} rm -rf / {'y' * 5000} end"
    request = _request(input={"command": command})
    assert request.shown().startswith("bash_tool: begin")
    assert request.shown().endswith("end")
    assert "characters" in request.shown()
    assert request.to_dict()["input"]["command"] == command


def test_words_that_a_shell_would_join_are_told_apart() -> None:
    one, other = _request(argv=("a b",)), _request(argv=("a", "b"))
    assert one.digest != other.digest
    assert (one.command, other.command) == ("'a b'", "a b")
    assert one.changes(other) == ["the command"]


def _request(**changes: Any) -> ApprovalRequest:
    made: dict[str, Any] = {
        "session": "s", "turn": "t", "call": "c", "tool": "bash_tool", "place": "p", "backend": "b",
        "input": {"command": "ls"},
    }  # fmt: skip
    return ApprovalRequest(**{**made, **changes})


def _plain(value: Any) -> Any:
    return (
        [file.to_dict() for file in value]
        if isinstance(value, tuple) and value and isinstance(value[0], NamedFile)
        else value
    )
