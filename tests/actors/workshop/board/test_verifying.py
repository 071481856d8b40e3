"""Commands of verifications: run where the agent has worked, as words, under the policy; by a real local executor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from session_kit import ME, Kit, open_kit
from skill_actors.backends import Executor
from skill_actors.errors import Refused
from skill_actors.sessions.policy import RuleSet, preset_set
from skill_actors.testing import ScriptedModel
from skill_actors.workshop.board.hand import CommandResult
from skill_actors.workshop.board.verifying import Verifier
from support import run

Run = Callable[..., Awaitable[CommandResult]]


def verifying(
    folder: Path,
    check: Callable[[Kit, Run], Awaitable[None]],
    *,
    rules: RuleSet | None = None,
    programs: Collection[str] = (),
    known: Collection[str] = ("local",),
) -> None:
    async def main() -> None:
        executors: dict[str, Executor] = {}

        def keep(local: Executor) -> dict[str, Executor]:
            executors["local"] = local
            return {"local": local}

        async with open_kit(folder, ScriptedModel([]), executors=keep) as kit:
            there = {name: executors[name] for name in known}
            verifier = Verifier(kit.manager, there, folder / "workspaces", lambda: rules or RuleSet(), programs)

            async def command(session: str, *argv: str, timeout_s: float = 20.0, uid: int = ME.uid) -> CommandResult:
                return await verifier.run(uid, session, argv, timeout_s)

            await check(kit, command)

    run(main)


def test_a_command_passes_when_it_ends_with_0_and_else_tells_what_it_has_printed(tmp_path: Path) -> None:
    async def check(kit: Kit, command: Run) -> None:
        session = await kit.session()
        assert (await command(session, "true")).passed
        failed = await command(session, "sh", "-c", "echo two tests fail; exit 3")
        assert not failed.passed
        assert "two tests fail" in failed.told
        assert not (await command(session, "no-such-program-here")).passed
        late = await command(session, "sleep", "60", timeout_s=0.3)
        assert not late.passed

    verifying(tmp_path, check)


def test_it_runs_in_the_folder_of_the_conversation_and_no_shell_reads_it(tmp_path: Path) -> None:
    async def check(kit: Kit, command: Run) -> None:
        session = await kit.session()
        folder = tmp_path / "workspaces" / session
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "made").touch()
        assert (await command(session, "test", "-e", "made")).passed
        assert (await command(session, "echo", "; touch injected", "$(touch injected)")).passed
        assert not (folder / "injected").exists()

    verifying(tmp_path, check)


RULES: dict[str, Any] = {
    "denied": {"rules": [{"effect": "deny", "tool": "bash_tool"}]},
    "asked": {"rules": [{"effect": "ask", "tool": "bash_tool"}]},
}


@pytest.mark.parametrize("name", RULES)
def test_what_the_policy_of_the_conversation_does_not_allow_is_not_run(tmp_path: Path, name: str) -> None:
    async def check(kit: Kit, command: Run) -> None:
        session = await kit.session(policy=RULES[name])
        found = await command(session, "touch", str(tmp_path / "ran"))
        assert not found.passed
        assert "not run" in found.told
        assert not (tmp_path / "ran").exists()

    verifying(tmp_path, check)


def test_what_the_policy_of_the_operator_does_not_allow_is_not_run(tmp_path: Path) -> None:
    async def check(kit: Kit, command: Run) -> None:
        found = await command(await kit.session(), "touch", str(tmp_path / "ran"))
        assert not found.passed
        assert not (tmp_path / "ran").exists()

    verifying(tmp_path, check, rules=RuleSet(rules=preset_set("read-only")))


def test_the_conversation_of_another_is_not_there(tmp_path: Path) -> None:
    async def check(kit: Kit, command: Run) -> None:
        with pytest.raises(Refused) as refused:
            await command(await kit.session(), "true", uid=ME.uid + 1)
        assert refused.value.code == "not_found"

    verifying(tmp_path, check)


def test_a_backend_that_is_gone_is_never_replaced_by_a_weaker_one(tmp_path: Path) -> None:
    async def check(kit: Kit, command: Run) -> None:
        with pytest.raises(Refused) as refused:
            await command(await kit.session(), "true")
        assert refused.value.code == "backend_unavailable"

    verifying(tmp_path, check, known=())


def test_what_a_whole_program_has_worked_on_is_verified_by_the_local_backend(tmp_path: Path) -> None:
    class Program:
        async def get(self, session: str, viewer: object) -> dict[str, Any]:
            return {"backends": [{"backend": "claude_cli"}], "cwd": str(tmp_path / "project"), "policy": None}

    async def check(kit: Kit, command: Run) -> None:
        (tmp_path / "project").mkdir()
        (tmp_path / "project" / "here").touch()
        executors = kit.manager._env.executors
        verifier = Verifier(Program(), executors, tmp_path / "workspaces", RuleSet, ["claude_cli"])
        assert (await verifier.run(ME.uid, "ses_x", ["test", "-e", "here"], 20)).passed

    verifying(tmp_path, check)
