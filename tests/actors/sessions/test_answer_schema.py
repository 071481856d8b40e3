"""Answers by a JSON schema: what is asked of the model, what is taken from it, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from session_kit import ME, Kit, open_kit
from skill_actors.errors import Refused
from skill_actors.models.offline import OfflineModel
from skill_actors.sessions.answer_schema import check_schema, output_config, schema_fault
from skill_actors.testing import Reply, ScriptedModel, Text, ToolUse
from support import run

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}
GOOD = '{"name": "Ada", "age": 36}'


async def answered(kit: Kit, text: str, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    session = await kit.session()
    accepted = await kit.manager.submit(session, ME, text, schema=schema)
    return await kit.manager.get_turn(accepted.turn, ME, wait_s=20)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD, None),
        ('{"name": "Ada"}', None),
        ("Ada is 36.", "it is not JSON"),
        ("", "it is not JSON"),
        ('{"name": NaN}', "NaN is no value of JSON"),
        ("[" * 100_000, "it is not JSON"),
        ('{"age": 36}', "the field name is missing"),
        ('{"name": 3}', "the answer.name must be a string, not 3"),
        ('{"name": "Ada", "x": 1}', "unknown field 'x'"),
        ("[]", "must be an object"),
    ],
)
def test_an_answer_is_held_to_the_schema(text: str, says: str | None) -> None:
    found = schema_fault(PERSON, text)
    assert (found is None) == (says is None)
    assert says is None or says in str(found)


def test_of_a_schema_with_more_than_is_known_here_the_answer_is_json_at_least() -> None:
    schema = {"type": ["object", "null"], "$defs": {}}
    assert schema_fault(schema, "3") is None
    assert schema_fault(schema, "three") is not None


@pytest.mark.parametrize("schema", [[], {}, "x", {"type": float("nan")}, {"enum": ["x" * 70_000]}])
def test_what_is_no_schema_is_refused(schema: object) -> None:
    with pytest.raises(Refused, match="schema: expected"):
        check_schema(schema)


def test_the_model_is_asked_for_it_in_each_call_of_the_turn_and_the_answer_is_the_text(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([ToolUse("bash_tool", {"command": "true", "description": "d"})]), Reply([Text(GOOD)])])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            turn = await answered(kit, "who?", PERSON)
            assert (turn["status"], turn["result"]["text"]) == ("finished", GOOD)
            expected = {"format": {"type": "json_schema", "schema": PERSON}}
            assert [request.extra["output_config"] for request in model.requests] == [expected, expected]
            (queued, *_) = await kit.events(turn["session"])
            assert queued.data["schema"] == PERSON
            model.enqueue(Reply([Text("plain")]))
            assert (await kit.ask(turn["session"], "and now?"))["status"] == "finished"
            assert output_config(None) == {}
            assert "output_config" not in model.requests[-1].extra

    run(main)


@pytest.mark.parametrize("reason", ["end_turn", "max_tokens", "refusal"])
def test_an_answer_that_is_something_else_fails_the_turn_and_keeps_the_text(tmp_path: Path, reason: str) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([Text('{"name": "A')], stop_reason=reason)])) as kit:
            turn = await answered(kit, "who?", PERSON)
            assert (turn["status"], turn["result"]["error"]["code"]) == ("failed", "schema_mismatch")
            assert reason in turn["result"]["error"]["message"]
            assert turn["result"]["text"] == '{"name": "A'

    run(main)


def test_a_message_that_waited_over_a_restart_still_has_its_schema(tmp_path: Path) -> None:
    async def first() -> str:
        async with open_kit(tmp_path, ScriptedModel()) as kit:
            session = await kit.session()
            kit.manager._intake.wake = lambda *_args: None  # type: ignore[method-assign]  # nobody takes it up
            return (await kit.manager.submit(session, ME, "who?", schema=PERSON)).turn

    turn = run(first)
    model = ScriptedModel([Reply([Text("no JSON")])])

    async def second() -> None:
        async with open_kit(tmp_path, model) as kit:
            ended = await kit.manager.get_turn(turn, ME, wait_s=20)
            assert ended["result"]["error"]["code"] == "schema_mismatch"

    run(second)


def test_a_conversation_with_such_messages_is_exported_and_imported(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([Text(GOOD)])])) as kit:
            turn = await answered(kit, "who?", PERSON)
            async with kit.manager.export(turn["session"], ME) as lines:
                raw = "\n".join([line async for line in lines]).encode()
            copy = await kit.manager.import_session(ME.uid, raw)
            (queued, *_) = await kit.events(str(copy["id"]))
            assert queued.data["schema"] == PERSON

    run(main)


def test_the_same_key_with_another_schema_is_a_conflict(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([Text(GOOD)])])) as kit:
            session = await kit.session()
            await kit.manager.submit(session, ME, "who?", (), "key", schema=PERSON)
            again = await kit.manager.submit(session, ME, "who?", (), "key", schema=PERSON)
            assert again.duplicate
            with pytest.raises(Refused, match="has other content"):
                await kit.manager.submit(session, ME, "who?", (), "key")

    run(main)


def test_the_offline_model_says_that_it_cannot(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, OfflineModel()) as kit:
            turn = await answered(kit, "who?", PERSON)
            assert turn["result"]["error"]["code"] == "model_invalid_request"
            assert "not a language model" in turn["result"]["error"]["message"]

    run(main)
