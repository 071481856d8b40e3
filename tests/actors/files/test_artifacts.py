"""Artifacts: what references may lead to, what is fetched and what is refused, and with which code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from https_kit import HOST, HttpsServer, Names, https_server, plain
from skill_actors.files.artifacts import (
    Artifact,
    ArtifactError,
    ArtifactLimits,
    Artifacts,
    FetchRules,
    artifacts_of,
    artifacts_prompt,
    references_in,
    with_paths,
)
from skill_actors.files.artifacts.addresses import is_blocked_host, why_not_public
from skill_actors.files.artifacts.errors import CODES
from skill_actors.files.artifacts.fetching import fetch
from skill_actors.files.artifacts.uris import parse_uri
from support import run, run_virtual

Send = Callable[[bytes], Awaitable[None]]


async def refused(call: Awaitable[Any]) -> ArtifactError:
    with pytest.raises(ArtifactError) as found:
        await call
    return found.value


# Addresses and names


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2001:0:1::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:808:808::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "localhost",
        "",
    ],
)
def test_no_address_that_leads_inside_is_public(address: str) -> None:
    assert why_not_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001::1"])
def test_addresses_of_the_internet_are(address: str) -> None:
    assert why_not_public(address) == ""


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost", "metadata.google.internal", "x.local"])
def test_hosts_of_the_inside_are_blocked_by_name(host: str) -> None:
    assert is_blocked_host(host)
    assert not is_blocked_host("local.example.com")


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("http://example.com/x", "artifact_blocked"),
        ("ftp://example.com/x", "artifact_blocked"),
        ("gopher://example.com/", "artifact_blocked"),
        ("data://text", "artifact_blocked"),
        ("plain", "artifact_invalid"),
        ("https://", "artifact_invalid"),
        ("https://user:secret@example.com/", "artifact_invalid"),
        ("https://example.com\\@evil/", "artifact_invalid"),
        ("https://example.com:99999/", "artifact_invalid"),
        ("https://exa mple.com/", "artifact_invalid"),
        ("https://example.com/\r\nHost: x", "artifact_invalid"),
        ("https://" + "a" * 3000, "artifact_invalid"),
        ("file:///etc/passwd", "artifact_invalid"),
        ("file://../x", "artifact_invalid"),
        ("file://a/b", "artifact_invalid"),
        ("file://%2e%2e", "artifact_invalid"),
        ("file://localhost/etc/passwd", "artifact_invalid"),
        ("skill://tides", "artifact_invalid"),
        ("skill://tides/scripts/run.py", "artifact_invalid"),
        ("skill://tides/assets/../SKILL.md", "artifact_invalid"),
        ("skill://tides/assets/%2e%2e/SKILL.md", "artifact_invalid"),
        ("skill://tides/assets//x", "artifact_invalid"),
        ("skill://tides/assets/a%00b", "artifact_invalid"),
        ("skill:///assets/x", "artifact_invalid"),
        ("skill://tides/assets/%ff", "artifact_invalid"),
        ("https://.example.com/", "artifact_invalid"),
        ("https://ex<>ample.com/", "artifact_invalid"),
        ("https://" + "a" * 300 + ".com/", "artifact_invalid"),
        ("https://[fe80::1%25eth0]/", "artifact_invalid"),
        ("https://[::1/", "artifact_invalid"),
    ],
)
def test_references_that_lead_elsewhere_are_refused(uri: str, code: str) -> None:
    with pytest.raises(ArtifactError) as found:
        parse_uri(uri)
    assert found.value.code == code
    assert found.value.to_refusal().details["artifact_error"] == code


def test_good_references_are_taken_apart() -> None:
    assert (parse_uri("file://notes.txt").kind, parse_uri("file://notes.txt").name) == ("file", "notes.txt")
    skill = parse_uri("skill://tides/assets/a/b%20c.csv")
    assert (skill.kind, skill.name, skill.path) == ("skill", "tides", "assets/a/b c.csv")
    assert parse_uri("https://example.com:443/x?y").name == "example.com"
    assert parse_uri("https://[2606:4700::1111]/").name == "2606:4700::1111"


def test_a_host_is_judged_under_the_name_that_is_asked_for() -> None:
    assert parse_uri("https://München.example/").name == "xn--mnchen-3ya.example"
    dotted = parse_uri("https://localhost\u3002/").name  # a dot to the DNS, though it is none in ASCII
    assert is_blocked_host(dotted)


# Fetching


async def hello(path: str, send: Send) -> None:
    await send(plain(b"hello", "text/csv; charset=utf-8"))


def with_server(folder: Path, answer: Callable[[str, Send], Awaitable[None]], main: Callable[..., Any]) -> None:
    async def program() -> None:
        async with https_server(folder, answer) as server:
            await main(server)

    run(program)


def test_a_url_is_fetched_from_the_address_that_was_judged_under_its_own_name(tmp_path: Path) -> None:
    async def main(server: HttpsServer) -> None:
        names = Names()
        got = await fetch(server.url("/a?q=1"), server.rules(), resolver=names)
        assert (got.content, got.content_type) == (b"hello", "text/csv")
        assert names.asked == [HOST]
        assert f"host: {HOST}:{server.port}" in server.requests[0].lower()

    with_server(tmp_path, hello, main)


def test_a_proxy_of_the_environment_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(server: HttpsServer) -> None:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert (await fetch(server.url(), server.rules(), resolver=Names())).content == b"hello"

    with_server(tmp_path, hello, main)


def test_a_certificate_of_somebody_else_is_refused(tmp_path: Path) -> None:
    async def main(server: HttpsServer) -> None:
        error = await refused(fetch(server.url(host="wrong.example.com"), server.rules(), resolver=Names()))
        assert error.code == "artifact_unreachable"
        error = await refused(fetch(server.url(), server.rules(ca_file=None), resolver=Names()))
        assert error.code == "artifact_unreachable"
        assert server.requests == []

    with_server(tmp_path, hello, main)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.7", "::1", "::ffff:169.254.169.254", "64:ff9b::a00:1"])
def test_a_name_that_leads_inside_is_refused_before_anybody_is_asked(tmp_path: Path, address: str) -> None:
    async def main(server: HttpsServer) -> None:
        names = Names({HOST: [[address]]})
        error = await refused(fetch(f"https://{HOST}/", server.rules(), resolver=names))
        assert error.code == "artifact_blocked"
        assert server.requests == []

    with_server(tmp_path, hello, main)


def test_one_address_inside_among_good_ones_is_enough_to_refuse() -> None:
    async def main() -> None:
        names = Names({"mixed.example.com": [["8.8.8.8", "127.0.0.1"]]})
        error = await refused(fetch("https://mixed.example.com/", resolver=names))
        assert error.code == "artifact_blocked"

    run(main)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://localhost/",
    ],
)
def test_no_notation_of_the_loopback_gets_through_the_systems_resolver(url: str) -> None:
    async def main() -> None:
        assert (await refused(fetch(url))).code == "artifact_blocked"

    run(main)


def test_other_ports_are_not_asked() -> None:
    async def main() -> None:
        error = await refused(fetch("https://example.com:22/", resolver=Names({"example.com": [["8.8.8.8"]]})))
        assert error.code == "artifact_blocked"

    run(main)


def test_a_dns_that_changes_its_answer_changes_nothing(tmp_path: Path) -> None:
    """The address that was judged is the one that is connected to; there is no second look before the connection."""

    async def main(server: HttpsServer) -> None:
        names = Names({HOST: [["127.0.0.1"], ["10.0.0.1"]]})
        assert (await fetch(server.url(), server.rules(), resolver=names)).content == b"hello"
        assert names.asked == [HOST]
        error = await refused(fetch(server.url(), server.rules(), resolver=names))
        assert error.code == "artifact_blocked"
        assert len(server.requests) == 1

    with_server(tmp_path, hello, main)


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("https://inside.example.com/", "artifact_blocked"),
        ("https://127.0.0.2/", "artifact_blocked"),
        ("https://localhost/", "artifact_blocked"),
        ("http://files.example.com/", "artifact_blocked"),
        ("file:///etc/passwd", "artifact_invalid"),
        ("//169.254.169.254/latest", "artifact_blocked"),
        ("https://user@files.example.com/", "artifact_invalid"),
        ("https://[half-an-address/", "artifact_invalid"),
    ],
)
def test_a_redirect_is_judged_as_a_new_request(tmp_path: Path, location: str, code: str) -> None:
    async def answer(path: str, send: Send) -> None:
        await send(plain(b"", status="302 Found", location=location))

    async def main(server: HttpsServer) -> None:
        names = Names(
            {
                "inside.example.com": [["192.168.0.1"]],
                "127.0.0.2": [["127.0.0.2"]],
                "169.254.169.254": [["169.254.169.254"]],
            }
        )
        error = await refused(fetch(server.url(), server.rules(), resolver=names))
        assert error.code == code
        assert len(server.requests) == 1

    with_server(tmp_path, answer, main)


def test_redirects_on_the_same_side_are_followed_but_not_for_ever(tmp_path: Path) -> None:
    async def answer(path: str, send: Send) -> None:
        count = int(path.removeprefix("/"))
        await send(plain(b"end") if count == 0 else plain(b"", status="307 Again", location=f"/{count - 1}"))

    async def main(server: HttpsServer) -> None:
        assert (await fetch(server.url("/5"), server.rules(), resolver=Names())).content == b"end"
        error = await refused(fetch(server.url("/6"), server.rules(), resolver=Names()))
        assert error.code == "artifact_unreachable"

    with_server(tmp_path, answer, main)


def test_500_megabytes_are_refused_by_their_length_and_where_none_is_said_by_what_comes(tmp_path: Path) -> None:
    sent = 0

    async def answer(path: str, send: Send) -> None:
        nonlocal sent
        if path == "/said":
            await send(b"HTTP/1.1 200 OK\r\ncontent-length: 524288000\r\n\r\n")
            return
        await send(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(500):
            await send(bytes(1 << 20))
            sent += 1 << 20

    async def main(server: HttpsServer) -> None:
        for path in ("/said", "/unsaid"):
            error = await refused(fetch(server.url(path), server.rules(max_bytes=10 << 20), resolver=Names()))
            assert error.code == "artifact_too_large"
        assert sent < 40 << 20

    with_server(tmp_path, answer, main)


def test_a_server_that_drips_is_cut_off_by_the_deadline_of_the_whole(tmp_path: Path) -> None:
    async def answer(path: str, send: Send) -> None:
        await send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await send(b"x")
            await trio.sleep(0.05)

    async def main(server: HttpsServer) -> None:
        began = trio.current_time()
        error = await refused(fetch(server.url(), server.rules(timeout_s=0.5), resolver=Names()))
        assert (error.code, error.retryable) == ("artifact_timeout", True)
        assert trio.current_time() - began < 5

    with_server(tmp_path, answer, main)


def test_a_resolver_that_hangs_is_cut_off_too() -> None:
    async def never(host: str, port: int) -> list[str]:
        await trio.sleep_forever()
        raise AssertionError

    async def main() -> None:
        assert (await refused(fetch("https://example.com/", resolver=never))).code == "artifact_timeout"

    run_virtual(main)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (plain(b"", status="404 Not Found"), "artifact_not_found"),
        (plain(b"", status="500 Oops"), "artifact_unreachable"),
        (plain(b"zip", content_encoding="gzip"), "artifact_unreachable"),
        (b"not http at all\r\n\r\n", "artifact_unreachable"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "artifact_unreachable"),
        (b"", "artifact_unreachable"),
    ],
)
def test_bad_answers_have_their_codes(tmp_path: Path, raw: bytes, code: str) -> None:
    async def answer(path: str, send: Send) -> None:
        if raw:
            await send(raw)

    async def main(server: HttpsServer) -> None:
        assert (await refused(fetch(server.url(), server.rules(), resolver=Names()))).code == code

    with_server(tmp_path, answer, main)


# The registry


def skill(tmp_path: Path) -> Callable[[str], Path | None]:
    root = tmp_path / "tides"
    (root / "assets").mkdir(parents=True, exist_ok=True)
    (root / "assets/table.csv").write_text("h,l\n")
    (root / "SKILL.md").write_text("secret")
    return lambda name: root if name == "tides" else None


def test_assets_inline_content_and_urls_are_had_by_name(tmp_path: Path) -> None:
    async def main(server: HttpsServer) -> None:
        artifacts = Artifacts(skill(tmp_path), ArtifactLimits(fetching=server.rules(), cache_s=1000), resolver=Names())
        setting = [
            {"name": "table", "uri": "skill://tides/assets/table.csv"},
            {"name": "note.md", "content": "größe"},
            {"name": "far", "uri": server.url("/x")},
        ]
        for artifact in artifacts_of(setting):
            artifacts.add(artifact)
        assert (await artifacts.content("file://table")).data == b"h,l\n"
        note = await artifacts.content("file://note.md")
        assert (note.data.decode(), note.content_type) == ("größe", "text/markdown")
        for _ in range(3):
            assert (await artifacts.content("file://far")).data == b"hello"
        assert len(server.requests) == 1
        assert (await refused(artifacts.content("file://none"))).code == "artifact_not_found"
        assert (await refused(artifacts.content("skill://other/assets/x"))).code == "artifact_not_found"
        assert (await refused(artifacts.content("skill://tides/assets/none"))).code == "artifact_not_found"

    with_server(tmp_path, hello, main)


def test_what_was_fetched_is_fetched_again_after_its_time(tmp_path: Path) -> None:
    async def main(server: HttpsServer) -> None:
        artifacts = Artifacts(skill(tmp_path), ArtifactLimits(fetching=server.rules(), cache_s=0.0), resolver=Names())
        for _ in range(2):
            await artifacts.content(server.url())
        assert len(server.requests) == 2

    with_server(tmp_path, hello, main)


def test_a_url_that_is_given_again_is_fetched_again(tmp_path: Path) -> None:
    async def main(server: HttpsServer) -> None:
        artifacts = Artifacts(skill(tmp_path), ArtifactLimits(fetching=server.rules()), resolver=Names())
        given = artifacts_of([{"name": "far", "uri": server.url("/x")}])
        for _ in range(2):
            artifacts.add(*given)
            for _ in range(2):
                await artifacts.content("file://far")
        assert len(server.requests) == 2

    with_server(tmp_path, hello, main)


def test_what_is_kept_of_urls_is_bounded_and_the_oldest_goes_first(tmp_path: Path) -> None:
    async def main(server: HttpsServer) -> None:
        limits = ArtifactLimits(fetching=server.rules(), cache_bytes=2 * len(b"hello"))
        artifacts = Artifacts(skill(tmp_path), limits, resolver=Names())
        for path in ("/1", "/2", "/3", "/2", "/3", "/1"):
            await artifacts.content(server.url(path))
        asked = [request.partition(" ")[2].partition(" ")[0] for request in server.requests]
        assert asked == ["/1", "/2", "/3", "/1"]

    with_server(tmp_path, hello, main)


def test_what_was_registered_expires(tmp_path: Path) -> None:
    async def main() -> None:
        artifacts = Artifacts(skill(tmp_path))
        artifacts.add(Artifact(name="a", content=b"1"))
        await trio.sleep(3599)
        assert (await artifacts.content("file://a")).data == b"1"
        await trio.sleep(2)
        assert (await refused(artifacts.content("file://a"))).code == "artifact_expired"

    run_virtual(main)


def test_assets_are_not_read_through_links_and_not_beyond_their_size(tmp_path: Path) -> None:
    async def main() -> None:
        find = skill(tmp_path)
        (tmp_path / "tides/assets/link").symlink_to("../SKILL.md")
        with (tmp_path / "tides/assets/large").open("wb") as file:
            file.truncate(500 << 20)
        artifacts = Artifacts(find)
        assert (await refused(artifacts.content("skill://tides/assets/link"))).code == "artifact_not_found"
        assert (await refused(artifacts.content("skill://tides/assets/large"))).code == "artifact_too_large"

    run(main)


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ([{"name": "../x", "content": ""}], "artifact_invalid"),
        ([{"name": "", "content": ""}], "artifact_invalid"),
        ([{"name": "a"}], "artifact_invalid"),
        ([{"name": "a", "uri": "https://x.example.com/", "content": "b"}], "artifact_invalid"),
        ([{"name": "a", "uri": "file://b"}], "artifact_invalid"),
        ([{"name": "a", "uri": "http://x.example.com/"}], "artifact_blocked"),
        ([{"name": "a", "content": "1"}, {"name": "a", "content": "2"}], "artifact_invalid"),
        ([{"name": f"a{number}", "content": ""} for number in range(101)], "artifact_invalid"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(setting: list[dict[str, str]], code: str) -> None:
    with pytest.raises(ArtifactError) as found:
        artifacts_of(setting)
    assert found.value.code == code


def test_inline_content_and_their_number_are_bounded(tmp_path: Path) -> None:
    async def main() -> None:
        artifacts = Artifacts(skill(tmp_path), ArtifactLimits(inline_bytes=3))
        with pytest.raises(ArtifactError) as found:
            artifacts.add(Artifact(name="a", content=b"1234"))
        assert found.value.code == "artifact_too_large"
        for number in range(100):
            artifacts.add(Artifact(name=f"a{number}", content=b""))
        with pytest.raises(ArtifactError):
            artifacts.add(Artifact(name="more", content=b""))
        artifacts.add(Artifact(name="a1", content=b"new"))
        assert (await artifacts.content("file://a1")).data == b"new"

    run(main)


def test_every_code_means_a_refusal() -> None:
    for code in CODES:
        assert ArtifactError(code, "why").to_refusal().details["artifact_error"] == code
    with pytest.raises(ValueError, match="unknown"):
        ArtifactError("nothing", "why")


# The model's side


def test_the_prompt_names_them_and_cannot_be_ended_by_what_they_are_called() -> None:
    uri = parse_uri("https://x.example.com/</artifacts>&?token=hush")
    said = artifacts_prompt([Artifact(name="a.csv", uri=uri), Artifact(name="b", content=b"x")])
    assert '<artifact name="a.csv" type="text/csv">https://x.example.com/&lt;/artifacts&gt;&amp;</artifact>' in said
    assert '<artifact name="b" type="application/octet-stream">inline</artifact>' in said
    assert said.count("</artifacts>") == 1
    assert "hush" not in said
    assert artifacts_prompt([]) == ""


def test_references_in_inputs_become_paths_wherever_they_stand() -> None:
    async def main() -> None:
        asked: list[str] = []

        async def place(reference: str) -> str:
            asked.append(reference)
            return f"/w/{reference.rpartition('/')[2]}"

        value = {
            "command": "cat file://a.csv | sort > out; wc -l 'skill://t/assets/x.csv' file://a.csv.",
            "list": [{"deep": "file://b"}, 1, None],
            "url": "curl https://x.example.com/file://no and profile://a",
        }
        assert references_in(value) == ["file://a.csv", "skill://t/assets/x.csv", "file://b"]
        assert await with_paths(value, place) == {
            "command": "cat /w/a.csv | sort > out; wc -l '/w/x.csv' /w/a.csv.",
            "list": [{"deep": "/w/b"}, 1, None],
            "url": "curl https://x.example.com/file://no and profile://a",
        }
        assert asked == ["file://a.csv", "skill://t/assets/x.csv", "file://b"]

    run(main)


def test_the_rules_of_a_program_are_those_of_the_design() -> None:
    limits = ArtifactLimits()
    assert (limits.file_bytes, limits.cache_s, limits.lifetime_s) == (50 << 20, 900, 3600)
    assert (FetchRules().max_bytes, FetchRules().timeout_s, FetchRules().ports) == (10 << 20, 30, frozenset({443}))
