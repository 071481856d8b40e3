"""Files over HTTP: ranges, tags, names that are safe to save under, bodies larger than any other may be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from http_kit import Served, serving
from skilld.http import ServerLimits
from skilld.http.file_answer import disposition, range_of
from support import run

SESSION = "ses_aaaaaaaaaaaaaaaaaaaaaaaaaa"
DIGITS = b"0123456789"


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (None, None),
        ("bytes=0-0", (0, 1)),
        ("bytes=2-5", (2, 6)),
        ("bytes=8-", (8, 10)),
        ("bytes=8-100", (8, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-100", (0, 10)),
        ("bytes=5-2", None),
        ("bytes=0-1,3-4", None),
        ("bytes=-", None),
        ("lines=1-2", None),
        ("bytes=x-1", None),
        ("bytes=1-99999999999999999999", None),
    ],
)
def test_one_range_of_bytes_is_understood_and_anything_else_is_the_whole(
    header: str | None, found: tuple[int, int] | None
) -> None:
    assert range_of(header, 10) == found


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_a_range_beyond_the_end_is_none(header: str) -> None:
    with pytest.raises(ValueError, match="of 10"):
        range_of(header, 10)


def test_no_range_of_an_empty_file_can_be_had() -> None:
    with pytest.raises(ValueError, match="of 0"):
        range_of("bytes=0-", 0)


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("a/b/report.xlsx", "attachment; filename=\"report.xlsx\"; filename*=UTF-8''report.xlsx"),
        ('x"; filename="y', "attachment; filename=\"x__ filename__y\"; filename*=UTF-8''x%22%3B%20filename%3D%22y"),
        ("a\r\nSet-Cookie: x", "attachment; filename=\"a__Set-Cookie_ x\"; filename*=UTF-8''a%0D%0ASet-Cookie%3A%20x"),
        ("größe.txt", "attachment; filename=\"gr__e.txt\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.txt"),
    ],
)
def test_the_name_to_save_under_cannot_end_its_header(path: str, header: str) -> None:
    assert disposition(path) == header


async def put(served: Served, name: str, content: bytes) -> str:
    answer = await served.http.put(f"/v1/sessions/{SESSION}/files/{name}", content=content)
    assert answer.status_code == 201, answer.text
    return f"/v1/sessions/{SESSION}/files/{name}"


def test_ranges_tags_and_heads_of_a_real_answer(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            path = await put(served, "d.html", DIGITS)
            whole = await served.http.get(path)
            tag = whole.headers["etag"]
            assert (whole.status_code, whole.content) == (200, DIGITS)
            assert whole.headers["content-type"].startswith("text/html")
            assert whole.headers["x-content-type-options"] == "nosniff"
            assert whole.headers["content-security-policy"] == "sandbox"
            part = await served.http.get(path, headers={"Range": "bytes=2-4"})
            assert (part.status_code, part.content) == (206, b"234")
            assert part.headers["content-range"] == "bytes 2-4/10"
            beyond = await served.http.get(path, headers={"Range": "bytes=10-"})
            assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */10")
            fresh = await served.http.get(path, headers={"If-None-Match": f'W/"x", {tag}'})
            assert (fresh.status_code, fresh.content) == (304, b"")
            head = await served.http.head(path)
            assert (head.headers["content-length"], head.content) == ("10", b"")
            resumed = await served.http.get(path, headers={"Range": "bytes=5-", "If-Range": tag})
            assert resumed.content == b"56789"
            await served.http.put(path, content=b"other text")
            changed = await served.http.get(path, headers={"Range": "bytes=5-", "If-Range": tag})
            assert (changed.status_code, changed.content) == (200, b"other text")

    run(main)


def test_a_file_may_be_larger_than_any_other_body_and_a_body_elsewhere_may_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, limits=ServerLimits(max_body_bytes=1000)) as served:
            body = DIGITS * 100_000
            path = await put(served, "large", body)
            assert (await served.http.get(path)).content == body
            refused = await served.http.post("/v1/sessions", content=b"{" + b" " * 2000 + b"}")
            assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_large")

            async def pieces() -> AsyncIterator[bytes]:
                for _ in range(100):
                    yield DIGITS

            chunked = await served.http.put(f"/v1/sessions/{SESSION}/files/chunked", content=pieces())
            assert chunked.json()["size"] == 1000

    run(main)


def test_an_upload_that_stops_coming_is_given_up_after_the_time_for_a_part(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, limits=ServerLimits(body_timeout_s=0.2)) as served:
            head = f"PUT /v1/sessions/{SESSION}/files/slow HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n".encode()
            answer = await served.raw(head + b"some")
            assert b"400" in answer.split(b"\r\n")[0]
            assert list((tmp_path / "files").iterdir()) == []

    run(main)


def test_a_compressed_upload_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            path = f"/v1/sessions/{SESSION}/files/x"
            answer = await served.http.put(path, content=b"x", headers={"content-encoding": "gzip"})
            assert answer.status_code == 400

    run(main)


def test_another_condition_for_an_upload_than_a_new_file_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            path = f"/v1/sessions/{SESSION}/files/x"
            answer = await served.http.put(path, content=b"x", headers={"if-none-match": '"tag"'})
            assert answer.status_code == 400

    run(main)


@pytest.mark.parametrize("condition", ["if-match", "if-unmodified-since"])
def test_a_condition_that_would_not_be_looked_at_is_refused(tmp_path: Path, condition: str) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            path = await put(served, "x", b"old")
            for method in ("PUT", "DELETE"):
                answer = await served.http.request(method, path, headers={condition: '"of another one"'})
                assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")
            assert (await served.http.get(path)).content == b"old"

    run(main)


@pytest.mark.parametrize("name", ["a%0Ab", "a%0A", "a%0D%0Ab", "%0A/b", "a%E2%80%A8b"])
def test_a_name_with_line_breaks_is_a_name(tmp_path: Path, name: str) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            path = await put(served, name, b"1")
            assert (await served.http.get(path)).content == b"1"
            assert (await served.http.delete(path)).status_code == 204
            assert (await served.http.get(path)).status_code == 404

    run(main)
