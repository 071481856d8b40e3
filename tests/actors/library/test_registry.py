"""Skills of a program's own folders: read at once, reloaded when asked, changes told."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from loop_kit import Script, says
from skill_actors.library import Registry, SkillError, new_local
from skill_actors.skills.changes import SkillChange
from support import run


def write(folder: Path, name: str, body: str = "Body") -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "SKILL.md").write_text(f"---\nname: {name}\ndescription: Does {name}.\n---\n{body}\n")


def test_skills_are_listed_found_and_reloaded_while_a_conversation_keeps_its_own(tmp_path: Path) -> None:
    write(tmp_path, "pdf-forms")
    write(tmp_path, "tides")

    async def main() -> None:
        async with Registry("mine", [tmp_path]) as registry:
            assert [skill.name for skill in registry.list()] == ["pdf-forms", "tides"]
            assert registry.count() == 2
            assert [skill.name for skill in registry.find("pdf*")] == ["pdf-forms"]
            assert registry.find("pdf") == ()
            with pytest.raises(SkillError) as unknown:
                registry.get("tide")
            assert (unknown.value.code, unknown.value.details) == ("skill_not_found", {"name": "tide"})
            async with new_local(registry.list()) as session:
                write(tmp_path, "new")
                write(tmp_path, "tides", "Other")
                summary = await registry.reload()
                assert (summary.added, summary.changed) == (("new",), ("tides",))
                assert registry.get("tides").body == "Other"
                assert [skill.name for skill in session.skills] == ["pdf-forms", "tides"]
                response, _ = await session.chat("hi", Script(says("ok")))
                assert response.text == "ok"
            with pytest.raises(SkillError, match="skill_not_found"):
                await registry.reload("nothing")

    run(main)


def test_a_folder_that_breaks_keeps_its_last_good_version_and_is_told(tmp_path: Path) -> None:
    write(tmp_path, "tides")

    async def main() -> None:
        async with Registry("mine", [str(tmp_path)]) as registry:
            (tmp_path / "tides/SKILL.md").write_text("half wr")
            summary = await registry.reload()
            assert summary.outcome == "failed"
            assert registry.get("tides").body == "Body"
            assert len(registry.failures) == 1

    run(main)


def test_registered_skills_stay_over_a_reload(tmp_path: Path) -> None:
    write(tmp_path / "a", "one")
    write(tmp_path / "b", "two")

    async def main() -> None:
        async with Registry("a", [tmp_path / "a"]) as first, Registry("b", [tmp_path / "b"]) as second:
            await first.register(second.list())
            await first.reload()
            assert [skill.name for skill in first.list()] == ["one", "two"]
            await first.unregister("two")
            assert first.count() == 1
            with pytest.raises(SkillError, match="skill_not_found"):
                await first.unregister("two")

    run(main)


def test_edits_on_disk_are_seen_by_themselves_and_told_to_subscribers(tmp_path: Path) -> None:
    write(tmp_path, "tides")

    async def main() -> None:
        told: list[SkillChange] = []
        heard = trio.Event()

        async def listen(change: SkillChange) -> None:
            await trio.lowlevel.checkpoint()
            told.append(change)
            if "new" in change.added:  # before, it may have been found half written
                heard.set()
            raise RuntimeError("the program's own fault")

        async with Registry("mine", [tmp_path], watch=True) as registry:
            end = registry.subscribe(listen)
            write(tmp_path, "new")
            await heard.wait()
            end()
            write(tmp_path, "newer")
            await registry.reload()
            assert registry.count() == 3
            assert not any("newer" in change.added for change in told)

    run(main)


def test_a_registry_that_is_not_open_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        registry = Registry("mine", [tmp_path])
        with pytest.raises(SkillError, match="session_closed"):
            await registry.reload()
        with pytest.raises(SkillError, match="session_closed"):
            registry.subscribe(print)
        assert registry.list() == []

    run(main)


def test_an_error_of_the_block_comes_out_as_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with Registry("mine", [tmp_path]):
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run(main)
