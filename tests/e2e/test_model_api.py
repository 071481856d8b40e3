"""Conversations with the fake Messages API, which streams and checks requests as the real one does."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from e2e.harness import Daemon, processes_with, running
from skill_actors.testing import (
    Answer,
    Cut,
    FakeMessagesApi,
    HttpError,
    Reply,
    StreamError,
    Text,
    Thinking,
    ToolUse,
    serve_in_thread,
)

pytestmark = pytest.mark.e2e

SOON_S = 20.0
ECHO = {"command": "echo x", "description": "d"}


class Service:
    """A daemon and the API it calls."""

    def __init__(self, daemon: Daemon, api: FakeMessagesApi) -> None:
        self.daemon = daemon
        self.api = api

    def will_answer(self, *answers: Answer) -> Daemon:
        """Script the next answers; without a script a message is answered as its own text directs."""
        self.api.enqueue(*answers)
        return self.daemon


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One daemon for all tests here, since each imports the SDK anew: three seconds of computing."""
    with serve_in_thread(FakeMessagesApi([])) as api:
        env = {"ANTHROPIC_API_KEY": "sk-ant-secret-of-the-test", "ANTHROPIC_BASE_URL": api.base_url}
        with running(tmp_path_factory.mktemp("daemon"), env=env) as daemon:
            yield Service(daemon, api)


def test_two_rounds_of_tools_with_parallel_calls(started: Service) -> None:
    daemon = started.daemon
    met = "until [ -e {} ]; do sleep 0.01; done; echo beta"
    one, other = f"touch one; {met.format('other')}", f"touch other; {met.format('one')}"
    message = (
        'Do it\n#call create_file {"path": "a.txt", "file_text": "alpha", "description": "d"}\n'
        f'#call bash_tool {{"command": "{one}", "description": "d"}}\n'
        f'#call bash_tool {{"command": "{other}", "description": "d"}}\n#then\n'
        '#call view {"path": "a.txt"}\n#call bash_tool {"command": "exit 3", "description": "d"}'
    )
    session = daemon.create()
    turn = daemon.ask(session, message)
    assert turn["status"] == "finished", turn
    assert "alpha" in turn["result"]["text"]
    assert turn["result"]["iterations"] == 3
    assert turn["result"]["cost_usd"] > 0
    finished = {e["data"]["name"]: e["data"] for e in daemon.events(session) if e["type"] == "tool.finished"}
    assert finished["bash_tool"]["exit_code"] == 3
    commands = [e for e in daemon.events(session) if e["data"].get("name") == "bash_tool"]
    started_seqs = [e["seq"] for e in commands if e["type"] == "tool.started"]
    finished_seqs = [e["seq"] for e in commands if e["type"] == "tool.finished"]
    assert started_seqs[1] < finished_seqs[0], "the two calls of the first round did not overlap"


def test_what_the_tool_says_never_holds_the_key(started: Service) -> None:
    turn = started.daemon.ask(started.daemon.create(), '#call bash_tool {"command": "env", "description": "d"}')
    assert turn["status"] == "finished"
    everything = started.daemon.log.read_text() + str(started.daemon.events(turn["session"]))
    assert "secret-of-the-test" not in everything


def test_thinking_goes_back_unchanged_and_later_turns_see_earlier_ones(started: Service) -> None:
    answers = (
        Reply(
            [Thinking("let me think"), Text("first"), ToolUse("bash_tool", {"command": "echo x", "description": "d"})]
        ),
        Reply([Text("second")]),
        Reply([Text("third")]),
    )
    daemon = started.will_answer(*answers)
    session = daemon.create(system="Be brief.")
    daemon.ask(session, "one")
    daemon.kill()
    daemon.start()
    assert daemon.ask(session, "two")["result"]["text"] == "third"
    body = started.api.bodies[-1]
    assert body["system"] if isinstance(body["system"], str) else body["system"][0]["text"].startswith("Be brief.")
    roles = [message["role"] for message in body["messages"]]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    assert [block["type"] for block in body["messages"][1]["content"]] == ["thinking", "text", "tool_use"]
    assert "restarted" in str(body["messages"][-1])


def test_half_a_surrogate_pair_from_the_model_does_not_end_the_conversation(started: Service) -> None:
    said = "half \ud83d of a pair"
    call = ToolUse("bash_tool", {"command": "true \ude00", "description": "d"})
    daemon = started.will_answer(Reply([Text(said), call]), Reply([Text(said)]), Reply([Text("fine")]))
    session = daemon.create()
    assert daemon.ask(session, "one")["result"]["text"] == said
    assert daemon.ask(session, "two")["result"]["text"] == "fine"
    assert next(event["data"]["text"] for event in daemon.events(session) if event["type"] == "model.delta") == said
    assert daemon.skillctl("show", session).stdout.count("half ? of a pair") == 2


