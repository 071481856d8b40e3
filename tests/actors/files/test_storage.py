"""Storages against a real folder and a real S3-compatible server on the loopback: the same contract for both."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from s3_kit import BUCKET, bucket_server, failing, keys_demanded, options, raw_client
from skill_actors.errors import Refused
from skill_actors.files.content import OpenFile, checksum_of
from skill_actors.files.ref import FileRef
from skill_actors.files.snapshot import scan
from skill_actors.files.storage import LocalStorage, S3Storage, Storage, StorageError, tigris
from skill_actors.files.storage.options import TIGRIS_ENDPOINT, Credentials, S3Options
from support import run

ODD = ["größe/ä ö.txt", "a b+c%20d&e=f.txt", "日本/語.md", "#?;:@", "tab\tname", "quo'te\".txt", "<x>&amp;.xml"]
Make = Callable[[str], Storage]

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with bucket_server() as url:
        yield url


@pytest.fixture(params=["local", "s3"])
def make(request: pytest.FixtureRequest, url: str, tmp_path: Path) -> Make:
    def made(name: str) -> Storage:
        if request.param == "local":
            return LocalStorage(tmp_path / "remote")
        return S3Storage(options(url, tmp_path / name))

    return made


@pytest.fixture
def session() -> str:
    return f"ses_{next(_numbers)}"


def filled(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return bytes(answer.read())


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_written_found_read_listed_and_deleted(make: Make, session: str) -> None:
    async def main() -> None:
        storage = make("a")
        await storage.init(session)
        ref = await storage.write(session, "out/r.csv", b"a,b\n")
        assert (ref.path, ref.size, ref.content_type, ref.source) == ("out/r.csv", 4, "text/csv", storage.name)
        assert ref.checksum == f"sha256:{hashlib.sha256(b'a,b' + bytes([10])).hexdigest()}"
        assert ref.created_at is not None
        assert ref.storage_url is not None
        assert ref.storage_url.endswith(f"{session}/out/r.csv")
        assert await storage.exists(session, "out/r.csv")
        assert not await storage.exists(session, "out")
        assert await storage.read(session, "out/r.csv") == b"a,b\n"
        assert [item.path for item in await storage.list(session)] == ["out/r.csv"]
        assert await storage.list("ses_other") == []
        await storage.delete(session, "out/r.csv")
        await storage.delete(session, "out/r.csv")
        assert await storage.list(session) == []
        with pytest.raises(StorageError) as missing:
            await storage.read(session, "out/r.csv")
        assert (missing.value.code, missing.value.retryable) == ("file_not_found", False)
        await storage.aclose()

    run(main)


def test_odd_names_survive_the_way_there_and_back(make: Make, session: str, tmp_path: Path) -> None:
    async def main() -> None:
        storage = make("a")
        here = filled(tmp_path / "here")
        for name in ODD:
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            (here / name).write_text(name)
        report = await storage.sync_to_remote(session, here)
        assert (sorted(report.done), report.failed) == (sorted(ODD), {})
        back = await make("b").sync_from_remote(session, tmp_path / "back")
        assert back.failed == {}
        assert tree(tmp_path / "back") == tree(here)

    run(main)


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "a//b", "", "a\0b", ".", "\udcff"])
def test_no_path_leads_out_of_a_session(make: Make, session: str, path: str) -> None:
    async def main() -> None:
        storage = make("a")
        calls: list[Any] = [
            lambda: storage.write(session, path, b"x"),
            lambda: storage.read(session, path),
            lambda: storage.exists(session, path),
            lambda: storage.delete(session, path),
        ]
        for call in calls:
            with pytest.raises(Refused) as refused:
                await call()
            assert refused.value.code == "bad_request"

    run(main)


@pytest.mark.parametrize("session", ["../ses", "a/b", "", ".", "x" * 200])
def test_no_session_id_leads_to_others(make: Make, session: str) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="id of a session"):
            await make("a").write(session, "x", b"x")

    run(main)


def test_a_sync_sends_what_is_new_or_changed_and_removes_what_is_gone(make: Make, session: str, tmp_path: Path) -> None:
    async def main() -> None:
        synced: list[FileRef] = []

        async def on_synced(_session: str, ref: FileRef) -> None:
            synced.append(ref)

        storage = make("a")
        here = filled(tmp_path / "here", a=b"1", sub__b=b"22")
        first = await storage.sync_to_remote(session, here, on_synced=on_synced)
        assert (list(first.done), first.bytes) == (["a", "sub/b"], 3)
        assert sorted(ref.path for ref in synced) == ["a", "sub/b"]
        again = await storage.sync_to_remote(session, here, on_synced=on_synced)
        assert (list(again.done), again.unchanged) == ([], 2)
        another = await make("c").sync_to_remote(session, here)  # one that remembers nothing
        assert (list(another.done), another.unchanged) == ([], 2)
        filled(here, a=b"9")
        (here / "sub/b").unlink()
        third = await storage.sync_to_remote(session, here)
        assert list(third.done) == ["a"]
        assert [ref.path for ref in await storage.list(session)] == ["a"]

    run(main)


def test_another_machine_resumes_the_files_by_the_id_of_the_session(make: Make, session: str, tmp_path: Path) -> None:
    async def main() -> None:
        here = filled(tmp_path / "here", a=b"1", deep__er__b=os.urandom(300_000))
        await make("one").sync_to_remote(session, here)
        other = make("two")
        there = filled(tmp_path / "there", own=b"stays")
        report = await other.sync_from_remote(session, there)
        assert (sorted(report.done), report.failed) == (["a", "deep/er/b"], {})
        assert tree(there) == {**tree(here), "own": b"stays"}
        again = await other.sync_from_remote(session, there)
        assert (list(again.done), again.unchanged) == ([], 2)

    run(main)


def test_files_beyond_the_limit_are_reported_and_the_others_come(make: Make, session: str, tmp_path: Path) -> None:
    async def main() -> None:
        here = filled(tmp_path / "here", a=b"1" * 10, b=b"2" * 100, c=b"3" * 10)
        await make("one").sync_to_remote(session, here)
        report = await make("two").sync_from_remote(session, tmp_path / "there", max_bytes=50)
        assert list(report.failed) == ["b"]
        assert sorted(tree(tmp_path / "there")) == ["a", "c"]

    run(main)


def test_a_clean_up_here_keeps_what_is_there_and_both_may_be_repeated(make: Make, session: str, tmp_path: Path) -> None:
    async def main() -> None:
        storage = make("a")
        await storage.sync_to_remote(session, filled(tmp_path / "here", a=b"1"))
        await storage.cleanup(session)
        await storage.cleanup(session)
        assert [ref.path for ref in await storage.list(session)] == ["a"]
        gone = await storage.delete_remote(session)
        assert (list(gone.done), gone.failed) == (["a"], {})
        assert list((await storage.delete_remote(session)).done) == []
        assert await storage.list(session) == []

    run(main)


def test_a_folder_that_is_not_there_takes_nothing_with_it(make: Make, session: str, tmp_path: Path) -> None:
    async def main() -> None:
        here = filled(tmp_path / "here", a=b"1", b=b"2")
        storage = make("a")
        report = await storage.sync_to_remote(session, here)
        assert sorted(report.stored) == ["a", "b"]
        assert (await storage.sync_to_remote(session, tmp_path / "none")).is_whole
        assert len(await storage.list(session)) == 2
        (here / "a").unlink()
        (here / "b").unlink()
        await storage.sync_to_remote(session, here, known=["b"])
        assert [ref.path for ref in await storage.list(session)] == ["a"]

    run(main)


def test_a_file_that_goes_during_the_sync_has_not_failed(
    make: Make, session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        here = filled(tmp_path / "here", a=b"1", gone=b"2")
        storage = make("a")
        seen = scan(here)
        (here / "gone").unlink()
        for module in ("local", "s3"):  # as they would have seen it a moment before
            looked = f"skill_actors.files.storage.{module}.scan"
            monkeypatch.setattr(looked, lambda folder: seen if folder == here else scan(folder))
        report = await storage.sync_to_remote(session, here)
        assert (list(report.done), report.is_whole) == (["a"], True)

    run(main)


def test_a_file_that_is_written_while_it_is_sent_is_not_stored_under_another_ones_checksum(
    url: str, tmp_path: Path, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        for size in (1000, 11 << 20):  # in one request, and in parts
            here = filled(tmp_path / f"here{size}", growing=b"1" * size, still=b"2")
            summed = checksum_of

            def sum_and_write(file: OpenFile, here: Path = here, summed: Callable[..., str] = summed) -> str:
                checksum = summed(file)
                if file.mark.size > 1:
                    with open(here / "growing", "r+b") as writer:
                        writer.write(b"changed")
                return checksum

            storage = S3Storage(options(url, tmp_path, part_bytes=5 << 20, attempts=1))
            with monkeypatch.context() as patch:
                patch.setattr("skill_actors.files.storage.s3.checksum_of", sum_and_write)
                report = await storage.sync_to_remote(session, here, remove=False)
            assert (list(report.done), report.retryable, list(report.stored)) == (["still"], True, ["still"])
            assert "was written while" in report.failed["growing"]
            assert raw_client(url).list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []
            assert not await storage.exists(session, "growing")
            assert (await storage.sync_to_remote(session, here)).is_whole
            assert (await storage.read(session, "growing")).startswith(b"changed1")
            await storage.delete_remote(session)
            await storage.aclose()

    run(main)


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [(404, "NoSuchKey", False), (400, "RequestTimeout", True), (403, "AccessDenied", False), (503, "SlowDown", True)],
)
def test_what_a_server_answers_to_an_upload_is_no_success(
    url: str, tmp_path: Path, session: str, status: int, code: str, retryable: bool
) -> None:
    async def main() -> None:
        with failing(url, lambda method, path: status if method == "PUT" else None, code) as through:
            storage = S3Storage(options(through, tmp_path, attempts=1))
            report = await storage.sync_to_remote(session, filled(tmp_path / "here", a=b"1"))
            await storage.aclose()
        assert (list(report.failed), report.retryable, list(report.stored)) == (["a"], retryable, [])

    run(main)


def test_names_that_no_list_can_hold_are_deleted_too(url: str, tmp_path: Path, session: str) -> None:
    async def main() -> None:
        here = filled(tmp_path / "here", plain=b"1", **{"a\x01b": b"2", "c\x0bd": b"3"})
        storage = S3Storage(options(url, tmp_path, attempts=1))
        assert (await storage.sync_to_remote(session, here)).is_whole
        assert list((await storage.delete_remote(session)).done) == ["a\x01b", "c\x0bd", "plain"]
        assert list(await storage.list(session)) == []
        await storage.aclose()

    run(main)


def test_parts_of_an_upload_that_was_killed_are_removed_by_the_next_process(
    url: str, tmp_path: Path, session: str
) -> None:
    async def main() -> None:
        client, other = raw_client(url), f"sessions/{session}x/large"
        for key in (f"sessions/{session}/large", other):
            client.create_multipart_upload(Bucket=BUCKET, Key=key)
        storage = S3Storage(options(url, tmp_path))
        await storage.sync_to_remote(session, filled(tmp_path / "here", a=b"1"))
        await storage.aclose()
        left = client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        assert [upload["Key"] for upload in left] == [other]
        client.abort_multipart_upload(Bucket=BUCKET, Key=other, UploadId=left[0]["UploadId"])

    run(main)


def test_what_a_killed_process_left_half_copied_goes_after_an_hour(session: str, tmp_path: Path) -> None:
    async def main() -> None:
        storage = LocalStorage(tmp_path / "remote")
        here = filled(tmp_path / "here", a=b"1")
        await storage.sync_to_remote(session, here)
        there = storage.local_path(session)
        (there / ".upload-file-old").write_bytes(b"x")
        (there / ".upload-file-new").write_bytes(b"x")
        os.utime(there / ".upload-file-old", (1, 1))
        await storage.sync_to_remote(session, here)
        assert sorted(tree(there)) == [".upload-file-new", "a"]

    run(main)


def test_a_disk_that_is_full_may_be_tried_again(session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def main() -> None:
        here = filled(tmp_path / "here", a=b"1")
        monkeypatch.setattr("skill_actors.files.content.os.write", full)
        report = await LocalStorage(tmp_path / "remote").sync_to_remote(session, here)
        assert (list(report.failed), report.retryable, list(report.stored)) == (["a"], True, [])

    run(main)


def test_links_and_the_daemons_own_files_are_not_sent(make: Make, session: str, tmp_path: Path) -> None:
    async def main() -> None:
        secret = filled(tmp_path / "elsewhere", secret=b"s")
        here = filled(tmp_path / "here", a=b"1")
        (here / "link").symlink_to(secret / "secret")
        (here / "folder").symlink_to(secret)
        (here / ".skilld").mkdir()
        (here / ".skilld/output").write_text("x")
        report = await make("a").sync_to_remote(session, here)
        assert list(report.done) == ["a"]

    run(main)


def test_more_than_a_page_of_objects_is_listed_and_deleted(url: str, tmp_path: Path, session: str) -> None:
    here = filled(tmp_path / "here", **{f"f{number:04}": b"%d" % number for number in range(1100)})

    async def main() -> None:
        storage = S3Storage(options(url, tmp_path, parallel=16))
        report = await storage.sync_to_remote(session, here)
        assert (len(report.done), report.failed) == (1100, {})
        assert len(await storage.list(session)) == 1100
        gone = await storage.delete_remote(session)
        assert (len(gone.done), gone.failed) == (1100, {})
        assert await storage.list(session) == []
        await storage.aclose()

    run(main)


def test_a_large_file_goes_in_parts_and_comes_back_whole(url: str, tmp_path: Path, session: str) -> None:
    async def main() -> None:
        here = filled(tmp_path / "here", large=os.urandom(20 << 20))
        seen: list[str] = []

        def watch(method: str, path: str) -> None:
            seen.append(f"{method} {path}")

        with failing(url, watch) as through:
            storage = S3Storage(options(through, tmp_path, part_bytes=5 << 20))
            assert list((await storage.sync_to_remote(session, here)).done) == ["large"]
            await storage.aclose()
        assert sum("partNumber=" in line for line in seen) == 4
        other = S3Storage(options(url, tmp_path))
        assert list((await other.sync_from_remote(session, tmp_path / "there")).done) == ["large"]
        assert tree(tmp_path / "there") == tree(here)
        await other.aclose()

    run(main)


def test_failures_of_the_server_are_tried_again_and_pass(url: str, tmp_path: Path, session: str) -> None:
    async def main() -> None:
        failed: set[str] = set()

        def fault(method: str, path: str) -> int | None:
            if method == "PUT" and path not in failed:
                failed.add(path)
                return 500
            return None

        here = filled(tmp_path / "here", a=b"1", b=b"2")
        with failing(url, fault) as through:
            storage = S3Storage(options(through, tmp_path))
            report = await storage.sync_to_remote(session, here)
            await storage.aclose()
        assert (list(report.done), report.failed, len(failed)) == (["a", "b"], {}, 2)

    run(main)


def test_a_file_that_keeps_failing_is_reported_and_the_others_are_sent(url: str, tmp_path: Path, session: str) -> None:
    async def main() -> None:
        here = filled(tmp_path / "here", bad=b"1", good=b"2")
        with failing(url, lambda method, path: 503 if method == "PUT" and path.endswith("/bad") else None) as through:
            storage = S3Storage(options(through, tmp_path, attempts=2))
            report = await storage.sync_to_remote(session, here)
            await storage.aclose()
        assert (list(report.done), list(report.failed), report.retryable) == (["good"], ["bad"], True)

    run(main)


def test_objects_with_names_that_lead_elsewhere_are_reported_and_not_written(
    url: str, tmp_path: Path, session: str
) -> None:
    async def main() -> None:
        storage = S3Storage(options(url, tmp_path))
        await storage.write(session, "good", b"1")
        client = raw_client(url)
        for key in ("a//b", "x/", "/absolute", ".skilld/own"):
            client.put_object(Bucket=BUCKET, Key=f"sessions/{session}/{key}", Body=b"evil")
        client.close()
        report = await storage.sync_from_remote(session, tmp_path / "there")
        assert list(report.done) == ["good"]
        assert set(report.failed) == {"a//b", "x/", "/absolute", ".skilld/own"}
        assert tree(tmp_path / "there") == {"good": b"1"}
        await storage.aclose()

    run(main)


def test_an_object_that_arrives_with_another_content_than_it_was_sent_with_is_not_kept(
    url: str, tmp_path: Path, session: str
) -> None:
    async def main() -> None:
        client = raw_client(url)
        client.put_object(
            Bucket=BUCKET,
            Key=f"sessions/{session}/a",
            Body=b"rotten",
            Metadata={"skilld-sha256": f"sha256:{hashlib.sha256(b'sound').hexdigest()}"},
        )
        client.close()
        storage = S3Storage(options(url, tmp_path))
        report = await storage.sync_from_remote(session, tmp_path / "there")
        assert report.failed == {"a": "a arrived damaged"}
        assert tree(tmp_path / "there") == {}
        await storage.aclose()

    run(main)


def test_a_signed_url_gives_the_file_to_anybody(url: str, tmp_path: Path, session: str) -> None:
    async def main() -> None:
        storage = S3Storage(options(url, tmp_path))
        await storage.write(session, "a b.txt", b"open")
        signed = await storage.presigned_url(session, "a b.txt", expires_s=60)
        assert signed is not None
        assert "X-Amz-Expires=60" in signed
        assert "test-secret" not in signed
        assert await trio.to_thread.run_sync(fetch, signed) == b"open"
        await storage.aclose()

    run(main)


def test_a_bucket_that_is_not_there_and_a_server_that_is_not_there_are_told_apart(
    url: str, tmp_path: Path, session: str
) -> None:
    async def main() -> None:
        absent = S3Storage(options(url, tmp_path, bucket="nothing"))
        with pytest.raises(StorageError) as found:
            await absent.init(session)
        assert (found.value.code, found.value.retryable) == ("storage_init_failed", False)
        await absent.aclose()
        silent = S3Storage(options("http://127.0.0.1:9", tmp_path, attempts=1))
        with pytest.raises(StorageError) as found:
            await silent.init(session)
        assert (found.value.code, found.value.retryable) == ("storage_init_failed", True)
        assert found.value.__cause__ is not None
        await silent.aclose()

    run(main)


def test_wrong_keys_are_refused_without_being_shown(url: str, tmp_path: Path, session: str) -> None:
    async def main() -> None:
        keys = Credentials(access_key_id="AKIAWRONG", secret_access_key="hush-hush", session_token="token-hush")
        storage = S3Storage(options(url, tmp_path, credentials=keys, attempts=1))
        with keys_demanded(), pytest.raises(StorageError) as found:
            await storage.write(session, "a", b"x")
        assert (found.value.code, found.value.retryable) == ("storage_write_failed", False)
        assert "hush" not in f"{found.value} {found.value.details} {keys!r} {storage!r} {found.value.__cause__}"
        await storage.aclose()

    run(main)


def test_tigris_is_described_by_its_environment(tmp_path: Path) -> None:
    environ = {
        "BUCKET_NAME": "b",
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "FLY_VOLUME_PATH": str(tmp_path),
    }
    found = tigris(environ)
    assert (found.bucket, found.endpoint, found.region, found.name) == ("b", TIGRIS_ENDPOINT, "auto", "tigris")
    assert found.cache == tmp_path / "conjure_sessions"
    other = tigris({**environ, "AWS_ENDPOINT_URL_S3": "http://e", "FLY_REGION": "ams"}, bucket="mine")
    assert (other.bucket, other.endpoint, other.region) == ("mine", "http://e", "ams")
    for missing in ("BUCKET_NAME", "AWS_SECRET_ACCESS_KEY", "FLY_VOLUME_PATH"):
        with pytest.raises(ValueError, match="no "):
            tigris({name: value for name, value in environ.items() if name != missing})


def test_keys_are_read_from_text_and_never_shown() -> None:
    keys = Credentials.from_text("# mine\nAWS_ACCESS_KEY_ID = k\nAWS_SECRET_ACCESS_KEY=hush\n")
    assert (keys.access_key_id, keys.secret_access_key, keys.session_token) == ("k", "hush", None)
    assert "hush" not in repr(keys)
    with pytest.raises(ValueError, match="expected lines") as found:
        Credentials.from_text("AWS_SECRET_ACCESS_KEY=hush")
    assert "hush" not in str(found.value)


@pytest.mark.parametrize("wrong", [{"bucket": ""}, {"prefix": "x"}, {"prefix": "/x/"}, {"part_bytes": 1}])
def test_options_that_cannot_work_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r".+"):
        S3Options(**{"bucket": "b", "cache": tmp_path, **wrong})
