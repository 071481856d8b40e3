"""JSON as it must not come."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from skill_actors.errors import Refused
from skilld.http.body import parse_json, validate
from skilld.http.routes.messages import MessageRequest


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    text: str = ""
    count: int = 0
    anything: Any = None


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (b"", "not JSON"),
        (b"\r\n", "not JSON"),
        (b"{", "not JSON"),
        (b"{} {}", "not JSON"),
        (b'{"a": "\n"}', "not JSON"),
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (b'{"a": "\xc3"}', "not UTF-8 at byte 7"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": -Infinity}', "-Infinity is not JSON"),
        (b'{"a": 1e999}', "out of range"),
        (b'{"a": 123456789012345678901234567890}', "digits"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
        (b'{"a": 1, "a": 2}', "'a' occurs twice"),
        (b'{"x": {"b": 1, "b": 1}}', "'b' occurs twice"),
        (b'{"a": "\\u0000"}', "NUL"),
        (b'{"\\u0000": 1}', "NUL"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b"[" * 100_000, "levels deep"),
        (b'{"a":' * 50_000, "levels deep"),
        (b"[" * 200 + b"]" * 200, "levels deep"),
    ],
)
def test_bad_json_is_refused_by_name(raw: bytes, word: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_json(raw)
    assert caught.value.code == "bad_request"
    assert word in caught.value.message


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'{"a": "\xe2\x80\xa8"}', {"a": "\u2028"}),
        (b'\r\n{"a": 1}\r\n', {"a": 1}),
        (b'{"a": 9007199254740993}', {"a": 9007199254740993}),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b"[" * 60 + b"]" * 60, None),
    ],
)
def test_unusual_but_good_json_is_taken(raw: bytes, value: object) -> None:
    parsed = parse_json(raw)
    assert value is None or parsed == value


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ([], "JSON array; expected an object"),
        ("x", "JSON string"),
        (None, "JSON null"),
        ({"txt": "x"}, "unknown field 'txt': did you mean 'text'?"),
        ({"zzz": "x"}, "unknown field 'zzz': known: anything, count, text"),
        ({"text": 3}, "field 'text': must be a valid string"),
        ({"count": True}, "field 'count': must be a valid integer"),
        ({"count": "3"}, "field 'count': must be a valid integer"),
    ],
)
def test_a_wrong_shape_names_the_field(value: object, word: str) -> None:
    with pytest.raises(Refused) as caught:
        validate(value, Model)
    assert word in caught.value.message


def test_the_nearest_name_is_that_of_the_place() -> None:
    with pytest.raises(Refused, match=r"unknown field 'files.0.nmae': did you mean 'name'"):
        validate({"text": "x", "files": [{"nmae": "a", "name": "b", "content_base64": ""}]}, MessageRequest)


def test_a_hundred_faults_make_a_short_answer() -> None:
    with pytest.raises(Refused) as caught:
        validate({f"unknown{n}": n for n in range(100)}, Model)
    assert len(caught.value.message) < 2000
