"""A real daemon and the fake API: a conversation is made shorter, killed, and goes on; pictures come along."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.harness import Daemon, running
from image_kit import png
from pdf_kit import pdf
from skill_actors.testing import FakeMessagesApi, Reply, Text, serve_in_thread

pytestmark = pytest.mark.e2e

LONG = "the tide comes in at nine and goes out at three; " * 400
SUMMARY = "They spoke of tides."


@pytest.fixture(scope="module")
def api() -> Iterator[FakeMessagesApi]:
    with serve_in_thread(FakeMessagesApi([])) as api:
        yield api


@pytest.fixture(scope="module")
def daemon(api: FakeMessagesApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    env = {"ANTHROPIC_API_KEY": "sk-ant-secret-of-the-test", "ANTHROPIC_BASE_URL": api.base_url}
    with running(tmp_path_factory.mktemp("daemon"), env=env) as daemon:
        yield daemon


def test_compact_makes_later_requests_shorter_also_after_a_kill(api: FakeMessagesApi, daemon: Daemon) -> None:
    api.enqueue(*(Reply([Text(LONG)]) for _ in range(3)), Reply([Text(SUMMARY)]), Reply([Text("fine")]))
    session = daemon.create()
    pinned = daemon.skillctl("send", "-s", session, "--pin", "--no-wait", "always use metres").stdout.strip()
    assert daemon.wait(pinned)["status"] == "finished"
    daemon.ask(session, "question 1")
    daemon.ask(session, "question 2")
    long = len(json.dumps(api.bodies[-1]["messages"]))
    done = daemon.skillctl("compact", session)
    assert "is a summary now" in done.stdout
    daemon.kill()
    daemon.start()
    assert daemon.ask(session, "question 3")["result"]["text"] == "fine"
    sent = json.dumps(api.bodies[-1]["messages"])
    assert SUMMARY in sent
    assert "always use metres" in sent
    assert "question 1" not in sent
    assert len(sent) < long / 5
    shown = daemon.skillctl("show", session).stdout
    assert "context: [" in shown
    assert "question 1" in shown
    assert "[compacted: the model reads a summary" in shown


def test_pictures_and_documents_of_a_message_reach_the_model(
    api: FakeMessagesApi, daemon: Daemon, tmp_path: Path
) -> None:
    api.enqueue(Reply([Text("a red one")]))
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "b.pdf").write_bytes(pdf())
    given = [argument for name in ("a.png", "b.pdf") for argument in ("--file", str(tmp_path / name))]
    done = daemon.skillctl("send", *given, "what is it?")
    assert done.stdout == "a red one\n"
    kinds = [block["type"] for block in api.bodies[-1]["messages"][0]["content"]]
    assert kinds == ["text", "text", "image", "document", "text"]


def test_a_chat_tells_how_full_the_window_is_and_makes_the_conversation_shorter(
    api: FakeMessagesApi, daemon: Daemon
) -> None:
    api.enqueue(*(Reply([Text(LONG)]) for _ in range(2)), Reply([Text(SUMMARY)]))
    session = daemon.create()
    typed = ":context\nquestion 0\nquestion 1\n:context\n:compact\n"
    done = daemon.skillctl("chat", "-s", session, "--no-history", input=typed)
    assert "not known before a model has answered" in done.stdout
    assert "context: [" in done.stdout
    assert "is a summary now" in done.stdout
