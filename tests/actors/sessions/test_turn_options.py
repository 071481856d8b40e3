"""What one message asks for its own turn: checked when it is taken, kept over a crash, gone with the turn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from session_kit import ME, open_kit
from skill_actors.errors import Refused
from skill_actors.sessions.turn_options import EFFORTS, NO_OPTIONS, TurnOptions, check_turn_options
from skill_actors.testing import Reply, ScriptedModel, Text
from steering_kit import bash, ended, refused, see
from support import run

ALL_TOOLS = ["bash_tool", "create_file", "str_replace", "view"]


def answering() -> ScriptedModel:
    return ScriptedModel(respond=lambda _body: Reply([Text("ok")]))


def test_what_is_stored_is_read_back() -> None:
    for options in (
        NO_OPTIONS,
        TurnOptions(model="m", effort="low", max_tokens=5, tools=("a", "b")),
        TurnOptions(tools=()),
        TurnOptions(timeout_s=1.5, budget={"usd": 2}),
    ):
        assert TurnOptions.of(options.to_json()) == options
    assert TurnOptions.of(None) == NO_OPTIONS
    assert NO_OPTIONS.to_json() == {}


def test_they_hold_for_their_turn_and_no_other(tmp_path: Path) -> None:
    model = answering()
    options = {"model": "claude-haiku-4-5", "effort": "low", "max_tokens": 77, "tools": ["view"]}

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            turn = (await kit.manager.submit(session, ME, "a", options=options)).turn
            assert (await ended(kit, turn))["result"]["text"] == "ok"
            await kit.ask(session, "b")
            first, second = model.requests
            assert (first.model, first.max_tokens) == ("claude-haiku-4-5", 77)
            assert [tool["name"] for tool in first.tools] == ["view"]
            assert first.extra["output_config"] == {"effort": "low"}
            assert (second.model, second.max_tokens) == ("claude-sonnet-5-5", 8192)
            assert sorted(str(tool["name"]) for tool in second.tools) == ALL_TOOLS
            assert "output_config" not in second.extra
            (queued, *_) = await kit.events(session)
            assert queued.data["options"] == options

    run(main)


def test_no_tools_are_no_tools_and_a_call_of_one_is_denied(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([bash("touch made")]), Reply([Text("no")])])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            turn = (await kit.manager.submit(session, ME, "a", options={"tools": []})).turn
            await ended(kit, turn)
            assert list(model.requests[0].tools) == []
            assert not (tmp_path / "workspaces" / session / "made").exists()
            assert "tool.started" not in await kit.types(session)

    run(main)


def test_they_are_kept_over_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, answering()) as kit:
            session = await kit.session()
            await kit.manager.pause(session, ME)
            turn = (await kit.manager.submit(session, ME, "a", options={"max_tokens": 5, "tools": ["view"]})).turn
        model = answering()
        async with open_kit(tmp_path, model) as kit:
            await kit.manager.resume(session, ME)
            await ended(kit, turn)
            assert model.requests[0].max_tokens == 5
            assert [tool["name"] for tool in model.requests[0].tools] == ["view"]

    run(main)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"effort": "enormous"}, "one of low, medium, high"),
        ({"effort": 3}, "options.effort"),
        ({"max_tokens": 0}, "at least 1"),
        ({"max_tokens": True}, "at least 1"),
        ({"max_tokens": 5.0}, "at least 1"),
        ({"model": "claude-sonnet-5-5", "max_tokens": 10_000_000}, "writes at most"),
        ({"model": ""}, "options.model"),
        ({"model": "a\0b"}, "options.model"),
        ({"tools": "view"}, "list of names"),
        ({"tools": [1]}, "list of names"),
        ({"tools": ["rm"]}, "offers no tool 'rm'; it offers bash_tool"),
        ({"tols": ["view"]}, "did you mean tools"),
        ({"temperature": 1}, "unknown field 'temperature'"),
        ({"timeout_s": 0}, "options.timeout_s"),
        ({"timeout_s": float("nan")}, "options.timeout_s"),
        ({"budget": {"usd": -1}}, "options.budget"),
        ({"budget": {"euro": 1}}, "options.budget: 'euro' is no limit"),
        ({"budget": 5}, "options.budget: a budget must be an object"),
        ({"budget": {"usd": 1}}, "nothing is counted here"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_stored(
    tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, answering()) as kit:
            session = await kit.session()
            with refused("bad_request", says):
                await kit.manager.submit(session, ME, "a", options=options)
            assert await kit.events(session) == []

    run(main)


def test_a_model_that_nobody_answers_to_is_refused(tmp_path: Path) -> None:
    model = answering()

    def resolve(name: str | None) -> tuple[ScriptedModel, str]:
        if name == "unheard-of":
            raise Refused("backend_unavailable", "no model 'unheard-of' here")
        return model, name or "claude-sonnet-5-5"

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            record = await kit.journal.get_session(await kit.session())
            assert record is not None
            env = replace(kit.manager._env, resolve_model=resolve)
            with refused("backend_unavailable", "unheard-of"):
                await check_turn_options(env, record, {"model": "unheard-of"})
            assert await check_turn_options(env, record, {"model": None}) is None

    run(main)


@pytest.mark.parametrize("effort", EFFORTS)
def test_every_word_of_the_api_is_taken(tmp_path: Path, effort: str) -> None:
    model = answering()

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            turn = (await kit.manager.submit(session, ME, "a", options={"effort": effort, "tools": None})).turn
            assert (await ended(kit, turn))["status"] == "finished"
            assert model.requests[0].extra["output_config"] == {"effort": effort}

    run(main)


def test_the_same_key_with_other_options_is_other_content(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, answering()) as kit:
            session = await kit.session()
            one = await kit.manager.submit(session, ME, "a", (), "k", options={"effort": "low"})
            assert (await kit.manager.submit(session, ME, "a", (), "k", options={"effort": "low"})).turn == one.turn
            with refused("idempotency_conflict"):
                await kit.manager.submit(session, ME, "a", (), "k")
            await ended(kit, one.turn)

    run(main)


# -- the schema of a session -------------------------------------------------------------------------------------

NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


def test_a_sessions_schema_holds_for_its_messages_unless_they_say_otherwise(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([Text('{"n": 1}')]), Reply([Text("text")]), Reply([Text("[]")])])
    array = {"type": "array"}

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session(schema=NUMBER)
            for schema, answer in ((None, '{"n": 1}'), (False, "text"), (array, "[]")):
                turn = (await kit.manager.submit(session, ME, "a", schema=schema)).turn  # type: ignore[arg-type]
                assert (await ended(kit, turn))["result"]["text"] == answer
            asked = [
                request.extra.get("output_config", {}).get("format", {}).get("schema") for request in model.requests
            ]
            assert asked == [NUMBER, None, array]

    run(main)


def test_a_sessions_schema_that_is_none_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, answering()) as kit:
            choices: list[Any] = [{}, [], "x"]
            for bad in choices:
                with refused("bad_request", "schema"):
                    await kit.session(schema=bad)

    run(main)


def test_a_fork_and_an_import_keep_the_schema_and_no_pause(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel(respond=lambda _: Reply([Text('{"n": 1}')]))) as kit:
            session = await kit.session(schema=NUMBER)
            await kit.manager.pause(session, ME)
            fork = await kit.manager.fork(session, ME)
            async with kit.manager.export(session, ME) as lines:
                raw = b"".join([f"{line}\n".encode() async for line in lines])
            made = await kit.manager.import_session(ME.uid, raw)
            for other in (fork, made):
                assert other["status"] == "idle"
                turn = await kit.ask(other["id"], "a")
                assert turn["status"] == "finished"
                record = await kit.journal.get_session(other["id"])
                assert record is not None
                assert record.settings["schema"] == NUMBER

    run(main)


def test_a_message_waits_with_its_options_while_a_turn_runs(tmp_path: Path) -> None:
    hold = trio.Event()
    model = ScriptedModel([Reply([Text("an answer so far")], holds={1: hold}), Reply([Text("b")])])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            await kit.manager.submit(session, ME, "a")
            await see(kit, session, "model.delta")
            turn = (await kit.manager.submit(session, ME, "b", options={"max_tokens": 9})).turn
            hold.set()
            await ended(kit, turn)
            assert [request.max_tokens for request in model.requests] == [8192, 9]

    run(main)
