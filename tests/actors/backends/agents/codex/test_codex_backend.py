"""The codex backend as a whole: what it demands before it is of use, and that nothing outlives it."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import pytest
import trio

from codex_kit import Remembers, open_stand_in, session_of, stand_in, survivors
from skill_actors.backends.agents.base import AgentError, AgentRequest, AgentSpec, McpServer
from skill_actors.backends.agents.codex import open_codex
from skill_actors.backends.agents.codex.shop import find_program
from skill_actors.backends.agents.registry import agent_factory
from skill_actors.backends.base import BackendUnavailable, OptionRefused
from skill_actors.backends.workers import Host
from support import run


def test_it_is_known_by_its_name() -> None:
    async def main() -> None:
        assert await agent_factory("codex_cli") is open_codex

    run(main)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, None),
        ({"program": "no-such-codex"}, "backends.codex_cli.program"),
        ({"environment": {"STAND_IN": "old"}}, "is codex 0.12.0; install 0.169.0 or later"),
        ({"environment": {"STAND_IN": "no-server"}}, "has no app-server"),
        ({"program": "/bin/true"}, "of no known version"),
        ({"api_key": ""}, "codex login"),
        ({"api_key_file": "/nonexistent/key"}, "cannot be opened"),
    ],
)
def test_a_check_says_what_is_missing_and_what_to_do(
    tmp_path: Path, options: dict[str, Any], words: str | None
) -> None:
    async def main() -> None:
        async with open_stand_in(tmp_path, **options) as backend:
            if words is None:
                await backend.check()
                assert (await backend.facts())["version"] == "0.169.0"
                return
            with pytest.raises(BackendUnavailable) as caught:
                await backend.check()
            assert words in str(caught.value)
            assert "not-a-key" not in str(await backend.facts())

    run(main)


def test_who_has_logged_in_needs_no_key(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_stand_in(tmp_path, api_key="") as backend:
            (tmp_path / "codex_cli" / "codex" / "auth.json").write_text("{}")
            await backend.check()

    run(main)


def test_a_key_file_is_read_at_each_start(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("first-key")
    key.chmod(0o600)

    async def main() -> None:
        async with open_stand_in(tmp_path, api_key_file=str(key)) as backend:
            session = await session_of(backend, tmp_path)
            for expected in ("first-key", "second-key"):
                await session.send_message(AgentRequest(prompt="say hello"))
                assert expected in _environments(tmp_path)
                await session.stop_session()
                session = await session_of(backend, tmp_path)
                key.write_text("second-key")
            key.unlink()
            with pytest.raises(AgentError) as caught:
                await session.send_message(AgentRequest(prompt="say hello"))
            assert caught.value.code == "auth"

    run(main)


def test_options_are_checked_before_there_is_a_session(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_stand_in(tmp_path, unasked=False) as backend:
            assert backend.check_options({"sandbox": "read-only", "effort": "low"}) == {
                "effort": "low",
                "sandbox": "read-only",
            }
            with pytest.raises(OptionRefused):
                backend.check_options({"approval": "never"})
            with pytest.raises(OptionRefused):
                await session_of(backend, tmp_path, options={"approval": "never"})
            with pytest.raises(BackendUnavailable):
                await session_of(backend, tmp_path, mcp={"a.b": McpServer(command=("x",))})

    run(main)


def test_no_program_is_started_before_the_first_message(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_stand_in(tmp_path) as backend:
            session = await session_of(backend, tmp_path)
            await session.interrupt()
            assert survivors(tmp_path) == []
            await session.stop_session()

    run(main)


def test_closing_stops_all_sessions_and_no_more_are_begun(tmp_path: Path) -> None:
    async def main() -> None:
        codes: list[str] = []

        async def send(prompt: str, watch: Remembers) -> None:
            session = await session_of(backend, tmp_path, agent=f"ses_{prompt}")
            try:
                await session.send_message(AgentRequest(prompt=prompt), watch)
            except AgentError as error:
                codes.append(error.code)

        async with open_stand_in(tmp_path) as backend, trio.open_nursery() as nursery:
            stalled, hanging = Remembers(), Remembers()
            nursery.start_soon(send, "stall a", stalled)
            nursery.start_soon(send, "hang b", hanging)
            await stalled.heard.wait()
            await hanging.heard.wait()
            await backend.aclose()
            await backend.aclose()
            assert survivors(tmp_path) == []
            with pytest.raises(AgentError):
                await backend.start_session(AgentSpec(agent="x", folder=tmp_path))
        assert codes == ["closed", "closed"]

    run(main)


def test_a_failure_inside_comes_out_as_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(LookupError):
            async with open_stand_in(tmp_path):
                raise LookupError

    run(main)


def test_without_a_folder_or_with_one_that_cannot_be_used_it_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def main(options: dict[str, Any], words: str) -> None:
        with pytest.raises(BackendUnavailable, match=words):
            async with open_codex({"api_key": "x", **options}, Host()):
                pass

    run(main, {}, "backends.codex_cli.folder")
    run(main, {"folder": str(tmp_path / "file")}, "cannot be used")


def test_of_an_npm_package_the_native_program_is_started(tmp_path: Path) -> None:
    names = {"x86_64": ("x64", "x86_64"), "aarch64": ("arm64", "aarch64")}
    if platform.machine() not in names:
        pytest.skip("npm has no native program for this machine")
    short, long = names[platform.machine()]
    package = tmp_path / "node_modules" / "@openai"
    script = package / "codex" / "bin" / "codex.js"
    native = package / f"codex-linux-{short}" / "vendor" / f"{long}-unknown-linux-musl" / "bin" / "codex"
    for path in (script, native):
        path.parent.mkdir(parents=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "codex").symlink_to(script)
    assert find_program("codex", str(tmp_path / "bin")) == str(native)
    native.chmod(0o644)
    assert find_program("codex", str(tmp_path / "bin")) == str(tmp_path / "bin" / "codex")
    assert find_program(stand_in(tmp_path), "") == stand_in(tmp_path)


def _environments(folder: Path) -> str:
    """The environments of all programs of the backend, as one text."""
    found = ""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                data = (process / "environ").read_bytes()
            except OSError:
                continue
            found += data.decode(errors="replace") if f"CODEX_HOME={folder}/".encode() in data else ""
    return found
