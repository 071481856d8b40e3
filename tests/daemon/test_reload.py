"""What a reload applies, what it leaves for a restart, and that a bad configuration changes nothing."""

from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from hook_kit import receiver
from skill_actors.errors import Refused
from skilld.config import Config, ConfigError, config_keys, load_config
from skilld.reload import APPLIED, compare, merged, reload_config
from support import run
from tree_kit import Tree, open_tree

ROOT = Path(__file__).parents[2]


def config(folder: Path, text: str = "") -> Config:
    file = folder / "skilld.toml"
    file.write_text(text)
    return load_config(file, {"SKILLD_STATE_DIR": str(folder / "state")}, uid=1000)


def serve_from(tree: Tree, text: str) -> None:
    """Let the tree's next reload find this file."""
    now = tree.parts.config

    async def reread() -> Config:
        file = Path(now.daemon.state_dir).parent / "skilld.toml"
        file.write_text(text)
        flags = {"daemon.socket": now.daemon.socket, "daemon.state_dir": now.daemon.state_dir}
        return load_config(file, {}, flags)

    tree.parts.reread = reread


def test_keys_that_are_applied_exist() -> None:
    assert config_keys().keys() >= APPLIED


def test_nothing_new_is_nothing_to_do(tmp_path: Path) -> None:
    assert compare(config(tmp_path), config(tmp_path)).to_dict() == {"applied": [], "needs_restart": []}


def test_a_difference_is_sorted_into_what_is_applied_and_what_is_not(tmp_path: Path) -> None:
    now = config(tmp_path, "[roles.send]\nuids = [5]\n")
    new = config(
        tmp_path,
        '[roles.send]\nuids = [5, 6]\n[limits]\niterations = 3\nrunning_turns = 2\n[policy]\ndeny = ["Bash"]\n',
    )
    found = compare(now, new)
    assert found.applied == ("limits.iterations", "policy.deny", "roles.send.uids")
    assert found.needs_restart == ("limits.running_turns",)
    result = merged(now, new, found.applied)
    assert (result.limits.iterations, result.limits.running_turns) == (3, now.limits.running_turns)
    assert (result.policy.deny, result.roles.send.uids) == (("bash_tool",), (5, 6))
    assert compare(result, new).to_dict() == {"applied": [], "needs_restart": ["limits.running_turns"]}


@pytest.mark.parametrize("role", ["send", "report"])
def test_the_first_role_needs_a_restart_since_its_socket_opens_with_it(tmp_path: Path, role: str) -> None:
    found = compare(config(tmp_path), config(tmp_path, f"[roles.{role}]\nuids = [5]\n"))
    assert found.to_dict() == {"applied": [], "needs_restart": [f"roles.{role}.uids"]}


def test_who_may_report_first_hangs_on_nobody_of_the_other_socket(tmp_path: Path) -> None:
    now = config(tmp_path, "[roles.report]\nuids = [5]\n")
    new = config(tmp_path, "[roles.report]\nuids = [5, 6]\n[roles.send]\nuids = [5]\n")
    assert compare(now, new).to_dict() == {"applied": ["roles.report.uids"], "needs_restart": ["roles.send.uids"]}


@pytest.mark.parametrize("key", sorted(APPLIED))
def test_every_key_that_is_applied_is_taken_over(tmp_path: Path, key: str) -> None:
    now = config(tmp_path, "[roles.read]\nuids = [1]\n[roles.report]\nuids = [1]\n")
    place: Any = now
    *sections, name = key.split(".")
    for section in sections:
        place = getattr(place, section)
    kinds: dict[type, Any] = {bool: True, int: 77_777, float: 77.0, str: "json", tuple: ("77",), dict: {"usd": 77.0}}
    kinds |= {type(None): 77, type(Path()): Path("/77")}
    kinds[bool] = not getattr(place, name)
    other = kinds[type(getattr(place, name))]
    changed = place.model_copy(update={name: other})
    for depth in range(len(sections), 0, -1):
        above: Any = now
        for section in sections[: depth - 1]:
            above = getattr(above, section)
        changed = above.model_copy(update={sections[depth - 1]: changed})
    assert compare(now, changed).applied == (key,)
    assert compare(merged(now, changed, (key,)), changed).applied == ()


