"""Pictures of a conversation: in its log, in what the model is sent, in exports, and not too many."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_kit import png
from session_kit import open_kit
from skill_actors.models.base import Block, Message
from skill_actors.sessions.shown_images import (
    MAX_DOCUMENTS,
    MAX_IMAGES,
    MAX_IMAGES_CHARS,
    document_block,
    image_block,
    is_image,
    is_shown,
    not_sent,
    with_few_images,
)
from skill_actors.testing import Reply, ScriptedModel, Text, ToolUse
from support import run

PICTURE = b64encode(png()).decode()


def test_the_model_sees_the_picture_it_asked_for_also_in_later_turns(tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel(
            [Reply([ToolUse("view", {"path": "plot.png"})]), Reply([Text("a red one")]), Reply([Text("still red")])]
        )
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            folder = tmp_path / "workspaces" / session
            folder.mkdir(parents=True)
            (folder / "plot.png").write_bytes(png())
            await kit.ask(session, "what is it?")
            await kit.ask(session, "and now?")
            finished = [event.data for event in await kit.events(session) if event.type == "tool.finished"]
        assert finished[0]["images"] == [{"media_type": "image/png", "base64": PICTURE}]
        for request in model.requests[1:]:
            (result,) = [block for message in request.messages for block in _results(message)]
            assert result["content"][0]["type"] == "text"
            assert result["content"][1] == image_block("image/png", PICTURE)

    run(main)


def _results(message: Message) -> list[dict[str, Any]]:
    return [block for block in message["content"] if block["type"] == "tool_result"]


def conversation(pictures: int, chars: int) -> list[Message]:
    shown = image_block("image/png", "x" * chars)
    result = {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "seen"}, shown]}
    return [{"role": "user", "content": [{"type": "text", "text": "hi"}, result]} for _ in range(pictures)]


def kinds(messages: list[Message]) -> list[str]:
    return [str(part["type"]) for message in messages for part in message["content"][1]["content"][1:]]


def test_of_many_pictures_the_latest_are_sent_and_a_text_says_where_others_were() -> None:
    before = conversation(MAX_IMAGES + 1, 10)
    assert kinds(with_few_images(before)) == ["text"] * (MAX_IMAGES // 2 + 1) + ["image"] * (MAX_IMAGES // 2)
    assert kinds(before) == ["image"] * (MAX_IMAGES + 1)
    assert with_few_images(before)[0]["content"][1]["content"][1]["text"].startswith("[a picture was shown here")
    large = conversation(4, MAX_IMAGES_CHARS // 3)
    assert kinds(with_few_images(large)) == ["text", "text", "text", "image"]


def _both(data: str) -> list[Block]:
    return [image_block("image/png", data), document_block("d", data)]


def test_a_further_picture_seldom_changes_what_was_sent_before_it() -> None:
    """Else nothing of a conversation with many pictures would be read from the cache."""
    whole = conversation(200, 10)
    changes = 0
    for count in range(1, len(whole)):
        before, now = with_few_images(whole[:count]), with_few_images(whole[: count + 1])
        changes += now[:count] != before
        assert kinds(now)[-1] == "image"
        assert MAX_IMAGES // 2 <= kinds(now).count("image") <= MAX_IMAGES or count < MAX_IMAGES // 2
    assert 0 < changes < 20


EIGHTHS = [block for size in range(1, 9) for block in _both("x" * (MAX_IMAGES_CHARS // 8 * size))]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.sampled_from(EIGHTHS), max_size=25), max_size=15))
def test_what_is_sent_is_never_more_than_is_allowed_and_the_last_message_goes_last(
    shown: list[list[Block]],
) -> None:
    messages: list[Message] = [{"role": "user", "content": blocks} for blocks in shown]
    sent = with_few_images(messages)
    assert [len(message["content"]) for message in sent] == [len(message["content"]) for message in messages]
    left = [block for message in sent for block in message["content"] if is_shown(block)]
    counts = Counter(block["type"] for block in left)
    assert counts["image"] <= MAX_IMAGES
    assert counts["document"] <= MAX_DOCUMENTS
    assert sum(len(block["source"]["data"]) for block in left) <= MAX_IMAGES_CHARS
    if shown and shown[-1]:
        assert sent[-1]["content"][-1] == messages[-1]["content"][-1]
    assert with_few_images(messages, sees=False) == [
        {"role": "user", "content": [not_sent(block) for block in message["content"]]} for message in messages
    ]


def test_few_pictures_stay_as_they_are() -> None:
    assert with_few_images(conversation(MAX_IMAGES, 10)) == conversation(MAX_IMAGES, 10)


@pytest.mark.parametrize(
    ("value", "takes"),
    [
        ({"media_type": "image/png", "base64": PICTURE}, True),
        ({"media_type": "image/gif", "base64": PICTURE}, False),
        ({"media_type": "image/png", "base64": PICTURE[:40]}, False),
        ({"media_type": "image/png", "base64": "no base64!"}, False),
        ({"media_type": "image/png", "base64": b64encode(b"text").decode()}, False),
        ({"media_type": "image/png"}, False),
        ("image/png", False),
    ],
)
def test_a_picture_of_a_file_is_taken_only_if_the_api_would_take_it(value: object, takes: bool) -> None:
    assert is_image(value) is takes
