"""Skills from disk at the API: packaged safely, uploaded once, found again after lost answers, cleaned away."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
import trio

from skill_actors.authoring.folder import open_skill
from skill_actors.authoring.packing import pack
from skill_actors.backends.anthropic import HostedClient, HostedError, HostedSkill, SkillUploads, UploadStateError
from skill_actors.backends.anthropic.bundle import bundle_skill
from skill_actors.models.retry import RetryPolicy
from skill_actors.skills import Skill, load
from skill_actors.testing import FakeMessagesApi, HangUp, HttpError, open_fake_api
from support import run

QUICK = RetryPolicy(max_attempts=3, first_delay_s=0.01, max_delay_s=0.02)


def make_skill(folder: Path, name: str = "tides", body: str = "Run it.") -> Path:
    root = folder / name
    (root / "scripts").mkdir(parents=True, exist_ok=True)
    (root / "SKILL.md").write_text(f"---\nname: {name}\ndescription: Looks up tides.\n---\n{body}\n")
    (root / "scripts/run.sh").write_bytes(b"echo\x00\xff\r\n")
    return root


@contextlib.asynccontextmanager
async def connected(folder: Path) -> AsyncIterator[tuple[FakeMessagesApi, SkillUploads, HostedClient]]:
    async with (
        open_fake_api() as api,
        HostedClient(lambda: "key", base_url=api.base_url, retry=QUICK, rng=Random(1)) as client,
    ):
        yield api, SkillUploads(client, folder / "state" / "uploads.json"), client


def posts(api: FakeMessagesApi) -> int:
    return len([request for request in api.requests if request.method == "POST"])


def test_a_skill_is_uploaded_whole_below_its_name(tmp_path: Path) -> None:
    root = make_skill(tmp_path)
    (root / "deep/er").mkdir(parents=True)
    (root / "deep/er/x.txt").write_text("x")

    async def main() -> None:
        async with connected(tmp_path) as (api, uploads, client):
            skill = await uploads.ensure(root)
            [stored] = api.hosted.skills.custom()
            assert (skill.type, skill.skill_id, skill.version) == ("custom", stored.id, stored.versions[0].id)
            assert dict(stored.versions[0].files) == {
                "SKILL.md": (root / "SKILL.md").read_bytes(),
                "deep/er/x.txt": b"x",
                "scripts/run.sh": b"echo\x00\xff\r\n",
            }
            assert stored.display_name == "tides"
            assert [each.name for each in await client.skills.versions(stored.id)] == ["tides"]

    run(main)


def test_an_unchanged_skill_is_not_uploaded_again_also_by_another_process(tmp_path: Path) -> None:
    root = make_skill(tmp_path)

    async def main() -> None:
        async with connected(tmp_path) as (api, uploads, client):
            first = await uploads.ensure(root)
            again = SkillUploads(client, tmp_path / "state/uploads.json")
            assert [await uploads.ensure(root), await again.ensure(root), await again.ensure(root)] == [first] * 3
            assert posts(api) == 1

    run(main)


def test_two_that_upload_the_same_skill_at_the_same_time_make_one(tmp_path: Path) -> None:
    root = make_skill(tmp_path)

    async def main() -> None:
        async with connected(tmp_path) as (api, uploads, client):
            other = SkillUploads(client, tmp_path / "state/uploads.json")
            found: list[HostedSkill] = []

            async def ensure(each: SkillUploads) -> None:
                found.append(await each.ensure(root))

            async with trio.open_nursery() as nursery:
                for each in (uploads, other, uploads):
                    nursery.start_soon(ensure, each)
            assert len(set(found)) == 1
            assert posts(api) == 1

    run(main)


def test_who_waits_for_another_upload_can_be_cancelled(tmp_path: Path) -> None:
    root = make_skill(tmp_path)

    async def main() -> None:
        async with connected(tmp_path) as (api, uploads, client):
            api.interrupt("POST", "/v1/skills", HttpError(403, delay_s=60))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(uploads.ensure, root)
                await api.wait_until(lambda: posts(api) == 1)
                with trio.move_on_after(0.2) as scope:
                    await SkillUploads(client, tmp_path / "state/uploads.json").ensure(root)
                assert scope.cancelled_caught
                nursery.cancel_scope.cancel()
            assert (await uploads.ensure(root)).type == "custom"
            assert len(api.hosted.skills.custom()) == 1

    run(main)


def test_a_folder_a_package_and_a_loaded_skill_of_the_same_files_are_one(tmp_path: Path) -> None:
    root = make_skill(tmp_path)
    (tmp_path / "tides.skill").write_bytes(pack(open_skill(root)))

    async def main() -> None:
        async with connected(tmp_path) as (api, uploads, _):
            skill = load(tmp_path).skills["tides"]
            assert await uploads.ensure(root) == await uploads.ensure(skill)
            assert (await uploads.ensure(tmp_path / "tides.skill")).skill_id == (await uploads.ensure(root)).skill_id
            assert len(api.hosted.skills.custom()) == 1

    run(main)


def test_a_changed_skill_is_a_new_version_of_the_same_skill(tmp_path: Path) -> None:
    root = make_skill(tmp_path)

    async def main() -> None:
        async with connected(tmp_path) as (api, uploads, _):
            first = await uploads.ensure(root)
            make_skill(tmp_path, body="Run it twice.")
            second = await uploads.ensure(root)
            assert second.skill_id == first.skill_id
            assert second.version != first.version
            make_skill(tmp_path)
            assert await uploads.ensure(root) == first
            assert posts(api) == 2

    run(main)


def test_a_skill_that_somebody_deleted_there_is_uploaded_anew(tmp_path: Path) -> None:
    root = make_skill(tmp_path)

    async def main() -> None:
        async with connected(tmp_path) as (api, uploads, client):
            first = await uploads.ensure(root)
            await client.skills.delete(first.skill_id)
            other = SkillUploads(client, tmp_path / "state/uploads.json")
            second = await other.ensure(root)
            assert second.skill_id != first.skill_id
            assert len(api.hosted.skills.custom()) == 1

    run(main)


def test_a_skill_that_is_deleted_there_while_this_runs_is_missed_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_skill(tmp_path)

    async def main() -> None:
        async with connected(tmp_path) as (api, uploads, client):
            first = await uploads.ensure(root)
            await client.skills.delete(first.skill_id)
            asked = len(api.requests)
            assert await uploads.ensure(root) == first
            assert len(api.requests) == asked, "it is not asked for before every turn"
            monkeypatch.setattr("skill_actors.backends.anthropic.uploads._CHECKED_S", 0.0)
            second = await uploads.ensure(root)
            assert second.skill_id != first.skill_id

    run(main)


@pytest.mark.parametrize("answer", [HangUp(), HttpError(500), HttpError(504), HttpError(200, text="<html>")])
def test_an_upload_whose_answer_is_lost_is_found_and_not_made_twice(tmp_path: Path, answer: HangUp | HttpError) -> None:
    root = make_skill(tmp_path)

    async def main() -> None:
        async with connected(tmp_path) as (api, uploads, _):
            api.interrupt("POST", "/v1/skills", answer, after=True)
            first = await uploads.ensure(root)
            make_skill(tmp_path, body="Changed.")
            api.interrupt("POST", "/v1/skills", answer, after=True)
            second = await uploads.ensure(root)
            [stored] = api.hosted.skills.custom()
            assert [version.id for version in stored.versions] == [first.version, second.version]
            assert posts(api) == 2

    run(main)


def test_an_upload_that_did_not_happen_is_made_again(tmp_path: Path) -> None:
    root = make_skill(tmp_path)

    async def main() -> None:
        async with connected(tmp_path) as (api, uploads, _):
            api.interrupt("POST", "/v1/skills", HangUp())
            api.interrupt("POST", "/v1/skills", HttpError(529))
            await uploads.ensure(root)
            assert len(api.hosted.skills.custom()) == 1
            assert posts(api) == 3

    run(main)


def test_an_upload_that_a_crash_cut_is_found_by_the_next_start(tmp_path: Path) -> None:
    root = make_skill(tmp_path)

    async def main() -> None:
        async with connected(tmp_path) as (api, uploads, client):
            api.interrupt("POST", "/v1/skills", HangUp(), after=True)
            for _ in range(3):
                api.interrupt("GET", "/v1/skills", HttpError(500))
            with pytest.raises(HostedError):
                await uploads.ensure(root)
            assert len(api.hosted.skills.custom()) == 1
            later = SkillUploads(client, tmp_path / "state/uploads.json")
            skill = await later.ensure(root)
            assert [skill.skill_id] == [stored.id for stored in api.hosted.skills.custom()]
            assert posts(api) == 1

    run(main)


def test_cleaning_also_finds_an_upload_that_was_cancelled_on_its_way(tmp_path: Path) -> None:
    root = make_skill(tmp_path)

    async def main() -> None:
        async with connected(tmp_path) as (api, uploads, client):
            api.interrupt("POST", "/v1/skills", HttpError(500, delay_s=60), after=True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(uploads.ensure, root)
                await api.wait_until(lambda: bool(api.hosted.skills.custom()))
                nursery.cancel_scope.cancel()
            [orphan] = api.hosted.skills.custom()
            later = SkillUploads(client, tmp_path / "state/uploads.json")
            assert (await later.clean()).deleted == (orphan.id,)
            assert api.hosted.skills.custom() == []

    run(main)


def test_a_skill_of_others_with_the_same_name_is_never_taken_for_ours(tmp_path: Path) -> None:
    root = make_skill(tmp_path)
    theirs = make_skill(tmp_path / "theirs", body="Theirs.")

    async def main() -> None:
        async with connected(tmp_path) as (api, uploads, client):
            foreign = await client.skills.create(bundle_skill(theirs).files)
            api.interrupt("POST", "/v1/skills", HangUp())
            ours = await uploads.ensure(root)
            assert ours.skill_id != foreign.id
            cleaned = await uploads.clean()
            assert cleaned.deleted == (ours.skill_id,)
            assert [stored.id for stored in api.hosted.skills.custom()] == [foreign.id]

    run(main)


def test_if_one_of_several_fails_the_earlier_ones_of_this_call_are_deleted(tmp_path: Path) -> None:
    first, second, third = (make_skill(tmp_path, name) for name in ("one", "two", "three"))

    async def main() -> None:
        async with connected(tmp_path) as (api, uploads, _):
            kept = await uploads.ensure(first)
            make_skill(tmp_path, "one", body="Changed.")
            (third / "big").write_bytes(b"x" * 30_000_001)
            with pytest.raises(HostedError, match="three") as caught:
                await uploads.ensure_all([first, second, third])
            assert caught.value.code == "skill_upload_failed"
            [stored] = api.hosted.skills.custom()
            assert (stored.id, [version.id for version in stored.versions]) == (kept.skill_id, [kept.version])
            (third / "big").unlink()
            assert len(await uploads.ensure_all([first, second, third])) == 3

    run(main)


def test_cleaning_deletes_versions_then_the_skill_and_only_ours_and_goes_on_after_a_failure(tmp_path: Path) -> None:
    one, two = make_skill(tmp_path, "one"), make_skill(tmp_path, "two")

    async def main() -> None:
        async with connected(tmp_path) as (api, uploads, _client):
            first, second = await uploads.ensure_all([one, two])
            make_skill(tmp_path, "one", body="Changed.")
            await uploads.ensure(one)
            api.interrupt("DELETE", f"/v1/skills/{second.skill_id}", HttpError(403))
            cleaned = await uploads.clean()
            assert cleaned.deleted == (first.skill_id,)
            assert [error.details["status"] for error in cleaned.failures] == [403]
            deletes = [request.path for request in api.requests if request.method == "DELETE"]
            assert [path.count("/versions/") for path in deletes[:3]] == [1, 1, 0]
            assert (await uploads.clean()).deleted == (second.skill_id,)
            assert await uploads.clean() == await uploads.clean()
            assert api.hosted.skills.custom() == []
            await uploads.ensure(one)
            assert (await uploads.clean(keep=["one"])).deleted == ()

    run(main)


def test_a_link_out_of_the_skill_is_refused_and_its_target_never_read(tmp_path: Path) -> None:
    """Conjure packs what such a link leads to."""
    root = make_skill(tmp_path)
    (tmp_path / "id_rsa").write_text("secret")
    (root / "notes.txt").symlink_to(tmp_path / "id_rsa")

    async def main() -> None:
        async with connected(tmp_path) as (api, uploads, _):
            with pytest.raises(HostedError, match=r"notes.txt is a link out of the skill") as caught:
                await uploads.ensure(root)
            assert caught.value.details["path"] == str(root)
            assert posts(api) == 0

    run(main)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"big": "x" * 30_000_001}, "30000000 bytes"),
        ({"SKILL.md": "no front matter"}, "no skill"),
        ({"SKILL.md": "---\nname: claude-tides\ndescription: x\n---\n"}, "reserved|'claude'|not"),
        ({"SKILL.md": "---\nname: tides\ndescription: a <b>bold</b> one\n---\n"}, "XML"),
    ],
)
def test_what_the_api_would_refuse_is_not_sent(tmp_path: Path, change: dict[str, str], problem: str) -> None:
    root = make_skill(tmp_path)
    for name, text in change.items():
        (root / name).write_text(text)
    with pytest.raises(HostedError, match=problem) as caught:
        bundle_skill(root)
    assert caught.value.code == "skill_upload_failed"


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06", b"not a zip" * 100])
def test_a_damaged_package_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.skill").write_bytes(content)
    with pytest.raises(HostedError, match=r"bad\.skill"):
        bundle_skill(tmp_path / "bad.skill")


def test_a_skill_that_was_edited_since_it_was_loaded_is_not_uploaded(tmp_path: Path) -> None:
    make_skill(tmp_path)
    skill: Skill = load(tmp_path).skills["tides"]
    make_skill(tmp_path, body="Edited.")
    with pytest.raises(HostedError, match="changed since it was loaded"):
        bundle_skill(skill)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"format": 2, "skills": [], "begun": []}',
        '{"format": 1, "skills": [{}]}',
        '{"format": 1, "skills": [], "begun": [{"api": "x", "name": "tides", "digest": "", "manifest": "", '
        '"display_name": "tides", "began": 5}]}',
        '{"format": 1, "skills": [], "begun": [{"api": "x", "name": "tides", "digest": "", "manifest": "", '
        '"display_name": "tides", "began": "2026-01-01T00:00:00"}]}',
        "[" * 100_000,
    ],
)
def test_a_damaged_file_of_uploads_stops_everything(tmp_path: Path, content: str) -> None:
    root = make_skill(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state/uploads.json").write_text(content)

    async def main() -> None:
        async with connected(tmp_path) as (api, uploads, _):
            with pytest.raises(UploadStateError, match=r"uploads\.json"):
                await uploads.ensure(root)
            with pytest.raises(UploadStateError):
                await uploads.clean()
            assert api.requests == []

    run(main)


def test_the_file_of_uploads_is_of_one_api_and_holds_no_key(tmp_path: Path) -> None:
    root = make_skill(tmp_path)

    async def main() -> None:
        async with connected(tmp_path) as (_, uploads, _client):
            await uploads.ensure(root)
        async with connected(tmp_path) as (api, uploads, _client):
            await uploads.ensure(root)
            assert len(api.hosted.skills.custom()) == 1
            await uploads.clean()

    run(main)
    text = (tmp_path / "state/uploads.json").read_text()
    assert [skill["name"] for skill in json.loads(text)["skills"]] == ["tides"]
    assert '"key"' not in text


def test_lists_are_read_to_the_end_and_by_source(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(tmp_path) as (_api, _, client):
            files = bundle_skill(make_skill(tmp_path)).files
            for number in range(3):
                await client.skills.create(files, display_name=f"Tides {number}")
            assert [skill.display_name for skill in await client.skills.list("custom")] == [
                "Tides 2",
                "Tides 1",
                "Tides 0",
            ]
            assert {skill.id for skill in await client.skills.list("anthropic")} == {"pptx", "xlsx", "docx", "pdf"}
            assert len(await client.skills.list()) == 7
            some = (await client.skills.list("custom"))[0]
            assert await client.skills.get(some.id) == some
            assert (await client.skills.version(some.id)).id == some.latest_version
            with pytest.raises(HostedError) as caught:
                await client.skills.get("skill_none")
            assert caught.value.details["status"] == 404
            with pytest.raises(ValueError, match="plugin"):
                await client.skills.list("plugin")  # type: ignore[arg-type]
            with pytest.raises(HostedError, match="read-only"):
                await client.skills.delete("xlsx")
            assert not await client.skills.delete("skill_none")

    run(main)
