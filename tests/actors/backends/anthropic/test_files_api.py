"""The Files API against the fake server: uploads, lists, and downloads whose names and sizes nobody can trust."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import httpx
import openpyxl
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from skill_actors.backends.anthropic import (
    CreatedFile,
    HostedClient,
    HostedError,
    download_files,
    fresh_name,
    safe_name,
)
from skill_actors.models.retry import RetryPolicy
from skill_actors.testing import FakeMessagesApi, HangUp, HttpError, open_fake_api
from support import run

QUICK = RetryPolicy(max_attempts=3, first_delay_s=0.01, max_delay_s=0.02)


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[FakeMessagesApi, HostedClient]]:
    async with (
        open_fake_api() as api,
        HostedClient(lambda: "key", base_url=api.base_url, retry=QUICK, rng=Random(1)) as client,
    ):
        yield api, client


def made(api: FakeMessagesApi, name: str, content: bytes = b"data") -> str:
    return api.hosted.files.add(name, content, downloadable=True).id


def test_a_file_goes_up_and_is_told_of_and_deleted(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "in.csv").write_bytes(b"a,b\r\n\x00\xff")
        async with connected() as (api, client):
            file = await client.files.upload(tmp_path / "in.csv", expires_in_s=3600)
            assert (file.name, file.size, file.content_type) == ("in.csv", 7, "text/csv")
            assert file.downloadable is False
            assert file.expires_at is not None
            assert api.hosted.files.files[file.id].content == b"a,b\r\n\x00\xff"
            assert await client.files.metadata(file.id) == file
            assert await client.files.delete(file.id)
            assert not await client.files.delete(file.id)
            assert await client.files.list() == []

    run(main)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [("missing.txt", None, "No such file"), ("pipe", None, "no regular file"), ("folder", None, "directory")],
)
def test_what_cannot_be_uploaded_is_said(tmp_path: Path, name: str, content: bytes | None, problem: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()

    async def main() -> None:
        async with connected() as (api, client):
            with pytest.raises(HostedError, match=problem) as caught:
                await client.files.upload(tmp_path / name)
            assert caught.value.code == "file_upload_failed"
            assert api.requests == []

    run(main)


def test_the_lifetime_of_a_file_has_the_bounds_of_the_api() -> None:
    async def main() -> None:
        async with connected() as (_, client):
            with pytest.raises(HostedError, match="3600") as caught:
                await client.files.upload(b"x", name="x", expires_in_s=60)
            assert caught.value.details["status"] == 400
            assert isinstance(caught.value.__cause__, HostedError)
            assert caught.value.__cause__.code == "anthropic_api_error"

    run(main)


def test_all_pages_of_a_list_are_read() -> None:
    async def main() -> None:
        async with connected() as (api, client):
            for number in range(1003):
                made(api, f"{number}")
            files = await client.files.list()
            assert [file.name for file in files] == [str(number) for number in reversed(range(1003))]
            assert len([request for request in api.requests if request.method == "GET"]) == 2
            assert [file.name for file in await client.files.list(max_files=2)] == ["1002", "1001"]

    run(main)


def test_a_spreadsheet_comes_down_as_it_is(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["total", 42])
    buffer = io.BytesIO()
    book.save(buffer)

    async def main() -> None:
        async with connected() as (api, client):
            id = made(api, "report.xlsx", buffer.getvalue())
            downloads = await download_files([id], tmp_path / "new" / "folder", client=client)
        [file] = downloads.files
        assert file.path == tmp_path / "new/folder/report.xlsx"
        assert file.checksum == f"sha256:{hashlib.sha256(buffer.getvalue()).hexdigest()}"
        assert file.content_type == "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
        assert openpyxl.load_workbook(file.path).active["B1"].value == 42

    run(main)
    assert [path.name for path in (tmp_path / "new/folder").iterdir()] == ["report.xlsx"]


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("report.xlsx", "report.xlsx"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/etc/shadow", "shadow"),
        ("C:\\x\\y.txt", "y.txt"),
        ("C:evil", "C_evil"),
        ("..", "file"),
        ("", "file"),
        ("a/", "file"),
        ("\x00\x1b[31mred\n", "[31mred"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        (".bashrc", "_bashrc"),
        ("...hidden", "_hidden"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("com1.tar.gz", "_com1.tar.gz"),
        ("trailing. . ", "trailing"),
        ("a<b>c:d|e?.txt", "a_b_c_d_e_.txt"),
        ("e\u0301.txt", "\u00e9.txt"),
        ("   ", "file"),
        ("???", "file"),
    ],
)
def test_a_name_of_others_becomes_one_that_is_safe(name: str, safe: str) -> None:
    assert safe_name(name) == safe
    assert safe_name(safe) == safe


@given(st.text(max_size=300), st.text(max_size=30))
def test_whatever_a_file_is_called_its_name_is_one_plain_name(name: str, suffix: str) -> None:
    made = safe_name(f"{name}.{suffix}")
    assert 0 < len(made.encode()) <= 200
    assert not set(made) & set('/\\\0<>:"|?*')
    assert not any(unicodedata.category(letter).startswith("C") for letter in made)
    assert made[0] not in ". "
    assert made[-1] not in ". "
    assert safe_name(made) == made
    assert fresh_name(made, {made.casefold()}) != made


def test_a_long_name_is_cut_and_keeps_what_tells_its_kind() -> None:
    name = safe_name("\u00e9" * 500 + ".xlsx")
    assert name.endswith(".xlsx")
    assert len(name.encode()) <= 200
    assert len(safe_name("x" * 400).encode()) <= 200
    assert len(safe_name("x." + "y" * 400).encode()) <= 200


def test_equal_names_get_numbers_also_if_only_their_case_differs() -> None:
    assert fresh_name("a.txt", {"b.txt"}) == "a.txt"
    assert fresh_name("A.txt", {"a.txt", "a (2).txt"}) == "A (3).txt"
    assert fresh_name("noend", {"noend"}) == "noend (2)"


def test_no_file_leaves_the_folder_or_replaces_another(tmp_path: Path) -> None:
    """Conjure joins the name it is given to the folder."""
    folder = tmp_path / "out"
    folder.mkdir()
    (tmp_path / "secret").write_text("mine")
    (folder / "report.txt").write_text("before")
    (folder / "link.txt").symlink_to(tmp_path / "secret")

    async def main() -> None:
        async with connected() as (api, client):
            names = ["../secret", "report.txt", "REPORT.txt", "report.txt", "link.txt"]
            downloads = await download_files([made(api, name) for name in names], folder, client=client)
            assert [path.name for path in downloads.paths] == [
                *("secret", "report (2).txt", "REPORT (3).txt", "report (4).txt", "link (2).txt")
            ]
            assert downloads.failures == ()

    run(main)
    assert (tmp_path / "secret").read_text() == "mine"
    assert (folder / "report.txt").read_text() == "before"


def test_overwriting_is_asked_for_and_never_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a.txt").symlink_to(tmp_path / "secret")

    async def main() -> None:
        async with connected() as (api, client):
            ids = [made(api, "a.txt", b"1"), made(api, "a.txt", b"2")]
            downloads = await download_files(ids, folder, client=client, overwrite=True)
            assert [path.read_bytes() for path in downloads.paths] == [b"1", b"2"]

    run(main)
    assert (tmp_path / "secret").read_text() == "mine"
    assert sorted(path.name for path in folder.iterdir()) == ["a (2).txt", "a.txt"]


def test_a_file_that_is_larger_than_it_said_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected() as (api, client):
            id = made(api, "bomb", b"x" * 3_000_000)
            with pytest.raises(HostedError, match="3000000 bytes; 1000 are allowed"):
                await client.files.download(id, tmp_path, max_bytes=1000)
            api.hosted.files.files[id].claimed_bytes = 10
            with pytest.raises(HostedError, match="more than 1000 bytes") as caught:
                await client.files.download(id, tmp_path, max_bytes=1000)
            assert caught.value.code == "file_download_failed"
            assert (await client.files.download(id, tmp_path)).size == 3_000_000

    run(main)
    assert [path.name for path in tmp_path.iterdir()] == ["bomb"]


def test_all_files_of_a_call_together_have_a_limit(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected() as (api, client):
            ids = [made(api, name, b"x" * 600) for name in "abc"]
            downloads = await download_files(ids, tmp_path, client=client, max_total_bytes=1000)
            assert [path.name for path in downloads.paths] == ["a"]
            assert [error.details["file_id"] for error in downloads.failures] == ids[1:]

    run(main)


def test_one_file_that_fails_keeps_no_other_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected() as (api, client):
            uploaded = (await client.files.upload(b"x", name="up.txt")).id
            over = api.hosted.files.add("over", b"x", downloadable=True, expires_s=1.0).id
            good = CreatedFile(file_id=made(api, "good"))
            downloads = await download_files(
                [uploaded, "file_none", over, good, {"file_id": good.file_id}], tmp_path, client=client
            )
            assert [path.name for path in downloads.paths] == ["good"]
            assert [error.details.get("error_code") for error in downloads.failures] == [
                *("file_not_downloadable", None, "file_expired")
            ]
            assert {error.code for error in downloads.failures} == {"file_download_failed"}
            with pytest.raises(TypeError, match="no file"):
                await download_files([3], tmp_path, client=client)

    run(main)


def test_a_download_is_begun_again_when_the_connection_breaks(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected() as (api, client):
            id = made(api, "a", b"x" * 2_000_000)
            api.interrupt("GET", f"/v1/files/{id}/content", HangUp())
            api.interrupt("GET", f"/v1/files/{id}/content", HttpError(500))
            file = await client.files.download(id, tmp_path)
            assert file.path.read_bytes() == b"x" * 2_000_000
            api.interrupt("GET", f"/v1/files/{id}/content", HttpError(403))
            with pytest.raises(HostedError) as caught:
                await client.files.download(id, tmp_path)
            assert (caught.value.retryable, caught.value.details["status"]) == (False, 403)

    run(main)


def test_a_download_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected() as (api, client):
            id = made(api, "a", b"x")
            api.interrupt("GET", f"/v1/files/{id}/content", HttpError(503, delay_s=60))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.files.download, id, tmp_path)
                await api.wait_until(lambda: any(request.path.endswith("/content") for request in api.requests))
                nursery.cancel_scope.cancel()

    run(main)
    assert list(tmp_path.iterdir()) == []


def test_an_upload_whose_answer_is_lost_is_not_made_twice() -> None:
    async def main() -> None:
        async with connected() as (api, client):
            api.interrupt("POST", "/v1/files", HangUp(), after=True)
            with pytest.raises(HostedError) as caught:
                await client.files.upload(b"x", name="x")
            assert caught.value.retryable
            assert len(api.hosted.files.files) == 1
            api.interrupt("POST", "/v1/files", HttpError(429, retry_after_s=0))
            await client.files.upload(b"y", name="y")
            assert len(api.hosted.files.files) == 2

    run(main)


@pytest.mark.parametrize("id", ["", "..", ".", "../skills/x", "a/b", "a?b", "%2e%2e", "a\x00b", "x" * 200])
def test_an_id_that_is_none_never_becomes_part_of_a_path(tmp_path: Path, id: str) -> None:
    async def main() -> None:
        async with connected() as (api, client):
            with pytest.raises(HostedError) as caught:
                await client.files.download(id, tmp_path)
            assert caught.value.code == "file_download_failed"
            for call in (client.skills.delete(id), client.skills.content("skill_1", id), client.files.delete(id)):
                with pytest.raises(HostedError):
                    await call
            assert api.requests == []

    run(main)


def test_answers_of_another_shape_are_errors_of_ours(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected() as (api, client):
            for text in ("<html>", "[]", "null", '{"id": 3, "size_bytes": "many"}', '{"data": 3}', "[" * 100_000):
                for method, path in (("GET", "/v1/files"), ("POST", "/v1/files"), ("POST", "/v1/skills")):
                    api.interrupt(method, path, HttpError(200, text=text, headers={"content-type": "application/json"}))
                with pytest.raises(HostedError):
                    await client.files.list()
                with pytest.raises(HostedError):
                    await client.files.upload(b"x", name="x")
                with pytest.raises(HostedError):
                    await client.skills.create([("x/SKILL.md", b"x")])
                assert api.interruptions == 0

    run(main)


def test_a_size_or_kind_that_no_file_has_is_not_passed_on() -> None:
    json_type = {"content-type": "application/json"}

    async def main() -> None:
        async with connected() as (api, client):
            for size in ("1e999", "-7"):
                text = '{"id": "file_1", "mime_type": "text/html\\r\\nx-evil: 1", "size_bytes": ' + size + "}"
                api.interrupt("GET", "/v1/files", HttpError(200, text=text, headers=json_type))
                told = await client.files.metadata("file_1")
                assert (told.size, told.content_type) == (0, "application/octet-stream")

    run(main)


def test_a_list_that_never_ends_is_an_error() -> None:
    async def main() -> None:
        async with connected() as (api, client):
            page = '{"data": [{"id": "file_1", "type": "file"}], "next_page": "page_1"}'
            for _ in range(3):
                api.interrupt(
                    "GET", "/v1/files", HttpError(200, text=page, headers={"content-type": "application/json"})
                )
            with pytest.raises(HostedError, match="does not end"):
                await client.files.list()

    run(main)


def test_a_key_never_shows_in_an_error() -> None:
    async def main() -> None:
        async with (
            open_fake_api(api_keys=["other"]) as api,
            HostedClient(lambda: "secret-key-1", base_url=api.base_url) as client,
        ):
            with pytest.raises(HostedError) as caught:
                await client.files.list()
            assert caught.value.details["status"] == 401
            assert "secret-key-1" not in repr(caught.value.to_dict()) + repr(client)
        async with HostedClient(lambda: "key", base_url=api.base_url, retry=QUICK) as client:
            with pytest.raises(HostedError) as caught:
                await client.files.list()
            assert (caught.value.retryable, caught.value.details["reached"]) == (True, False)

    run(main)


def test_without_a_key_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)

    async def main() -> None:
        async with HostedClient() as client:
            with pytest.raises(HostedError, match="ANTHROPIC_API_KEY"):
                await client.prepare()

    run(main)


def test_the_endpoint_refuses_what_the_real_one_refuses() -> None:
    async def main() -> None:
        async with (
            open_fake_api() as api,
            httpx.AsyncClient(base_url=api.base_url, trust_env=False, timeout=30) as client,
        ):
            headers = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
            for query, problem in [
                ("limit=0", "limit"),
                ("limit=1001", "limit"),
                ("page=2", "page"),
                ("ids=a&page=page_1", "ids"),
            ]:
                answer = await client.get(f"/v1/files?{query}", headers=headers)
                assert (answer.status_code, problem in answer.text) == (400, True)
            assert (await client.get("/v1/files", headers={"x-api-key": "k"})).status_code == 400
            assert (await client.get("/v1/files", headers={"anthropic-version": "2026-10-21"})).status_code == 401
            betas = await client.get("/v1/files", headers={**headers, "anthropic-beta": "files-api-2025-04-14,made-up"})
            assert "Unexpected value(s) `made-up`" in betas.text
            assert (await client.patch("/v1/files/x", headers=headers)).status_code == 404
            assert (await client.post("/v1/files", headers=headers, content=b"x")).status_code == 400
            named = await client.post("/v1/files", headers=headers, files={"file": ("a?.txt", b"x")})
            assert named.status_code == 400

    run(main)
