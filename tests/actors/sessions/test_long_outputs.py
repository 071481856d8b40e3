"""Outputs that are too long for the model: it is told where the whole is, and sees any part of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from session_kit import Kit, open_kit
from skill_actors.testing import Reply, ScriptedModel, Text, ToolUse
from support import run

LINES = 20_000
PRINT = f"for number in range({LINES}): print('line', number)"
WHERE = re.compile(r"the whole \(\d+ bytes.*?\) is in (\.skilld/output/[\w-]+\.txt)")


def with_skill(folder: Path) -> Path:
    root = folder / "skills-of-the-test" / "printer"
    (root / "scripts").mkdir(parents=True)
    (root / "SKILL.md").write_text("---\nname: printer\ndescription: prints\n---\nRun it.\n")
    (root / "scripts/run.py").write_text(PRINT)
    return root


async def results(kit: Kit, session: str) -> list[dict[str, Any]]:
    return [dict(event.data) for event in await kit.events(session) if event.type == "tool.finished"]


async def parts_seen(kit: Kit, model: ScriptedModel, session: str, file: str) -> None:
    """Have the model look at lines in the middle of the file."""
    look = ToolUse("view", {"path": file, "view_range": [12_001, 12_002]})
    model.enqueue(Reply([look]), Reply([Text("seen")]))
    await kit.ask(session, "what is in the middle?")
    shown = (await results(kit, session))[-1]["content"]
    assert shown.splitlines()[:2] == [" 12001\tline 12000", " 12002\tline 12001"]


def test_of_a_command(tmp_path: Path) -> None:
    async def main() -> None:
        call = ToolUse("bash_tool", {"command": f'python3 -c "{PRINT}"', "description": "d"})
        model = ScriptedModel([Reply([call]), Reply([Text("long")])])
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            await kit.ask(session, "print it")
            (result,) = await results(kit, session)
            assert len(result["content"]) <= 30_000
            found = WHERE.search(result["content"])
            assert found is not None
            await parts_seen(kit, model, session, found[1])

    run(main)


def test_of_an_entry_command(tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel()
        async with open_kit(tmp_path, model, skills=[with_skill(tmp_path)]) as kit:
            session = await kit.session()
            turn = await kit.ask(session, "/printer")
            found = WHERE.search(turn["result"]["text"])
            assert found is not None
            await parts_seen(kit, model, session, found[1])

    run(main)


def test_of_a_program_that_writes_bytes(tmp_path: Path) -> None:
    async def main() -> None:
        call = ToolUse("bash_tool", {"command": "head -c 200000 /dev/zero; printf 'the end'", "description": "d"})
        model = ScriptedModel([Reply([call]), Reply([Text("bytes")])])
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            await kit.ask(session, "print it")
            (result,) = await results(kit, session)
            found = WHERE.search(result["content"])
            assert found is not None
            look = ToolUse("view", {"path": found[1], "view_range": [12_501, -1]})
            model.enqueue(Reply([look]), Reply([Text("seen")]))
            await kit.ask(session, "how does it end?")
            shown = (await results(kit, session))[-1]["content"]
            assert "00030d40  74 68 65 20 65 6e 64" in shown

    run(main)