def test_a_busy_api_is_tried_again_and_the_client_sees_one_answer(started: Service) -> None:
    daemon = started.will_answer(HttpError(429, retry_after_s=0.1), HttpError(529), Reply([Text("made it")]))
    session = daemon.create()
    assert daemon.ask(session, "go")["result"]["text"] == "made it"
    assert sum(e["type"] == "model.message" for e in daemon.events(session)) == 1


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (HttpError(401), "model_authentication"),
        (HttpError(400), "model_invalid_request"),
        (Reply([Text("partial answer here")], fail=StreamError(after=2)), "model_overloaded"),
        (Reply([Text("partial answer here")], fail=Cut(after=2)), "model_connection"),
    ],
)
def test_a_failed_call_ends_the_turn_with_a_code_and_the_next_turn_works(
    started: Service, failure: Answer, code: str
) -> None:
    daemon = started.will_answer(failure, Reply([Text("fine")]))
    session = daemon.create()
    failed = daemon.ask(session, "one")
    assert (failed["status"], failed["result"]["error"]["code"]) == ("failed", code)
    assert daemon.ask(session, "two")["result"]["text"] == "fine"


@pytest.mark.parametrize("reason", ["refusal", "max_tokens"])
def test_stop_reasons_are_passed_on(started: Service, reason: str) -> None:
    daemon = started.will_answer(Reply([Text("up to here")], stop_reason=reason))
    result = daemon.ask(daemon.create(), "go")["result"]
    assert (result["stop_reason"], result["text"]) == (reason, "up to here")


def test_a_paused_turn_goes_on(started: Service) -> None:
    from skill_actors.testing import ServerToolUse, Whole

    pause = Reply(
        [Text("searching "), ServerToolUse("web_search", {"query": "x"}, id="srvtoolu_1")], stop_reason="pause_turn"
    )
    found = Whole({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []})
    daemon = started.will_answer(pause, Reply([found, Text("found")]))
    result = daemon.ask(daemon.create(), "go")["result"]
    assert (result["text"], result["iterations"]) == ("searching found", 2)


def test_cancel_in_mid_stream_keeps_the_partial_text(started: Service) -> None:
    daemon = started.daemon
    session = daemon.create()
    turn = daemon.post(session, "count\n#words 20000\n#delay 0.01").json()["turn"]
    with (
        daemon.http() as http,
        http.stream(
            "GET", f"/v1/sessions/{session}/events", params={"after": 0}, headers={"accept": "text/event-stream"}
        ) as stream,
    ):
        for line in stream.iter_lines():
            if line.startswith("event: model.delta"):
                break
    began = time.monotonic()
    with daemon.http() as http:
        http.post(f"/v1/turns/{turn}/cancel")
    ended = daemon.wait(turn)
    assert ended["status"] == "cancelled"
    assert time.monotonic() - began < 5
    assert ended["result"]["text"]
    assert "You said: count\nword0".startswith(ended["result"]["text"][:15])
    assert daemon.ask(session, "go on")["status"] == "finished"


def test_200_turns_on_50_sessions_at_once_all_answered_in_the_right_session(started: Service) -> None:
    daemon = started.daemon
    sessions = [daemon.create(title=f"s{n}") for n in range(50)]

    def talk(number: int) -> None:
        session = sessions[number]
        for turn in range(4):
            call = f'#call bash_tool {{"command": "echo in-{number}-{turn}", "description": "d"}}\n'
            result = daemon.ask(session, f"session {number} turn {turn}\n" + (call if turn % 2 else ""))["result"]
            assert f"You said: session {number} turn {turn}" in result["text"], result
            assert turn % 2 == 0 or f"in-{number}-{turn}" in result["text"], result

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(talk, range(50)))
    with daemon.http() as http:
        status = http.get("/v1/status").json()
    assert (status["turns_running"], status["turns_queued"]) == (0, 0)
    daemon.kill()  # and what a daemon leaves behind that had no chance to tidy up, is nothing
    deadline = time.monotonic() + SOON_S
    while left := processes_with(str(daemon.state)):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)
    daemon.start()


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}


def test_an_answer_by_a_schema_comes_as_json_and_one_that_is_none_fails(started: Service, tmp_path: Path) -> None:
    file = tmp_path / "person.json"
    file.write_text(json.dumps(PERSON))
    daemon = started.will_answer(Reply([Text('{"name": "Ada"}')]), Reply([Text("Her name is Ada.")]))
    done = daemon.skillctl("send", "--schema", str(file), "who?")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"name": "Ada"})
    assert started.api.requests[-1].body["output_config"] == {"format": {"type": "json_schema", "schema": PERSON}}
    failed = daemon.skillctl("send", "--schema", str(file), "who?")
    assert failed.returncode == 1
    assert "is not what was asked for: it is not JSON" in failed.stderr


def test_a_schema_that_the_api_does_not_take_fails_the_turn_with_its_reason(started: Service) -> None:
    daemon = started.daemon
    with daemon.http() as http:
        path = f"/v1/sessions/{daemon.create()}/messages"
        accepted = http.post(path, json={"text": "who?", "schema": {"type": "object"}})
        assert accepted.status_code == 202
        turn = daemon.wait(accepted.json()["turn"])
        assert turn["result"]["error"]["code"] == "model_invalid_request"
        assert "additionalProperties" in turn["result"]["error"]["message"]
        assert http.post(path, json={"text": "who?", "schema": 3}).status_code == 400
        assert http.post(path, json={"text": "who?", "schema": {}}).json()["error"]["code"] == "bad_request"