def test_limits_hold_for_sessions_that_are_there_already(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            session = await tree.session()
            assert (await tree.ask("hello", session))["status"] == "finished"
            serve_from(tree, "[limits]\nturn_timeout_s = 0.000001\n")
            assert (await reload_config(tree.parts)).applied == ("limits.turn_timeout_s",)
            assert (await tree.ask("hello", session))["status"] == "failed"

    run(main)


def test_less_room_holds_for_workspaces_that_are_there_already(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree, tree.http() as http:
            file = f"/v1/sessions/{await tree.session()}/files/a.txt"
            assert (await http.put(file, content=b"x" * 3000)).status_code == 201
            serve_from(tree, "[limits]\nworkspace_bytes = 2048\n")
            assert (await reload_config(tree.parts)).applied == ("limits.workspace_bytes",)
            refused = await http.put(file.replace("a.txt", "b.txt"), content=b"x")
            assert (refused.status_code, refused.json()["error"]["code"]) == (507, "storage_full")
            assert (await http.get(file)).content == b"x" * 3000

    run(main)


def test_hooks_are_told_of_what_the_new_configuration_asks_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with receiver() as found, open_tree(tmp_path, hooks_url=found.url, hooks_events=("turn.failed",)) as tree:
            await tree.ask("hello")
            text = f'[hooks]\nurl = "{found.url}"\nevents = ["turn.finished"]\nattempts = 2\n'
            serve_from(tree, text)
            assert (await reload_config(tree.parts)).to_dict() == {
                "applied": ["hooks.events"],
                "needs_restart": ["hooks.attempts"],
            }
            await tree.ask("hello again")
            assert [notice["event"] for notice in await found.wait_told(1)] == ["turn.finished"]

    run(main)


def test_a_reload_over_the_socket_tells_what_it_did(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree, tree.http() as http:
            serve_from(tree, "[limits]\niterations = 3\nmax_body_bytes = 2048\n")
            answer = await http.post("/v1/config/reload")
            assert answer.json() == {"applied": ["limits.iterations"], "needs_restart": ["limits.max_body_bytes"]}
            assert tree.parts.defaults.iterations == 3
            assert tree.parts.config.limits.max_body_bytes == 8 << 20

    run(main)


def test_a_configuration_that_cannot_be_used_changes_nothing_and_says_why(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree, tree.http() as http:
            before = tree.parts.config
            serve_from(tree, "[limits]\niterations = 0\n[daemon]\nlog_level = 'debug'\n")
            answer = await http.post("/v1/config/reload")
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
            assert "limits.iterations = 0" in answer.json()["error"]["message"]
            assert tree.parts.config is before

    run(main)


def test_two_reloads_at_once_come_one_after_the_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            inside = 0

            async def reread() -> Config:
                nonlocal inside
                inside += 1
                assert inside == 1
                await trio.sleep(0.01)
                inside -= 1
                return tree.parts.config

            tree.parts.reread = reread
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(reload_config, tree.parts)

    run(main)


def test_a_hangup_reloads_and_a_bad_configuration_does_not_end_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            done = trio.Event()
            refusals = iter(["once"])

            async def reread() -> Config:
                if next(refusals, None) is not None:
                    raise ConfigError("it is not TOML")
                done.set()
                return tree.parts.config

            tree.parts.reread = reread
            with trio.fail_after(10):
                os.kill(os.getpid(), signal.SIGHUP)
                while "it is not TOML" not in caplog.text:  # noqa: ASYNC110  # the log has no event
                    await trio.sleep(0.01)
                os.kill(os.getpid(), signal.SIGHUP)
                await done.wait()

    with caplog.at_level(logging.ERROR):
        run(main)


def test_the_manual_lists_what_is_applied() -> None:
    _, _, rest = (ROOT / "docs/operate.md").read_text().partition("\n## Reload\n")
    section = rest.partition("\n## ")[0]
    listed = {key for key in config_keys() if f"`{key}`" in section}
    listed |= {key for key in config_keys() if key.startswith("roles.") and "`roles`" in section}
    assert listed == APPLIED


def test_a_refusal_is_one_of_ours(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            serve_from(tree, "[")
            with pytest.raises(Refused, match=r"nothing is changed: .*not TOML"):
                await reload_config(tree.parts)

    run(main)


def test_the_audit_log_says_what_a_reload_applied_and_that_one_was_refused(tmp_path: Path) -> None:
    def entries() -> list[dict[str, Any]]:
        log = tmp_path / "state/audit/audit.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [entry for entry in map(json.loads, lines) if entry["what"].startswith("config.")]

    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            serve_from(tree, "[limits]\niterations = 3\nmax_body_bytes = 2048\n")
            await reload_config(tree.parts)
            serve_from(tree, "[limits]\niterations = 0\n")
            with pytest.raises(Refused):
                await reload_config(tree.parts)

    run(main)
    done, refused = entries()
    assert (done["what"], done["applied"]) == ("config.reloaded", ["limits.iterations"])
    assert done["needs_restart"] == ["limits.max_body_bytes"]
    assert refused["what"] == "config.refused"


def test_an_unsafe_combination_is_not_taken_by_a_reload_either(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            before = tree.parts.config
            serve_from(
                tree, "[daemon]\nmode = 'production'\n[backends]\ndefault = ['local']\n[limits]\niterations = 3\n"
            )
            with pytest.raises(Refused, match=r"nothing is changed: .*backends\.local\.sandbox: in mode production"):
                await reload_config(tree.parts)
            assert tree.parts.config == before

    run(main)
