"""What the fake API counts as a token."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_actors.testing.prompt import prompt_tokens
from skill_actors.testing.tokens import (
    MAX_IMAGE_TOKENS,
    MESSAGE_TOKENS,
    PDF_PAGE_TOKENS,
    TOOLS_TOKENS,
    block_tokens,
    image_size,
    text_tokens,
    tool_tokens,
)


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)


def jpeg(width: int, height: int) -> bytes:
    exif = b"\xff\xe1" + struct.pack(">H", 20_002) + bytes(20_000)
    return b"\xff\xd8" + exif + b"\xff\xc0" + struct.pack(">HBHH", 17, 8, height, width)


def image(content: bytes) -> dict[str, Any]:
    data = base64.b64encode(content).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


@settings(deadline=None, max_examples=60)
@given(st.text(st.characters(exclude_categories=()), max_size=600))
def test_a_text_never_has_more_tokens_than_bytes(text: str) -> None:
    tokens = text_tokens(text)
    assert tokens <= len(text.encode("utf-8", "replace"))
    assert (tokens > 0) == (text != "")
    assert text_tokens(text) == tokens


def test_prose_has_about_a_token_for_four_bytes() -> None:
    prose = "The quick brown fox jumps over the lazy dog, and nobody has asked it to. " * 40
    assert 3.5 < len(prose) / text_tokens(prose) < 6
    assert text_tokens("日本語") > 3


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=200), st.text(max_size=200))
def test_a_longer_text_has_no_fewer_tokens(text: str, more: str) -> None:
    assert text_tokens(text + more) >= text_tokens(text) - 1  # a word may go on


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (png(300, 200), (300, 200)),
        (jpeg(640, 480), (640, 480)),
        (b"GIF89a" + struct.pack("<HH", 17, 9), (17, 9)),
        (b"RIFF....WEBPVP8X" + bytes(8) + b"\x1f\x03\x00\x57\x02\x00", (800, 600)),
        (b"RIFF....WEBPVP8L" + bytes(5) + struct.pack("<I", 799 | 599 << 14), (800, 600)),
        (b"RIFF....WEBPVP8 " + bytes(10) + struct.pack("<HH", 800, 600), (800, 600)),
        (b"RIFF....WEBPXXXX" + bytes(20), None),
        (b"\x89PNG\r\n\x1a\n", None),
        (b"\xff\xd8\xff", None),
        (b"%PDF-1.7", None),
    ],
)
def test_the_size_of_an_image_is_read_from_its_head(content: bytes, size: tuple[int, int] | None) -> None:
    assert image_size(content) == size


def test_an_image_counts_by_its_size_and_has_a_most() -> None:
    assert block_tokens(image(png(28, 28))) == 1
    assert block_tokens(image(png(1024, 1024))) == 37 * 37
    assert block_tokens(image(png(8000, 8000))) == MAX_IMAGE_TOKENS
    assert block_tokens(image(b"?")) == MAX_IMAGE_TOKENS
    assert block_tokens({"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}) == MAX_IMAGE_TOKENS


def test_a_pdf_counts_by_its_pages_and_a_text_document_by_its_text() -> None:
    pages = b"<< /Type /Pages /Count 2 >> << /Type /Page >> << /Type/Page /Parent 1 0 R >>"
    source = {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(pages).decode()}
    assert block_tokens({"type": "document", "source": source}) == 2 * PDF_PAGE_TOKENS
    text = {"type": "text", "media_type": "text/plain", "data": "some words here"}
    assert block_tokens({"type": "document", "source": text}) == text_tokens("some words here")
    parts = {"type": "content", "content": [{"type": "text", "text": "some words here"}]}
    assert block_tokens({"type": "document", "title": "T", "source": parts}) == 1 + text_tokens("some words here")
    assert block_tokens({"type": "document", "source": {"type": "file", "file_id": "f"}}) == PDF_PAGE_TOKENS


def test_a_prompt_counts_tools_system_and_messages() -> None:
    tool = {"name": "t", "description": "words", "input_schema": {"type": "object"}}
    body = {
        "model": "m",
        "system": "Be brief.",
        "tools": [tool, {**tool, "name": "late", "defer_loading": True}],
        "messages": [{"role": "user", "content": "hello"}],
    }
    said = text_tokens("Be brief.") + text_tokens("hello")
    assert prompt_tokens(body) == TOOLS_TOKENS + tool_tokens(tool) + said + MESSAGE_TOKENS


BLOCKS = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, st.text()),
    st.builds(lambda id, text: {"type": "tool_result", "tool_use_id": id, "content": text}, st.text(), st.text()),
    st.builds(
        lambda id, text: {"type": "tool_use", "id": id, "name": "t", "input": {"command": text}}, st.text(), st.text()
    ),
    st.builds(lambda text: {"type": "thinking", "thinking": text, "signature": "s"}, st.text()),
    st.builds(lambda text: {"type": "compaction", "content": text}, st.text() | st.none()),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(BLOCKS, min_size=1, max_size=4), min_size=1, max_size=4), st.text(), st.booleans())
def test_a_prompt_never_has_more_tokens_than_its_json_has_bytes(
    contents: list[list[dict[str, Any]]], system: str, with_tools: bool
) -> None:
    messages = [{"role": "user", "content": content} for content in contents]
    body: dict[str, Any] = {"model": "m", "messages": messages, "system": system}
    if with_tools:
        body["tools"] = [{"name": "t", "description": system, "input_schema": {"type": "object"}}]
    size_bytes = len(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"))
    assert prompt_tokens(body) <= size_bytes + (TOOLS_TOKENS if with_tools else 0)
