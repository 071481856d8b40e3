#!/usr/bin/env python3
"""Hosted execution against the real API, step by step, for whoever changes it or doubts it. Needs a key; costs cents.

    ANTHROPIC_API_KEY=... python examples/hosted_check.py [--model MODEL] [--folder FOLDER] [--base-url URL]

Makes a spreadsheet with Anthropic's skill in a container, changes it there in a second turn, downloads both, uploads a
skill and a file, and asks for a container that does not exist. What it made at the API it deletes again. It prints a
line for each step, and ends with 0 if all were as the tests expect them of the fake server, with 1 if not.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from skill_actors.backends.anthropic import (
    CreatedFile,
    HostedClient,
    HostedError,
    HostedTurn,
    SkillUploads,
    download_files,
)
from skill_actors.loop import BackendSession, HostedBackend, TurnFailed

SKILL = (
    "---\nname: skilld-check\ndescription: Says how skilld checks hosted skills.\n---\nAnswer with the word {word}.\n"
)


@dataclass
class Check:
    """What the steps share, and how many of them were not as expected."""

    client: HostedClient
    model: str
    folder: Path
    failed: int = 0
    files: list[str] = field(default_factory=list)  # ids to delete at the end

    async def step(self, what: str, action: Callable[[], Awaitable[str]]) -> None:
        try:
            print(f"ok    {what}: {await action()}")
        except (HostedError, TurnFailed, AssertionError, OSError) as error:
            self.failed += 1
            print(f"FAIL  {what}: {error}")

    async def new_session(self, *skills: object, uploads: SkillUploads | None = None) -> BackendSession:
        return await HostedBackend().new_session(skills, model_name=self.model, max_tokens=4096, uploads=uploads)

    async def chat(self, session: BackendSession, text: str, *files: str) -> tuple[HostedTurn, BackendSession]:
        def paused(_: object, attempt: int) -> None:
            print(f"      paused, {attempt}")

        turn, session = await HostedBackend().chat(session, text, self.client, files=files, on_pause=paused)
        self.files += [file.file_id for file in turn.files]
        return turn, session


async def prebuilt(check: Check) -> str:
    ids = {skill.id for skill in await check.client.skills.list("anthropic")}
    assert {"xlsx", "pptx", "docx", "pdf"} <= ids, f"the prebuilt skills are {sorted(ids)}"
    return ", ".join(sorted(ids))


async def spreadsheet(check: Check) -> str:
    """Two turns in one container, with a file that goes in and two that come out."""
    numbers = await check.client.files.upload(b"month,visits\nMay,10\nJune,20\n", name="visits.csv", expires_in_s=3600)
    check.files.append(numbers.id)
    session = await check.new_session("anthropic:xlsx@latest")
    text = "Make visits.xlsx of the uploaded visits.csv, one sheet named Visits. Leave it where I can download it."
    first, session = await check.chat(session, text, numbers.id)
    assert first.files, f"no file was made: {first.text[:200]!r}"
    second, session = await check.chat(session, "Add a row July,30 to it, and give me the file as visits2.xlsx.")
    assert second.container_id == first.container_id, "the second turn ran in another container"
    assert second.files, f"no second file was made: {second.text[:200]!r}"
    done = await download_files([*first.files, *second.files], check.folder, client=check.client)
    assert not done.failures, str(done.failures[0])
    assert all(path.read_bytes()[:2] == b"PK" for path in done.paths), "what came is no spreadsheet"
    usage = first.usage + second.usage
    return f"{', '.join(path.name for path in done.paths)}; {usage.input_tokens} tokens in, {usage.output_tokens} out"


async def own_skill(check: Check) -> str:
    """An upload, a changed upload, its use, and the cleaning."""
    root = check.folder / "skilld-check"
    root.mkdir(exist_ok=True)
    (root / "SKILL.md").write_text(SKILL.format(word="heron"))
    uploads = SkillUploads(check.client, check.folder / "uploads.json")
    try:
        first = await uploads.ensure(root)
        assert await uploads.ensure(root) == first, "an unchanged skill was uploaded twice"
        (root / "SKILL.md").write_text(SKILL.format(word="kingfisher"))
        second = await uploads.ensure(root)
        assert second.skill_id == first.skill_id, "the changed skill became another skill"
        session = await check.new_session(root, uploads=uploads)
        turn, _ = await check.chat(session, "Use the skill skilld-check, and say what it tells you to answer.")
        assert "kingfisher" in turn.text.lower(), f"the answer was {turn.text[:200]!r}"
    finally:
        cleaned = await uploads.clean()
    assert not cleaned.failures, str(cleaned.failures[0])
    return f"{second}, used and deleted"


async def lost_container(check: Check) -> str:
    """How the API refuses a container that is not there, and whether that is understood."""
    session = await check.new_session("anthropic:xlsx@latest")
    gone = "container_011CPR5CNjB747bTd36fQLFk"
    session.state.container["id"] = gone
    turn, _ = await check.chat(session, "Say hello.")
    assert turn.lost_container == gone, "the container was not refused"
    return f"replaced by {turn.container_id or 'none'}"


async def not_downloadable(check: Check) -> str:
    """A file that was uploaded cannot be had back."""
    file = await check.client.files.upload(b"x", name="x.txt", expires_in_s=3600)
    check.files.append(file.id)
    result = await download_files([CreatedFile(file_id=file.id)], check.folder, client=check.client)
    assert result.failures, "the file came back"
    code = result.failures[0].details.get("error_code")
    assert code == "file_not_downloadable", f"the error's code is {code!r}"
    return str(code)


@asynccontextmanager
async def cleaning(check: Check) -> AsyncIterator[None]:
    """Delete the files that the steps made, however they end."""
    try:
        yield
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 30):
            for file_id in dict.fromkeys(check.files):
                await check.step(f"delete {file_id}", lambda id=file_id: deleted(check, id))  # type: ignore[misc]


async def deleted(check: Check, file_id: str) -> str:
    return "deleted" if await check.client.files.delete(file_id) else "was gone"


async def main(model: str, folder: Path, base_url: str | None) -> int:
    async with HostedClient(base_url=base_url) as client:
        check = Check(client, model, folder)
        async with cleaning(check):
            await check.step("prebuilt skills", lambda: prebuilt(check))
            await check.step("a spreadsheet in two turns", lambda: spreadsheet(check))
            await check.step("a skill of one's own", lambda: own_skill(check))
            await check.step("a container that is not there", lambda: lost_container(check))
            await check.step("a file that was uploaded", lambda: not_downloadable(check))
    print(f"{check.failed} steps failed" if check.failed else "all steps as expected")
    return 1 if check.failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="claude-sonnet-5-5")
    parser.add_argument("--folder", type=Path, help="where downloads go; by default a folder that is removed again")
    parser.add_argument("--base-url", help="of a compatible server")
    options = parser.parse_args()
    if not os.environ.get("ANTHROPIC_API_KEY"):
        parser.error("set ANTHROPIC_API_KEY")
    with tempfile.TemporaryDirectory() as scratch:
        sys.exit(trio.run(main, options.model, options.folder or Path(scratch), options.base_url))
