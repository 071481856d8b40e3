"""Conversations in containers: one over all turns, several of them in one conversation, gone at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from docker_kit import engine_with_slim_image
from loop_kit import Script, call, says, uses
from skill_actors.backends.docker_image import SLIM_IMAGE, engine_address
from skill_actors.library import SkillError, new_docker, new_hybrid
from skill_actors.skills import load
from support import run

OPTIONS: Mapping[str, Any] = {"image": SLIM_IMAGE, "pool": 0}


@pytest.fixture
def client() -> Iterator[Any]:
    with engine_with_slim_image() as engine:
        yield engine


def make_skill(folder: Path) -> Path:
    root = folder / "skills/notes"
    root.mkdir(parents=True)
    (root / "SKILL.md").write_text("---\nname: notes\ndescription: Takes notes.\n---\nBody\n")
    return root


@pytest.mark.usefixtures("client")
def test_a_container_lasts_over_the_turns_and_its_files_come_out(tmp_path: Path) -> None:
    skills = load(make_skill(tmp_path))

    async def main() -> None:
        model = Script(
            uses(call("toolu_1", "bash_tool", command="echo one > f; echo two > /tmp/x", description="d")),
            says("ok"),
            uses(call("toolu_2", "bash_tool", command="cat f /tmp/x", description="d")),
            says("ok"),
        )
        async with new_docker(skills, options=OPTIONS) as session:
            assert session.execution_mode == "docker"
            assert "/mnt/skills/notes" in session.system_prompt
            await session.chat("write", model)
            assert await session.read_file("f") == b"one\n"
            await session.put_file("given", b"from the program")
            await session.chat("read", model)
            answer = session.messages[-2]["content"][0]["content"].splitlines()
            assert answer == ["one", "two"]  # the same container: /tmp is not kept elsewhere
            result = await session.run("bash_tool", command="cat given", description="d")
            assert result.content == "from the program"
            assert [file.name for file in session.created_files] == ["f"]

    run(main)


def test_two_containers_and_this_host_in_one_conversation(client: Any, tmp_path: Path) -> None:
    skills = load(make_skill(tmp_path))
    hosts: list[str] = []

    async def main() -> None:
        async with new_hybrid(
            [
                ("docker", {"options": OPTIONS}),
                ("docker", {"name": "build", "options": {**OPTIONS, "network": "none", "cpus": 0.5}}),
                "local",
            ],
            skills,
            working_directory=tmp_path / "w",
        ) as session:
            assert "build_bash_tool" in {tool["name"] for tool in session.tools}
            for tool in ("bash_tool", "build_bash_tool", "local_bash_tool"):
                result = await session.run(tool, command="hostname; pwd > where; cat where", description="d")
                hosts.append(result.content.splitlines()[0])
            assert len(set(hosts)) == 3
            await session.hand_over("where", "docker", "build")
            result = await session.run("build_bash_tool", command="cat where", description="d")
            assert result.content == "/workspace"
            merged = session.capabilities
            assert merged is not None
            assert merged.capabilities.sandbox == "none"
            assert merged.places["build"].sandbox == "container"
            assert "  notes: " in session.system_prompt

    run(main)
    left = {container["Id"][:12] for container in client.api.containers(all=True)}
    assert not left & set(hosts)


@pytest.mark.usefixtures("client")
def test_a_turn_that_is_cancelled_leaves_the_conversation_its_container() -> None:
    async def main() -> None:
        async with new_docker(options=OPTIONS) as session:
            await session.run("bash_tool", command="echo kept > /tmp/x", description="d")
            model = Script(uses(call("toolu_1", "bash_tool", command="sleep 1000", description="d")), says("on"))
            with trio.move_on_after(1):
                await session.chat("wait", model)
            assert session.messages[-1]["content"][0]["is_error"]
            assert (await session.run("bash_tool", command="cat /tmp/x", description="d")).content == "kept"
            response, _ = await session.chat("go on", model)
            assert response.text == "on"

    run(main)


def test_an_engine_that_goes_away_is_an_error_of_the_container_and_the_conversation_stays(
    client: Any, tmp_path: Path
) -> None:
    socket = tmp_path / "engine.sock"
    socket.symlink_to(engine_address(os.environ).removeprefix("unix://"))

    async def main() -> None:
        async with new_docker(options={**OPTIONS, "address": f"unix://{socket}"}) as session:
            name = (await session.run("bash_tool", command="hostname", description="d")).content
            socket.unlink()
            await trio.to_thread.run_sync(lambda: client.containers.get(name).remove(force=True))
            with pytest.raises(SkillError) as failed:
                await session.run("bash_tool", command="true", description="d")
            assert (failed.value.code, failed.value.retryable) == ("container_error", True)
            assert (failed.value.details["operation"], failed.value.session) == ("bash_tool", session)
            assert failed.value.details["reason"]
            with pytest.raises(SkillError, match="container_error"):
                await session.run("view", path=".")

    run(main)
