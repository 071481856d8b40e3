"""What programs hand over as content is told, whatever it is made of, and never changed or used up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from skilld_monitor.adapters.content import MAX_FILE_CHARS, content

BASE64 = "iVBORw0KGgo" * 1000


class Block(BaseModel):
    """An object of an SDK."""

    type: str = "text"
    text: str | None = None
    source: dict[str, Any] | None = None


class Hostile:
    """Raises at whatever it is asked."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_text_and_short_files_stay_as_they_are() -> None:
    said = [
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"source": {"type": "base64", "data": "aGk="}}]}
    ]
    assert content(said) == said


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"type": "base64", "media_type": "application/pdf", "data": BASE64}, "application/pdf"),
        ({"url": f"data:image/webp;base64,{BASE64}"}, "image/webp"),
        ({"data": BASE64, "format": "wav"}, "wav"),
        ({"b64_json": BASE64}, "file"),
        ({"file_data": f"data:application/pdf;base64,{BASE64}"}, "application/pdf"),
    ],
)
def test_a_long_file_is_told_by_what_it_is_and_how_long(block: dict[str, Any], said: str) -> None:
    found = json.dumps(content([{"content": [Block(type="image", source=block)]}]))
    assert f"<{said}, {max(len(text) for text in block.values())} characters of base64>" in found
    assert BASE64[:100] not in found
    assert len(BASE64) > MAX_FILE_CHARS


def test_long_text_is_cut_and_is_no_file() -> None:
    text = "not base64, but words. " * 1000
    found: Any = content([{"data": text}])
    assert found[0]["data"].startswith("not base64, but words.")
    assert found[0]["data"].endswith(f"({len(text)} characters)")


def test_what_can_be_read_only_once_is_left_alone() -> None:
    def messages() -> Iterator[dict[str, str]]:
        yield {"role": "user", "content": "hi"}

    given = messages()
    assert "generator" in str(content(given))
    assert next(given)["content"] == "hi"


def test_objects_that_raise_and_lists_in_themselves_are_told_all_the_same() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert isinstance(json.dumps(content([endless, {"a": endless}])), str)
    assert "Hostile" in str(content(Hostile()))
    assert "Hostile" in str(content([{"content": [Hostile()]}]))


def test_a_list_of_a_million_is_not_walked_through() -> None:
    found: Any = content([{"n": "x"}] * 1_000_000)
    assert len(found) < 300
