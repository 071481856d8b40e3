"""What an agent may do: the policy decides by both names of a tool, and people where it asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from agent_kit import AGENT, open_agents
from approval_kit import News
from session_kit import ME, Kit
from skill_actors.errors import Refused
from skill_actors.sessions.agents.tools import as_judged
from skill_actors.sessions.approvals import ApprovalDesk, Approver
from skill_actors.sessions.surroundings import SessionDefaults
from skill_actors.testing.agents import Say, ScriptedAgents, Step, UseTool

ROOT = Approver(uid=0)


def policy(*rules: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    return {**AGENT, "policy": {"rules": list(rules), **fields}}


def ask_bash(command: str = "make") -> UseTool:
    return UseTool("Bash", {"command": command}, ask=True, id="call-1")


async def finished(kit: Kit, session: str) -> list[Mapping[str, Any]]:
    return [event.data for event in await kit.events(session) if event.type == "tool.finished"]


async def asked(kit: Kit) -> Sequence[Mapping[str, Any]]:
    """All approvals that somebody waits for."""
    desk = kit.manager.approvals
    assert desk is not None
    items: Sequence[Mapping[str, Any]] = (await desk.list(None))["items"]
    return items


async def pending(kit: Kit) -> Mapping[str, Any]:
    """The one approval that somebody waits for, once there is one."""

    async def is_there() -> bool:
        return bool(await asked(kit))

    await News(kit.bus).until(is_there)
    (item,) = await asked(kit)
    return item


async def waits(kit: Kit) -> tuple[str, str]:
    """A session and its turn, which waits for an approval."""
    session = await kit.session(**policy({"effect": "ask"}))
    accepted = await kit.manager.submit(session, ME, "build")
    await pending(kit)
    return session, accepted.turn


async def decide(kit: Kit, **decision: Any) -> Mapping[str, Any]:
    desk = kit.manager.approvals
    assert desk is not None
    return await desk.decide(str((await pending(kit))["id"]), ROOT, decision)


async def decided(
    folder: Path, decision: Mapping[str, Any], *steps: Any, defaults: SessionDefaults | None = None
) -> tuple[dict[str, Any], list[Mapping[str, Any]], list[str]]:
    """A turn with one question, answered so: the turn, the results of its calls, the types of its events."""
    agents = ScriptedAgents([list(steps)])
    async with open_agents(folder, agents, desk=ApprovalDesk, defaults=defaults) as kit:
        session = await kit.session(**policy({"effect": "ask"}))
        accepted = await kit.manager.submit(session, ME, "build")
        if decision:
            await decide(kit, **decision)
        turn = await kit.manager.get_turn(accepted.turn, ME, wait_s=20)
        return turn, await finished(kit, session), await kit.types(session)


def test_a_rule_permits_no_more_than_the_call_says(tmp_path: Path) -> None:
    """What would come with it, such as to leave a sandbox, is for people to permit."""

    async def main() -> None:
        step = UseTool("Bash", {"command": "make"}, ask=True, beyond="it may leave its sandbox")
        agents = ScriptedAgents([[step, Say("built")], [step, Say("not built")]])
        async with open_agents(tmp_path, agents, desk=ApprovalDesk) as kit:
            session = await kit.session(**policy({"effect": "allow", "tool": "Bash"}, preset="full"))
            for decision in ("allow", "deny"):
                accepted = await kit.manager.submit(session, ME, "build")
                assert "leave its sandbox" in str((await pending(kit))["reason"])
                await decide(kit, decision=decision)
                await kit.manager.get_turn(accepted.turn, ME, wait_s=20)
            assert [data["is_error"] for data in await finished(kit, session)] == [False, True]

    trio.run(main)


def test_what_no_rule_can_permit_is_not_run_where_nobody_can_be_asked(tmp_path: Path) -> None:
    async def main() -> None:
        step = UseTool("Bash", {"command": "make"}, ask=True, beyond="it may leave its sandbox")
        async with open_agents(tmp_path, ScriptedAgents([[step, Say("ok")]])) as kit:
            session = await kit.session(**policy({"effect": "allow"}))
            await kit.ask(session, "build")
            (result,) = await finished(kit, session)
            assert (result["is_error"], "leave its sandbox" in result["content"]) == (True, True)

    trio.run(main)


# -- the policy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "tool", "input"),
    [
        ({"effect": "deny", "tool": "bash_tool"}, "Bash", {"command": "make"}),
        ({"effect": "deny", "tool": "Bash"}, "Bash", {"command": "make"}),
        ({"effect": "deny", "tool": "bash_tool", "command": "rm **"}, "Bash", {"command": "cd /; rm -rf x"}),
        ({"effect": "deny", "tool": "bash_tool", "command": "rm **"}, "Bash", {}),
        ({"effect": "deny", "tool": "view", "path": "/etc/**"}, "Read", {"file_path": "/etc/shadow"}),
        ({"effect": "deny", "tool": "create_file"}, "Write", {"file_path": "x", "content": "y"}),
        ({"effect": "deny", "tool": "str_replace"}, "Edit", {"file_path": "x"}),
        ({"effect": "deny", "tool": "str_replace"}, "MultiEdit", {"file_path": "x", "edits": []}),
        ({"effect": "deny", "tool": "str_replace"}, "NotebookEdit", {"notebook_path": "x"}),
        ({"effect": "deny", "tool": "WebFetch"}, "WebFetch", {"url": "https://x"}),
        ({"effect": "deny"}, "mcp__db__drop", {}),
        ({"effect": "deny", "backend": "scripted"}, "Anything", {}),
    ],
)
def test_a_rule_about_either_name_of_a_tool_holds(
    tmp_path: Path, rule: Mapping[str, Any], tool: str, input: Mapping[str, Any]
) -> None:
    async def main() -> None:
        agents = ScriptedAgents([[UseTool(tool, input, ask=True), Say("ok")]])
        async with open_agents(tmp_path, agents) as kit:
            session = await kit.session(**policy(rule, {"effect": "allow"}))
            turn = await kit.ask(session, "go")
            (result,) = await finished(kit, session)
            types = await kit.types(session)
        assert turn["status"] == "finished"
        assert result["is_error"]
        assert "denies" in result["content"]
        assert "tool.started" not in types  # it never began

    trio.run(main)


@pytest.mark.parametrize("tool", ["bash", "BASH", "Bash ", "bash_tool2", "Task", "mcp__x__Bash", "view.", ""])
def test_a_tool_that_has_no_counterpart_is_never_taken_for_one(tool: str) -> None:
    assert as_judged("id", tool, {"command": "ls"}).name == tool


def test_under_a_preset_that_only_reads_what_is_unknown_is_denied(tmp_path: Path) -> None:
    async def main() -> None:
        steps: list[Step] = [
            UseTool("Read", {"file_path": "x"}, ask=True),
            UseTool("Bash", {"command": "cat x"}, ask=True),
            UseTool("Bash", {"command": "cat x > y"}, ask=True),
            UseTool("Task", {"prompt": "do it"}, ask=True),
            Say("ok"),
        ]
        async with open_agents(tmp_path, ScriptedAgents([steps])) as kit:
            session = await kit.session(**AGENT, policy={"preset": "read-only"})
            await kit.ask(session, "go")
            results = await finished(kit, session)
        assert [result["is_error"] for result in results] == [False, False, True, True]

    trio.run(main)


# -- people -----------------------------------------------------------------------------------------------------------


def test_what_is_allowed_runs_and_the_call_names_its_approval(tmp_path: Path) -> None:
    async def main() -> None:
        turn, results, types = await decided(tmp_path, {"decision": "allow"}, ask_bash(), Say("built"))
        assert turn["result"]["text"] == "built"
        assert results[0]["content"] == "done"
        told = ["approval.requested", "approval.resolved", "tool.started", "tool.finished"]
        assert [type for type in types if type in told] == told

    trio.run(main)


def test_a_denial_with_its_reason_is_what_the_agent_reads(tmp_path: Path) -> None:
    async def main() -> None:
        decision = {"decision": "deny", "reason": "not on Fridays"}
        _turn, results, types = await decided(tmp_path, decision, ask_bash(), Say("ok"))
        assert "not on Fridays" in results[0]["content"]
        assert "tool.started" not in types

    trio.run(main)


def test_an_edited_call_runs_as_it_was_edited(tmp_path: Path) -> None:
    async def main() -> None:
        agents = ScriptedAgents([[ask_bash("echo one"), Say("ok")]])
        async with open_agents(tmp_path, agents, desk=ApprovalDesk) as kit:
            session = await kit.session(**policy({"effect": "deny", "command": "rm **"}, {"effect": "ask"}))
            accepted = await kit.manager.submit(session, ME, "build")
            with pytest.raises(Refused, match="denies the call as edited"):
                await decide(kit, decision="edit", input={"command": "rm -rf ."})
            await decide(kit, decision="edit", input={"command": "echo two"})
            await kit.manager.get_turn(accepted.turn, ME, wait_s=20)
            (started,) = [event.data for event in await kit.events(session) if event.type == "tool.started"]
        assert started["input"] == {"command": "echo two"}
        assert started["approval"].startswith("apr_")

    trio.run(main)


def test_nobody_answering_in_time_is_a_denial_and_the_wait_is_no_working_time(tmp_path: Path) -> None:
    async def main() -> None:
        defaults = SessionDefaults(approval_timeout_s=5.5, turn_timeout_s=5.0)
        turn, results, _types = await decided(tmp_path, {}, ask_bash(), Say("ok"), defaults=defaults)
        assert turn["status"] == "finished"  # though it waited longer than a turn may work
        assert results[0]["is_error"]

    trio.run(main)


def test_an_answer_for_the_session_holds_for_the_same_call_and_no_other(tmp_path: Path) -> None:
    async def main() -> None:
        agents = ScriptedAgents([[ask_bash(), UseTool("Bash", {"command": "make"}, ask=True), Say("ok")]])
        async with open_agents(tmp_path, agents, desk=ApprovalDesk) as kit:
            session = await kit.session(**policy({"effect": "ask"}))
            accepted = await kit.manager.submit(session, ME, "build")
            await decide(kit, decision="allow", scope="session")
            turn = await kit.manager.get_turn(accepted.turn, ME, wait_s=20)
            types = await kit.types(session)
        assert turn["status"] == "finished"
        assert types.count("approval.requested") == 1

    trio.run(main)


def test_a_file_that_is_changed_after_it_was_shown_keeps_the_call_from_running(tmp_path: Path) -> None:
    async def main() -> None:
        agents = ScriptedAgents([[Say("begun")], [ask_bash("sh build.sh"), Say("ok")]])
        async with open_agents(tmp_path, agents, desk=ApprovalDesk) as kit:
            session = await kit.session(**policy({"effect": "ask"}))
            await kit.ask(session, "begin")
            script = agents.specs[0].folder / "build.sh"
            script.write_text("true")
            accepted = await kit.manager.submit(session, ME, "build")
            shown = await pending(kit)
            script.write_text("rm -rf /")
            await decide(kit, decision="allow")
            await kit.manager.get_turn(accepted.turn, ME, wait_s=20)
            (result,) = await finished(kit, session)
        assert [file["path"] for file in shown["files"]] == ["build.sh"]
        assert "changed since" in result["content"]

    trio.run(main)


def test_an_approval_is_shown_without_what_could_move_a_cursor(tmp_path: Path) -> None:
    async def main() -> None:
        agents = ScriptedAgents([[ask_bash("echo \x1b[2Jhidden\u202e"), Say("ok")]])
        async with open_agents(tmp_path, agents, desk=ApprovalDesk) as kit:
            session = await kit.session(**policy({"effect": "ask"}))
            await kit.manager.submit(session, ME, "build")
            shown = await pending(kit)
        assert "\x1b" not in shown["shown"]
        assert "\u202e" not in shown["shown"]

    trio.run(main)


def test_an_unattended_session_is_denied_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        agents = ScriptedAgents([[ask_bash(), Say("ok")]])
        async with open_agents(tmp_path, agents, desk=ApprovalDesk) as kit:
            session = await kit.session(**policy({"effect": "ask"}, on_ask="deny"))
            await kit.ask(session, "build")
            (result,) = await finished(kit, session)
        assert "unattended" in result["content"]

    trio.run(main)


def test_an_agent_that_waits_cannot_outlive_the_daemon(tmp_path: Path) -> None:
    """Its program is gone: the turn is interrupted, the approval resolved, and nothing is asked again."""

    async def main() -> None:
        agents = ScriptedAgents([[ask_bash(), Say("ok")]])
        async with open_agents(tmp_path, agents, desk=ApprovalDesk) as kit:
            session, turn_id = await waits(kit)
        async with open_agents(tmp_path, agents, desk=ApprovalDesk) as kit:
            turn = await kit.manager.get_turn(turn_id, ME, wait_s=20)
            assert turn["status"] == "interrupted"
            assert await asked(kit) == []
            assert (await kit.ask(session, "go on"))["status"] == "finished"
        assert len(agents.requests) == 2

    trio.run(main)


def test_a_turn_is_cancelled_while_it_waits_for_somebody(tmp_path: Path) -> None:
    async def main() -> None:
        agents = ScriptedAgents([[ask_bash(), Say("ok")]])
        async with open_agents(tmp_path, agents, desk=ApprovalDesk) as kit:
            _, turn_id = await waits(kit)
            await kit.manager.cancel_turn(turn_id, ME)
            turn = await kit.manager.get_turn(turn_id, ME, wait_s=20)
            assert await asked(kit) == []
        assert turn["status"] == "cancelled"
        assert agents.running == 0

    trio.run(main)
