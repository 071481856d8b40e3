"""Hooks in the daemon's tree: a turn ends, and a program and a receiver hear of it; never the turn of them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from e2e.harness import processes_with
from hook_kit import receiver
from proc_kit import state_of
from skill_actors.sessions.approvals import Approver
from skill_actors.testing import Reply, ScriptedModel, Text, ToolUse
from skilld.config import HooksConfig
from support import run
from tree_kit import Tree, open_tree

TURN_S = 10.0


def program(folder: Path, body: str) -> tuple[str, ...]:
    file = folder / "hook.sh"
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return (str(file), "an argument; $HOME")


async def written(path: Path, lines: int = 1) -> list[str]:
    """The lines of a file that a program writes, once there are so many whole ones."""
    with trio.fail_after(20):
        while (found := _text(path)).count("\n") < lines:  # noqa: ASYNC110  # a file has no event
            await trio.sleep(0.02)
    return found.splitlines()


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def asked(tree: Tree, text: str = "hello") -> dict[str, object]:
    """A turn that ended in time."""
    with trio.fail_after(TURN_S):
        turn = await tree.ask(text)
    assert turn["status"] == "finished"
    return turn


def test_a_program_gets_the_notice_its_arguments_and_a_clean_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-canary-in-the-environment")
    argv = program(tmp_path, f'cat > {tmp_path}/body; echo "$1" "$#[$2]" > {tmp_path}/argument; env > {tmp_path}/e')
    argv += ("",)  # an argument like any other

    async def main() -> None:
        async with open_tree(tmp_path, hooks_exec=argv) as tree:
            turn = await asked(tree, "the secret word is canary-text")
            environment = dict(line.split("=", 1) for line in await written(tmp_path / "e", 4))
            told = json.loads((tmp_path / "body").read_text())
            assert (told["event"], told["turn"], told["session"]) == ("turn.finished", turn["turn"], turn["session"])
            assert told["code"] is None
            assert "canary" not in (tmp_path / "body").read_text()
            assert (tmp_path / "argument").read_text() == "an argument; $HOME 2[]\n"
            assert environment["SKILLD_EVENT"] == "turn.finished"
            assert set(environment) <= {"PATH", "LANG", "SKILLD_EVENT", "PWD", "SHLVL", "_", "OLDPWD"}
            await counted(tree, b'skilld_hooks_total{outcome="ok",target="exec"} 1.0')

    run(main)


async def page(tree: Tree) -> bytes:
    async with tree.http() as http:
        return (await http.get("/metrics")).content


async def counted(tree: Tree, line: bytes) -> None:
    with trio.fail_after(20):
        while line not in await page(tree):  # noqa: ASYNC110  # over a real socket
            await trio.sleep(0.05)


def test_a_program_that_hangs_is_killed_with_all_that_it_started_and_turns_do_not_wait(tmp_path: Path) -> None:
    marker = f"hook-{tmp_path.name}"
    begun, leaf = tmp_path / "begun", f"sleep 300; : {marker}"
    argv = program(tmp_path, f"setsid sh -c 'echo $$ >> {begun}; {leaf}' & sh -c '{leaf}'")

    async def main() -> None:
        async with open_tree(tmp_path, hooks_exec=argv, hooks_timeout_s=3.0) as tree:
            await asked(tree)
            await written(begun)
            await asked(tree)
            pids = await written(begun, 2)
            await counted(tree, b'skilld_hooks_total{outcome="failed",target="exec"} 2.0')
            assert not any(state_of(int(pid)) for pid in pids)
            assert processes_with(marker) == []

    run(main)


def test_a_program_that_is_killed_or_fails_is_counted_and_the_next_notice_is_told(tmp_path: Path) -> None:
    argv = program(tmp_path, f"test -e {tmp_path}/go && exit; echo $$ >> {tmp_path}/pids; exec sleep 300")

    async def main() -> None:
        async with open_tree(tmp_path, hooks_exec=argv) as tree:
            await asked(tree)
            (pid,) = await written(tmp_path / "pids")
            (tmp_path / "go").touch()
            os.kill(int(pid), signal.SIGKILL)
            await counted(tree, b'skilld_hooks_total{outcome="failed",target="exec"} 1.0')
            await asked(tree)
            await counted(tree, b'skilld_hooks_total{outcome="ok",target="exec"} 1.0')

    run(main)


def test_a_worker_that_is_killed_is_made_again(tmp_path: Path) -> None:
    argv = program(tmp_path, f"test -e {tmp_path}/go && exit; echo $PPID >> {tmp_path}/workers; sleep 300")

    async def main() -> None:
        async with open_tree(tmp_path, hooks_exec=argv) as tree:
            await asked(tree)
            (worker,) = await written(tmp_path / "workers")
            (tmp_path / "go").touch()
            os.kill(int(worker), signal.SIGKILL)
            await counted(tree, b'skilld_hooks_total{outcome="failed",target="exec"} 1.0')
            await asked(tree)
            await counted(tree, b'skilld_hooks_total{outcome="ok",target="exec"} 1.0')

    run(main)


def test_a_program_that_is_not_there_is_counted_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with open_tree(tmp_path, hooks_exec=(str(tmp_path / "none"),)) as tree:
            await asked(tree)
            await counted(tree, b'skilld_hooks_total{outcome="failed",target="exec"} 1.0')

    run(main)
    assert "it cannot be run: No such file or directory" in caplog.text


def test_a_receiver_hears_of_each_turn_and_one_that_hangs_holds_none_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with receiver() as found:
            found.answers = [503, 0]
            async with open_tree(tmp_path, hooks_url=found.url, hooks_timeout_s=3.0) as tree:
                turns = [await asked(tree) for _ in range(2)]
                told = await found.wait_told(4)
                assert [notice["turn"] for notice in told] == [turns[0]["turn"]] * 3 + [turns[1]["turn"]]
                assert {notice["id"] for notice in told} == {f"{turn['turn']}:turn.finished" for turn in turns}
                await counted(tree, b'skilld_hooks_total{outcome="ok",target="webhook"} 2.0')

    run(main)
    assert "in-the-url" not in caplog.text


def test_a_call_that_needs_an_approval_is_told_and_only_events_that_were_asked_for(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([ToolUse("bash_tool", {"command": "true", "description": "x"})]), Reply([Text("ok")])])

    async def main() -> None:
        async with receiver() as found:
            hooks: dict[str, Any] = {
                "hooks_url": found.url,
                "hooks_events": ("approval.needed", "approval.resolved"),
                "policy_ask": ("bash_tool",),
            }
            async with open_tree(tmp_path, model=model, **hooks) as tree:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(asked, tree)
                    (told,) = await found.wait_told(1)
                    assert (told["event"], told["tool"]) == ("approval.needed", "bash_tool")
                    await tree.parts.desk.get().decide(told["approval"], Approver(uid=0), {"decision": "deny"})
                resolved = (await found.wait_told(2))[1]
                assert (resolved["event"], resolved["approval"]) == ("approval.resolved", told["approval"])
                assert (resolved["status"], resolved["turn"]) == ("denied", told["turn"])
                assert list(tree.parts.hooks.queues) == ["webhook"]
            assert len(found.told) == 2

    run(main)


def test_a_budget_that_runs_out_is_told_when_a_share_is_used_and_when_a_call_is_refused(tmp_path: Path) -> None:
    call = ToolUse("bash_tool", {"command": "true", "description": "x"})
    model = ScriptedModel([Reply([call]), Reply([call]), Reply([call]), Reply([Text("never")])])

    async def main() -> None:
        async with receiver() as found:
            hooks: dict[str, Any] = {
                "hooks_url": found.url,
                "hooks_events": ("budget.warning", "budget.exceeded", "turn.failed"),
                "budget_user_day": {"tool_calls": 2},
                "budget_warn_at": (0.5,),
            }
            async with open_tree(tmp_path, model=model, **hooks) as tree:
                turn = await tree.ask("hello")
                assert turn["result"]["error"]["code"] == "budget_exceeded"
                warned, refused, failed = await found.wait_told(3)
                assert (warned["event"], warned["share"], warned["used"]) == ("budget.warning", 0.5, 1)
                assert (refused["event"], refused["wanted"], refused["used"]) == ("budget.exceeded", 1, 2)
                for notice in (warned, refused):
                    assert (notice["cap"], notice["unit"], notice["limit"]) == ("user/day", "tool_calls", 2)
                    assert notice["turn"] == turn["turn"]
                assert (failed["event"], failed["code"]) == ("turn.failed", "budget_exceeded")

    run(main)


def test_without_hooks_nothing_listens_and_nothing_runs(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            assert tree.parts.hooks.queues == {}
            assert "hooks" not in tree.parts.bus._subscriptions

    run(main)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ({"url": "http://hooks.example.com/"}, "must be https, but for this host itself"),
        ({"url": "http://127.0.0.1.example.com/"}, "must be https"),
        ({"url": "ftp://127.0.0.1/"}, "must be a URL"),
        ({"url": "https://user:pass@hooks.example.com/"}, "no user and password"),
        ({"url": "https://hooks.example.com/\r\nx: y"}, "must be a URL"),
        ({"exec": ("hook.sh",)}, "absolute path"),
        ({"exec": ("/bin/a\x00b",)}, "pattern"),
        ({"events": ("turn.ended",)}, "Input should be"),
    ],
)
def test_what_cannot_be_or_should_not_be_is_refused(text: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        HooksConfig.model_validate(text)


def test_the_url_may_be_a_secret_and_is_not_shown() -> None:
    assert "T000" not in repr(HooksConfig(url="https://hooks.example.com/services/T000/B000"))
