"""Setup files applied: what is made, changed, left alone and removed, and what an interruption leaves behind."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from desk_kit import OTHER_UID, refused
from setup_kit import UID, SetupKit, open_shop
from skill_actors.errors import Refused
from skill_actors.workshop.board.worker import FIELDS
from skill_actors.workshop.setup_file.setups import SetupFiles
from support import run

WHOLE: Mapping[str, Any] = {
    "name": "shop",
    "context": "A web shop.",
    "defaults": {"max_turns": 7},
    "budget": {"usd": 20.0},
    "profiles": {"coder": {"role": "You write.", "timeout_s": 600}},
    "agents": {"rev": {"profile": "coder", "role": "You review.", "without": ["timeout_s"]}, "plain": {}},
    "workers": {"crew": {"types": ["code"], "count": 2, "profile": "coder"}},
    "workflows": {"flow": {"stage": [{"name": "one", "agent": "rev", "prompt": "do"}]}},
    "schedules": {"daily": {"agent": "rev", "prompt": "look", "every_s": 86400, "enabled": False}},
    "board": {"items": [{"id": "a", "title": "A", "type": "docs"}, {"id": "b", "title": "B", "depends_on": ["a"]}]},
    "store": {"notes": {"x": 1, "y": {"z": [True]}}},
}
ALL = [
    *("change common", "create profile coder", "create workflow flow", "create agent rev", "create agent plain"),
    *("create worker crew", "create schedule daily", "create item a", "create item b"),
    *("create value notes/x", "create value notes/y"),
]


def changed(**sections: Any) -> dict[str, Any]:
    """The whole with some of its sections changed; None takes one away."""
    whole = {**copy.deepcopy(dict(WHOLE)), **sections}
    return {name: value for name, value in whole.items() if value is not None}


def test_a_file_makes_a_whole_workshop_once_and_says_so_before(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_shop(tmp_path) as kit:
            before = await kit.desk.events()
            assert await kit.done(WHOLE, dry_run=True) == ALL
            assert await kit.desk.events() == before
            assert await kit.done(WHOLE) == ALL
            rev = await kit.desk.view("rev")
            assert rev["system_prompt"] == "A web shop.\n\nYou review."
            assert rev["settings"] == {
                "context": "A web shop.",
                "max_turns": 7,
                "role": "You review.",
                "profile": "coder",
            }
            assert (await kit.desk.view("crew-2"))["settings"]["timeout_s"] == 600
            assert (await kit.shop.entries.get(UID, "notes", "y")).value == {"z": [True]}
            last = await kit.desk.events()
            assert await kit.done(WHOLE) == []
            assert await kit.desk.events() == last
            assert await kit.desk.answer("rev", "hello") == "fine"

    run(main)


def test_what_there_is_makes_the_same_elsewhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_shop(tmp_path) as kit:
            await kit.apply(WHOLE)
            what: dict[str, Any] = {"name": "copy", "board": True, "namespaces": ["notes"]}
            file = await kit.exported(**what)
            assert await kit.done(file, dry_run=True, prune=True) == []
            assert sorted(await kit.done(file, owner_uid=OTHER_UID)) == sorted(ALL)
            assert await kit.exported(owner_uid=OTHER_UID, **what) == file
            ours, theirs = await kit.files.present(UID), await kit.files.present(OTHER_UID)
            assert theirs.agents == ours.agents

    run(main)


def test_an_agent_is_exported_as_it_is_whatever_became_of_profile_and_defaults(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_shop(tmp_path) as kit:
            settings = {"role": "r", "backend": "local", "timeout_s": 60, "model": "m1"}
            await kit.shop.desk.profiles.define(UID, "p", settings)
            await kit.shop.desk.profiles.define(UID, "gone", {"queue": 3})
            await kit.desk.define("a", profile="p", effort="low")
            await kit.desk.define("b", profile="gone")
            await kit.shop.desk.setups.configure(UID, {"context": "later", "defaults": {"queue": 9}})
            await kit.shop.desk.profiles.define(UID, "p", {"role": "other", "max_turns": 3, "model": "m1"})
            await kit.shop.desk.profiles.remove(UID, "gone")
            file = await kit.exported()
            assert file["agents"]["a"]["without"] == ["context", "max_turns", "queue"]
            assert file["agents"]["b"] == {"queue": 3, "without": ["context"]}
            assert await kit.done(file, dry_run=True) == []

    run(main)


def test_agents_of_workers_and_what_names_nothing_are_not_exported(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_shop(tmp_path) as kit:
            await kit.apply(WHOLE)
            await kit.shop.desk.dismiss(UID, "rev")
            await kit.shop.entries.put(UID, "notes", "n", None)
            found = await kit.files.export(UID, board=True, namespaces=["notes"])
            assert set(found["file"]["agents"]) == {"plain"}
            assert "flow" not in found["file"].get("workflows", {})
            left_out = "\n".join(found["left_out"])
            assert "workflows.flow: there is no agent 'rev'" in left_out
            assert "schedules.daily: there is no agent 'rev'" in left_out
            assert "store.notes.n: it holds null" in left_out
            assert await kit.done(found["file"], dry_run=True) == []

    run(main)


def test_a_bad_file_changes_nothing_wherever_it_is_bad(tmp_path: Path) -> None:
    bad: list[dict[str, Any]] = [
        changed(agents={**WHOLE["agents"], "x": {"backend": "nowhere"}}),
        changed(agents={**WHOLE["agents"], "x": {"skill": "unheard-of"}}),
        changed(agents={**WHOLE["agents"], "x": {"cwd": "/nowhere/at/all"}}),
        changed(agents={**WHOLE["agents"], "x": {"worktree": True}}),
        changed(agents={**WHOLE["agents"], "x": {"options": {"a": 1}}}),
        changed(workers={"crew": {"types": ["unheard-of"]}}),
        changed(workers={"crew": {"types": ["code"], "settings": {"skill": "unheard-of"}}}),
        changed(schedules={"daily": {"agent": "nobody", "prompt": "x", "every_s": 9}}),
        changed(workflows={"flow": {"stage": [{"name": "one", "type": "unheard-of", "prompt": "x"}]}}),
        changed(board={"items": [{"id": "a", "title": "A", "depends_on": ["unheard-of"]}]}),
    ]

    async def main() -> None:
        async with open_shop(tmp_path) as kit:
            before = await kit.desk.events()
            for given in bad:
                refusal = await refused("bad_request", kit.apply(given))
                assert refusal.details["faults"], given
                await refused("bad_request", kit.apply(given, dry_run=True))
            assert await kit.desk.events() == before
            assert await kit.exported() == {"name": "workshop"}

    run(main)


def test_a_change_keeps_a_conversation_where_it_can_and_else_needs_a_word(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_shop(tmp_path) as kit:
            await kit.apply(WHOLE)
            await kit.desk.ask("plain", "hello")
            session = (await kit.desk.view("plain"))["session"]
            live = {"queue": 1, "effort": "low", "policy": "read-only", "labels": {"a": "b"}, "max_cost_usd": 3.0}
            assert await kit.done(changed(agents={**WHOLE["agents"], "plain": live})) == ["change agent plain"]
            plain = await kit.desk.view("plain")
            assert (plain["session"], plain["settings"]["queue"], plain["max_cost_usd"]) == (session, 1, 3.0)
            held = await kit.desk.kit.manager.get(session, kit_viewer())
            assert (held["policy"], held["labels"]["a"]) == ({"preset": "read-only"}, "b")
            assert held["labels"]["workshop.agent"] == "plain"

            other = changed(agents={**WHOLE["agents"], "plain": {**live, "role": "else", "queue": 2}})
            found = await kit.apply(other)
            assert (found["held"], [step["held"] for step in found["steps"]]) == (1, [True])
            assert (await kit.desk.view("plain"))["settings"]["queue"] == 1
            found = await kit.apply(other, reset=True)
            assert (found["held"], found["steps"][0]["anew"]) == (0, True)
            plain = await kit.desk.view("plain")
            assert (plain["settings"]["role"], plain["before"]) == ("else", [session])
            assert await kit.done(other) == []

    run(main)


def kit_viewer() -> Any:
    from skill_actors.sessions.table import Viewer

    return Viewer(uid=UID)


def test_a_changed_profile_changes_the_agents_that_the_file_makes_from_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_shop(tmp_path) as kit:
            await kit.apply(WHOLE)
            other = changed(profiles={"coder": {"role": "You write.", "timeout_s": 600, "queue": 1}})
            assert await kit.done(other) == ["change profile coder", "change agent rev"]
            assert (await kit.desk.view("rev"))["queue"] == 1

    run(main)


def test_only_what_the_file_has_made_is_removed_and_only_when_that_is_asked_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_shop(tmp_path) as kit:
            await kit.desk.define("mine")
            await kit.desk.define("plain", queue=4)
            await kit.shop.desk.profiles.define(UID, "own", {})
            await kit.apply(WHOLE)
            await kit.apply({"name": "other", "agents": {"theirs": {}}})
            empty = {"name": "shop"}
            assert await kit.done(empty) == []
            assert await kit.done(empty, prune=True) == [
                *("change common", "remove schedule daily", "remove worker crew", "remove agent rev"),
                *("remove workflow flow", "remove profile coder"),
            ]
            names = [agent["name"] for agent in await kit.desk.desk.agents.list(UID)]
            assert names == ["mine", "plain", "theirs"]
            assert [item.id for item in await kit.shop.board.list(UID)] == ["a", "b"]
            assert (await kit.shop.entries.get(UID, "notes", "x")).value == 1
            assert await kit.done(empty, prune=True) == []
            assert (await kit.shop.desk.setups.get(UID)).view() == {"context": "", "defaults": {}, "max_cost_usd": None}

    run(main)


def test_what_was_removed_by_hand_and_made_again_by_hand_is_no_longer_the_files(tmp_path: Path) -> None:
    """A file that was applied in between has forgotten the name."""

    async def main() -> None:
        async with open_shop(tmp_path) as kit:
            await kit.apply({"name": "shop", "agents": {"a": {}}, "profiles": {"p": {}}})
            await kit.desk.desk.dismiss(UID, "a")
            await kit.shop.desk.profiles.remove(UID, "p")
            empty = {"name": "shop"}
            assert await kit.done(empty) == []
            await kit.desk.define("a")
            await kit.shop.desk.profiles.define(UID, "p", {})
            assert await kit.done(empty, prune=True) == []
            assert [agent["name"] for agent in await kit.desk.desk.agents.list(UID)] == ["a"]

    run(main)


def test_what_an_interrupted_file_did_not_come_to_is_put_there_when_it_says_it_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_shop(tmp_path) as kit:
            whole = {"name": "shop", "agents": {"a": {}}, "store": {"n": {"x": 1}}, "board": WHOLE["board"]}
            assert await interrupted(kit, UID, 2, whole)
            assert await kit.done({"name": "shop"}) == []
            left = ["create agent a", "create item a", "create item b", "create value n/x"]
            assert await kit.done(whole) == left

    run(main)


def test_items_and_values_are_put_there_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_shop(tmp_path) as kit:
            await kit.apply(WHOLE)
            await kit.shop.board.remove(UID, ["b", "a"])
            await kit.shop.entries.delete(UID, "notes", "x")
            await kit.shop.entries.put(UID, "notes", "y", "changed")
            assert await kit.done(WHOLE) == []
            assert (await kit.shop.entries.get(UID, "notes", "y")).value == "changed"

    run(main)


def test_what_is_interrupted_anywhere_is_mended_by_applying_it_again(tmp_path: Path) -> None:
    """A stop at each commit in turn; what was done by then is not done twice, and nothing is forgotten."""

    async def main() -> None:
        async with open_shop(tmp_path) as kit:
            await kit.apply({"name": "probe", "agents": {"probe": {}}})
            for number in range(2, 40):
                owner_uid = 2000 + number
                if not await interrupted(kit, owner_uid, number):
                    break
                left = await kit.apply(WHOLE, owner_uid=owner_uid, dry_run=True)
                assert left["steps"] or number > 10
                await kit.apply(WHOLE, owner_uid=owner_uid)
                assert (await kit.apply(WHOLE, owner_uid=owner_uid))["steps"] == []
                what: dict[str, Any] = {"owner_uid": owner_uid, "board": True, "namespaces": ["notes"]}
                assert set(await kit.exported(**what)) == {*WHOLE}
                gone = await kit.apply({"name": "shop"}, owner_uid=owner_uid, prune=True)
                assert len(gone["steps"]) == 7, (number, gone)
            else:
                pytest.fail("it never came to its end")
            assert number > 10

    run(main)


async def interrupted(kit: SetupKit, owner_uid: int, commit: int, file: Mapping[str, Any] = WHOLE) -> bool:
    """Apply the file, and be killed just before this commit of a document; whether there was such a one."""
    seen = 0
    documents = kit.shop.documents
    plain = documents.apply

    async def apply(*arguments: Any, **more: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen >= commit:
            raise _Killed
        return await plain(*arguments, **more)

    documents.apply = apply  # type: ignore[method-assign]
    try:
        await SetupFiles(kit.shop).apply(owner_uid, file, how())
    except _Killed:
        return True
    finally:
        documents.apply = plain  # type: ignore[method-assign]
    return False


class _Killed(BaseException):
    """Nothing of ours catches it."""


def how(**given: Any) -> Any:
    from skill_actors.workshop.setup_file.setups import WhatToDo

    return WhatToDo(**given)


def test_of_two_that_are_applied_at_once_one_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_shop(tmp_path) as kit:
            outcomes: list[str] = []

            async def apply() -> None:
                try:
                    await kit.apply(WHOLE)
                    outcomes.append("applied")
                except Refused as refusal:
                    outcomes.append(refusal.code)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(apply)
                nursery.start_soon(apply)
            assert sorted(outcomes) == ["applied", "conflict"]
            assert await kit.done(WHOLE) == []

    run(main)


def test_what_was_shown_is_done_or_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_shop(tmp_path) as kit:
            shown = await kit.apply(WHOLE, dry_run=True)
            await kit.shop.desk.profiles.define(UID, "coder", {"role": "somebody else's"})
            await refused("conflict", kit.apply(WHOLE, plan=shown["plan"]))
            assert (await kit.shop.desk.profiles.get(UID, "coder"))["settings"] == {"role": "somebody else's"}
            shown = await kit.apply(WHOLE, dry_run=True)
            assert (await kit.apply(WHOLE, plan=shown["plan"]))["applied"] is True

    run(main)


def test_a_refusal_in_the_middle_tells_what_was_done(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_shop(tmp_path) as kit:
            plain = kit.shop.schedules.define

            async def full(*_: Any, **__: Any) -> Any:
                raise Refused("storage_full", "the disk is full")

            kit.shop.schedules.define = full  # type: ignore[method-assign]
            refusal = await refused("storage_full", kit.apply(WHOLE))
            assert "schedule daily: the disk is full; 6 of 11 steps are done: apply it again" in refusal.message
            assert len(refusal.details["done"]) == 6
            kit.shop.schedules.define = plain  # type: ignore[method-assign]
            left = await kit.done(WHOLE)
            assert left == ALL[6:]

    run(main)


def test_a_worker_that_changes_gives_back_what_it_has_and_begins_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_shop(tmp_path) as kit:
            await kit.apply(WHOLE)
            more = changed(workers={"crew": {**WHOLE["workers"]["crew"], "count": 1, "types": ["test"]}})
            found = await kit.apply(more)
            assert [(step["kind"], step["anew"]) for step in found["steps"]] == [("worker", True)]
            (worker,) = kit.shop.workers.list(UID)
            assert (worker["count"], worker["types"]) == (1, ["test"])
            names = [agent["name"] for agent in await kit.desk.desk.agents.list(UID)]
            assert names == ["crew-1", "plain", "rev"]

    run(main)


def test_whatever_can_be_said_of_a_worker_is_exported(tmp_path: Path) -> None:
    wish = {"types": ["code", "test"], "count": 3, "profile": "coder", "settings": {"queue": 2}, "lease_s": 9.0}

    async def main() -> None:
        async with open_shop(tmp_path) as kit:
            await kit.apply(changed(workers={"crew": {**wish, "worktree": True, "merge": "on_done"}}))
            assert (await kit.exported())["workers"]["crew"] == {**wish, "worktree": True, "merge": "on_done"}
            assert {*wish, "worktree", "merge"} == set(FIELDS)

    run(main)


def test_an_agent_in_the_place_of_a_workers_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_shop(tmp_path) as kit:
            await kit.desk.define("crew-1")
            refusal = await refused("bad_request", kit.apply(WHOLE))
            assert "workers.crew: there is an agent 'crew-1', which is not the worker's" in refusal.message
            await kit.desk.desk.dismiss(UID, "crew-1")
            await kit.apply(WHOLE)
            refusal = await refused("bad_request", kit.apply({"name": "x", "agents": {"crew-2": {}}}))
            assert "a worker or a run has an agent of this name" in refusal.message

    run(main)
