"""What tests of the client of the Messages API share: it and the fake API, and what it gives."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from skill_actors.models import (
    AnthropicModel,
    BlockDelta,
    Message,
    MessageDone,
    ModelError,
    ModelEvent,
    ModelRequest,
)
from skill_actors.testing import (
    Answer,
    FakeMessagesApi,
    open_fake_api,
)
from support import run

__all__ = ["KEY", "ask", "collect", "connected", "done", "failing", "text_of", "user", "without_authorities"]


KEY = "sk-test-0123456789"


@pytest.fixture(autouse=True)
def without_authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the machine's certificates for every client would be most of the time of these tests."""
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))


def user(*content: dict[str, Any] | str) -> Message:
    return {"role": "user", "content": [{"type": "text", "text": c} if isinstance(c, str) else c for c in content]}


def ask(*messages: Message, **fields: Any) -> ModelRequest:
    return ModelRequest(model="claude-sonnet-5-5", messages=messages or [user("hello")], **fields)


@contextlib.asynccontextmanager
async def connected(
    *answers: Answer, stall_timeout_s: float = 10.0, key: Callable[[], str] = lambda: KEY, api_keys: Any = None
) -> AsyncIterator[tuple[FakeMessagesApi, AnthropicModel]]:
    async with open_fake_api(answers, api_keys=api_keys) as api:
        model = AnthropicModel(key, base_url=api.base_url, stall_timeout_s=stall_timeout_s)
        try:
            yield api, model
        finally:
            with trio.CancelScope(shield=True):
                await model.aclose()


async def collect(model: AnthropicModel, request: ModelRequest | None = None) -> list[ModelEvent]:
    async with model.stream(request or ask()) as events:
        return [event async for event in events]


def text_of(events: Sequence[ModelEvent], kind: str = "text") -> str:
    return "".join(event.text for event in events if isinstance(event, BlockDelta) and event.kind == kind)


def done(events: Sequence[ModelEvent]) -> MessageDone:
    endings = [event for event in events if isinstance(event, MessageDone)]
    assert endings == [events[-1]]
    return endings[0]


def failing(answer: Answer, **options: Any) -> ModelError:
    """The error of a call that is answered so."""

    async def main() -> ModelError:
        async with connected(answer, **options) as (_, model):
            with pytest.raises(ModelError) as caught:
                await collect(model)
            return caught.value

    return run(main)
