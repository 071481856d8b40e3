"""The client watches SDKs as programs still have them, in an environment of their own that has nothing else of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monitor_kit import Collector
from old_clients_kit import run_old
from openai_kit import MODEL, serving_openai
from skill_actors.testing import FakeMessagesApi

ANTHROPIC = """
import asyncio, json, os, sys
import skilld_monitor
made = skilld_monitor.enable_monitoring("shop", capture="output")
import anthropic, httpx
ASK = dict(model="claude-sonnet-5-5", max_tokens=64, messages=[{"role": "user", "content": "the secret question"}])
url, said = os.environ["API"], []
client = anthropic.Anthropic(base_url=url, api_key="k", max_retries=0)
before = anthropic.resources.messages.Messages.create
said.append(client.messages.create(**ASK).content[0].text)
said.append(client.with_options(timeout=30).messages.create(**ASK).content[0].text)
said.append(client.messages.with_raw_response.create(**ASK).parse().content[0].text)
with client.messages.with_streaming_response.create(**ASK) as response:
    said.append(response.parse().content[0].text)
stream = client.messages.create(**ASK, stream=True)
assert type(stream) is anthropic.Stream
said.append("".join(event.delta.text for event in stream if event.type == "content_block_delta"))
with client.messages.stream(**ASK) as stream:
    said.append("".join(stream.text_stream))
    assert stream.get_final_message().usage.output_tokens == 5
with client.messages.stream(**ASK) as stream:
    next(iter(stream))
said.append(client.beta.messages.create(**ASK).content[0].text)
said.append(client.beta.prompt_caching.messages.create(**ASK).content[0].text)

async def main():
    async with anthropic.AsyncAnthropic(base_url=url, api_key="k") as client:
        said.append((await client.messages.create(**ASK)).content[0].text)
        async with client.messages.stream(**ASK) as stream:
            said.append(await stream.get_final_text())
        said.append("".join([
            event.delta.text
            async for event in await client.messages.create(**ASK, stream=True)
            if event.type == "content_block_delta"
        ]))
asyncio.run(main())

failed = ""
try:
    anthropic.Anthropic(base_url=url + "/nowhere", api_key="k", max_retries=0).messages.create(**ASK)
except anthropic.NotFoundError as error:
    failed = type(error).__name__
OLD = {"id": "c1", "type": "completion", "completion": "old", "stop_reason": "stop_sequence", "model": "claude-2.1"}
complete = lambda request: httpx.Response(200, json=OLD)
old = anthropic.Anthropic(api_key="k", http_client=httpx.Client(transport=httpx.MockTransport(complete)))
said.append(old.completions.create(model="claude-2.1", prompt="secret", max_tokens_to_sample=5).completion)
problem = made.problem
made.disable(20)
client.messages.create(**ASK)
restored = not hasattr(anthropic.resources.messages.Messages.create, "__skilld_monitor__")
print(json.dumps({"said": said, "failed": failed, "problem": problem, "restored": restored,
                  "version": anthropic.__version__, "ours": "skilld" in sys.modules}))
"""

OPENAI = """
import asyncio, json, os
import skilld_monitor
made = skilld_monitor.enable_monitoring("shop", capture="output")
import openai
from pydantic import BaseModel
ASK = dict(model=os.environ["MODEL"], messages=[{"role": "user", "content": "the secret question"}])
url, said = os.environ["API"], []
client = openai.OpenAI(base_url=url, api_key="k", max_retries=0)
said.append(client.chat.completions.create(**ASK).choices[0].message.content)
said.append(client.beta.chat.completions.parse(**ASK).choices[0].message.content)
said.append(client.chat.completions.with_raw_response.create(**ASK).parse().choices[0].message.content)
with client.chat.completions.create(**ASK, stream=True) as stream:
    assert isinstance(stream, openai.Stream)
    said.append("".join(piece.choices[0].delta.content or "" for piece in stream if piece.choices))
with client.beta.chat.completions.stream(**ASK) as stream:
    said.append(stream.get_final_completion().choices[0].message.content)

async def main():
    async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client:
        said.append((await client.chat.completions.create(**ASK)).choices[0].message.content)
        pieces = await client.chat.completions.create(**ASK, stream=True)
        said.append("".join([piece.choices[0].delta.content or "" async for piece in pieces if piece.choices]))
asyncio.run(main())

said.append(client.completions.create(model=ASK["model"], prompt="secret").choices[0].text)
client.embeddings.create(model="m", input="secret")
failed = ""
try:
    client.chat.completions.create(**{**ASK, "model": "broken"})
except openai.BadRequestError as error:
    failed = type(error).__name__
problem = made.problem
made.disable(20)
restored = not hasattr(openai.resources.chat.Completions.create, "__skilld_monitor__")
print(json.dumps({"said": said, "failed": failed, "problem": problem, "restored": restored,
                  "version": openai.__version__}))
"""


@pytest.fixture
def folder(tmp_path: Path, collector: Collector) -> Path:
    return tmp_path / "m"


def spans(collector: Collector) -> list[dict[str, Any]]:
    found = collector.events(channel="LLM")
    assert "secret" not in str(found)
    return found


def test_an_anthropic_of_late_2024_is_watched_whole(folder: Path, collector: Collector, api: FakeMessagesApi) -> None:
    printed = run_old(ANTHROPIC, folder, api=api.base_url)
    assert printed["version"].startswith("0.")
    assert (printed["problem"], printed["restored"], printed["ours"]) == ("", True, False)
    assert printed["said"] == ["an answer"] * 11 + ["old"]
    *chats, failed, completion = spans(collector)
    left = chats.pop(6)
    assert (left["status"], left["data"]["gen_ai.usage.input_tokens"]) == ("closed", 1110)
    assert [span["name"] for span in chats] == ["chat claude-sonnet-5-5"] * 11
    for span in chats:
        data = span["data"]
        assert (span["status"], data["gen_ai.response.finish_reasons"]) == ("ok", ["end_turn"])
        assert (data["gen_ai.usage.input_tokens"], data["gen_ai.usage.output_tokens"]) == (1110, 5)
        assert data["gen_ai.usage.cache_read.input_tokens"] == 1000
        assert data["gen_ai.output.messages"][0]["text"] == "an answer"
        assert "skilld.unread" not in data
    assert (failed["status"], failed["data"]["error.type"]) == ("error", printed["failed"])
    assert (completion["name"], completion["data"]["gen_ai.output.messages"]) == ("text_completion claude-2.1", "old")


def test_an_openai_of_late_2024_is_watched_whole(folder: Path, collector: Collector) -> None:
    with serving_openai() as url:
        printed = run_old(OPENAI, folder, api=url, model=MODEL)
    assert printed["version"].startswith("1.")
    assert (printed["problem"], printed["restored"], printed["failed"]) == ("", True, "BadRequestError")
    assert printed["said"] == ["an answer"] * 8
    *chats, completion, embeddings, failed = spans(collector)
    assert [span["name"] for span in chats] == [f"chat {MODEL}"] * 7
    for span in chats:
        data = span["data"]
        assert (span["status"], data["gen_ai.response.finish_reasons"]) == ("ok", ["stop"])
        assert (data["gen_ai.usage.input_tokens"], data["gen_ai.usage.output_tokens"]) == (30, 7)
        assert data["gen_ai.output.messages"][0]["content"] == "an answer"
        assert "skilld.unread" not in data
    assert (completion["name"], embeddings["name"]) == (f"text_completion {MODEL}", "embeddings m")
    assert (failed["status"], failed["data"]["error.type"]) == ("error", "BadRequestError")
