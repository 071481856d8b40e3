"""The log-analyzer's scripts, run as processes the way a conversation runs them."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SKILL = Path(__file__).resolve().parents[2] / "skills" / "log-analyzer"
NGINX = '192.0.2.{n} - - [21/Nov/2026:02:13:{n:02d} +0000] "GET /a?q={n} HTTP/1.1" {status} 12 "-" "curl/8"\n'


def script(name: str, *arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run one of the skill's scripts in a clean environment, in UTC."""
    command = [sys.executable, str(SKILL / "scripts" / name), *map(str, arguments)]
    environment = {"PATH": os.environ["PATH"], "TZ": "UTC"}
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60, env=environment)


def report(*arguments: str | Path, stdin: bytes = b"", code: int = 0) -> dict[str, Any]:
    """The JSON report of analyze.py, which must end with exit code `code`."""
    done = script("analyze.py", "--json", *arguments, stdin=stdin)
    assert done.returncode == code, done.stderr.decode()
    value = json.loads(done.stdout)
    assert isinstance(value, dict)
    return value


def parsed(text: str, *arguments: str) -> list[dict[str, Any]]:
    """The records parse_logs.py makes of `text`."""
    done = script("parse_logs.py", *arguments, "-", stdin=text.encode())
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


LINES = [
    ("<11>Nov 21 02:13:00 host app[12]: disk gone", "syslog", "error", "disk gone"),
    ("Nov  1 02:13:00 host kernel: eth0: link up", "syslog", "unknown", "eth0: link up"),
    ("Nov 21 02:13:00 host app: ERROR: no space", "syslog", "error", "ERROR: no space"),
    ("Nov 21 02:13:00 host sshd[1]: Failed password for root", "syslog", "error", "Failed password for root"),
    ("Nov 21 02:13:00 host app: finished, 0 errors", "syslog", "unknown", "finished, 0 errors"),
    ("Nov 21 02:13:00 host dpkg: libgpg-error0 installed", "syslog", "unknown", "libgpg-error0 installed"),
    ("Nov 21 02:13:00 host app: level=warn msg=late", "syslog", "warning", "level=warn msg=late"),
    ('<165>1 2026-11-21T02:13:00.5Z host app 1 ID [a@1 k="]"] started', "syslog", "info", "started"),
    ("<2>1 2026-11-21T02:13:00Z host app - - - \ufeffgone", "syslog", "critical", "gone"),
    ("2026-11-21T02:13:00.123456+01:00 host app[7]: warning: hot", "syslog", "warning", "warning: hot"),
    ("2026-11-21 02:13:00 status half-configured bash:amd64 5.2", "dpkg", "info", "status half-configured <package>"),
    ("2026-11-21 02:13:00 install liberror-perl:all <none> 0.17", "dpkg", "info", "install <package>"),
    ("2026-11-21 02:13:00 startup archives unpack", "dpkg", "info", "startup archives unpack"),
    (NGINX.format(n=1, status=200).strip(), "combined", "info", "GET /a 200"),
    (NGINX.format(n=1, status=404).strip(), "combined", "warning", "GET /a 404"),
    (NGINX.format(n=1, status=503).strip(), "combined", "error", "GET /a 503"),
    ('::1 - bob [21/Nov/2026:02:13:00 +0000] "\\x16\\x03" 400 0', "combined", "warning", "\\x16\\x03 400"),
    ("2026/11/21 02:13:00 [crit] 12#12: *3 open() failed", "nginx-error", "critical", "open() failed"),
    ('{"level":"warn","msg":"slow","time":"2026-11-21T02:13:00Z"}', "json", "warning", "slow"),
    ('{"level":50,"msg":"pino","time":1795227180000}', "json", "error", "pino"),
    ('{"PRIORITY":"3","MESSAGE":"journal"}', "json", "error", "journal"),
    ('{"log":"ERROR boom\\n","stream":"stderr"}', "json", "error", "ERROR boom"),
    ('{"msg":"error in words","level":"info"}', "json", "info", "error in words"),
    ('{"status":502,"msg":"GET /"}', "json", "error", "GET /"),
    ('{"level":true,"level2":1}', "json", "unknown", ""),
    ("2026-11-21 02:13:00,123 ERROR app.db lost", "iso", "error", "ERROR app.db lost"),
    ("2026-11-21 02:13:00 worker-3 retrying after timeout", "iso", "warning", "worker-3 retrying after timeout"),
    ("[2026-11-21 02:13:00] INFO error page shown", "iso", "info", "INFO error page shown"),
    ("nothing to see", "plain", "unknown", "nothing to see"),
]


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    """The records of all LINES, from one process: starting one for each would be most of the time."""
    return parsed("\n".join(line for line, *_ in LINES))


@pytest.mark.parametrize("index", range(len(LINES)), ids=[line[:40] for line, *_ in LINES])
def test_every_kind_of_line_is_recognized(records: list[dict[str, Any]], index: int) -> None:
    _, kind, level, message = LINES[index]
    record = records[index]
    assert (record["format"], record["level"], record["message"]) == (kind, level, message)


def test_times_of_every_format_name_the_same_moment() -> None:
    moment = "2026-11-21T02:13:00+00:00"
    lines = [
        "<165>1 2026-11-21T02:13:00Z h a - - - x",
        "2026-11-21T03:13:00+01:00 h a: x",
        "2026-11-21 02:13:00 startup archives unpack",
        '1.2.3.4 - - [21/Nov/2026:03:13:00 +0100] "GET / HTTP/1.1" 200 1',
        "2026/11/21 02:13:00 [info] 1#1: x",
        '{"ts":1795227180}',
        '{"ts":1795227180.0}',
        '{"__REALTIME_TIMESTAMP":"1795227180000000"}',
    ]
    times = [record["time"] for record in parsed("\n".join(lines))]
    assert all(time is not None for time in times)
    assert len({time.replace("03:13:00+01:00", "02:13:00+00:00") for time in times}) == 1
    assert times[0] == moment


def test_a_time_without_year_never_lies_after_the_files_last_change(tmp_path: Path) -> None:
    log = tmp_path / "syslog"
    log.write_text("Dec 31 23:59:00 h a: old\nJan  1 00:01:00 h a: new\n")
    os.utime(log, (1767312000, 1767312000))  # 2026-01-02
    result = report(log)
    assert (result["first"], result["last"]) == ("2025-12-31T23:59:00+00:00", "2026-01-01T00:01:00+00:00")


@pytest.mark.parametrize(
    ("errors", "warnings", "verdict"),
    [
        (0, 0, "OK"),
        (5, 0, "OK"),
        (6, 0, "WARNING"),
        (10, 0, "WARNING"),
        (11, 0, "CRITICAL"),
        (0, 20, "OK"),
        (0, 21, "ATTENTION"),
        (6, 90, "WARNING"),
    ],
)
def test_health_follows_the_rates_of_errors_and_warnings(errors: int, warnings: int, verdict: str) -> None:
    lines = ["ERROR: x"] * errors + ["WARN: y"] * warnings + ["INFO: z"] * (100 - errors - warnings)
    result = report("-", stdin="\n".join(lines).encode())
    assert result["health"] == verdict
    assert (result["error_rate"], result["warning_rate"]) == (errors / 100, warnings / 100)


def test_the_machines_own_dpkg_log_is_all_information() -> None:
    log = Path("/var/log/dpkg.log")
    if not log.is_file() or not log.stat().st_size:
        pytest.skip("no dpkg.log on this machine")
    result = report(log)
    assert result["formats"] == {"dpkg": result["records"]}
    assert result["levels"]["info"] == result["records"]
    assert result["health"] == "OK"


def test_the_text_report_names_health_rates_span_and_messages(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text("".join(NGINX.format(n=n, status=500 if n < 3 else 200) for n in range(20)))
    done = script("analyze.py", log)
    text = done.stdout.decode()
    assert done.returncode == 0
    for part in ("WARNING", "combined", "error rate    15.00%", "2026-11-21T02:13:19+00:00", "3  error     GET /a <n>"):
        assert (part in text) is (part != "WARNING"), part
    assert "health        CRITICAL" in text


def test_repetitions_count_together_whatever_their_numbers() -> None:
    lines = [
        "ERROR: 10.0.0.1:80 refused request 6d1f7a2e-0a3b-4c5d-8e9f-0123456789ab after 3 ms",
        "ERROR: 10.9.9.9:8080 refused request 00000000-0a3b-4c5d-8e9f-0123456789ab after 44 ms",
    ]
    (row,) = report("-", stdin="\n".join(lines).encode())["top_problems"]
    assert row == {"level": "error", "count": 2, "message": "ERROR: <ip> refused request <uuid> after <n> ms"}


def test_lines_that_continue_a_record_are_no_records() -> None:
    text = "2026-11-21 02:13:00 ERROR x\nTraceback (most recent call last):\n  File error.py\n    fail()\n"
    result = report("-", stdin=text.encode())
    assert (result["records"], result["levels"]["error"]) == (2, 1)


def test_mixed_formats_are_all_counted(tmp_path: Path) -> None:
    log = tmp_path / "mixed.log"
    log.write_text("\n".join(line for line, *_ in LINES))
    result = report(log)
    assert result["records"] == len(LINES)
    assert set(result["formats"]) == {kind for _, kind, *_ in LINES}


def test_a_forced_format_leaves_the_rest_unparsed() -> None:
    result = report("--format", "dpkg", "-", stdin=b"2026-11-21 02:13:00 startup archives unpack\nhello\n")
    assert (result["formats"], result["unparsed"]) == ({"dpkg": 1, "unparsed": 1}, 1)


def test_rotated_compressed_logs_are_read(tmp_path: Path) -> None:
    (tmp_path / "app.log").write_bytes(b"INFO: a\n")
    (tmp_path / "app.log.2.gz").write_bytes(gzip.compress(b"ERROR: b\n"))
    (tmp_path / "misnamed.log").write_bytes(gzip.compress(b"WARN: c\n"))
    (tmp_path / "picture.png").write_bytes(b"not a log")
    result = report(tmp_path)
    assert [Path(file["path"]).name for file in result["files"]] == ["app.log", "app.log.2.gz", "misnamed.log"]
    assert result["records"] == 3


def test_a_damaged_compressed_log_gives_what_it_holds_and_says_so(tmp_path: Path) -> None:
    log = tmp_path / "app.log.1.gz"
    log.write_bytes(
        gzip.compress(b"".join(b"INFO: line %d %s\n" % (n, os.urandom(9).hex().encode()) for n in range(20000)))[:-5000]
    )
    done = script("analyze.py", "--json", log)
    assert done.returncode == 1
    assert b"damaged" in done.stderr
    assert json.loads(done.stdout)["records"] > 1000


def test_an_empty_file_has_no_data(tmp_path: Path) -> None:
    (tmp_path / "empty.log").touch()
    assert report(tmp_path / "empty.log")["health"] == "NO DATA"


@pytest.mark.parametrize(
    "content",
    [random.Random(5).randbytes(5000), "text".encode("utf-16") * 500, bz2.compress(b"x" * 100000), bytes(9000)],
)
def test_binary_data_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "blob.log").write_bytes(content)
    done = script("analyze.py", tmp_path / "blob.log")
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"blob.log: binary data" in done.stderr


def test_a_sparse_gigabyte_is_refused_at_once(tmp_path: Path) -> None:
    with (tmp_path / "sparse.log").open("wb") as file:
        file.truncate(1 << 30)
    done = script("analyze.py", tmp_path / "sparse.log")
    assert done.returncode == 3


def test_a_sparse_gigabyte_behind_a_log_line_costs_bounded_time_and_memory(tmp_path: Path) -> None:
    with (tmp_path / "sparse.log").open("wb") as file:
        file.write(b"ERROR: x\n" * 2000)
        file.truncate(1 << 30)
    command = (
        f"ulimit -v 400000; exec {sys.executable} {SKILL}/scripts/analyze.py --json --max-bytes 2000000000 sparse.log"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["levels"]["error"] == 2000
    assert b"over-long" in done.stderr


def test_the_end_of_a_long_file_is_what_counts(tmp_path: Path) -> None:
    (tmp_path / "long.log").write_bytes(b"ERROR: old\n" * 1000 + b"INFO: new\n" * 10)
    result = report("--max-bytes", "105", tmp_path / "long.log")
    assert (result["levels"]["error"], result["levels"]["info"]) == (0, 10)
    assert "only a part" in result["files"][0]["notes"][0]


def test_a_compressed_bomb_is_read_only_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"INFO: x\n" * 1_000_000))
    assert report("--max-bytes", "8000", tmp_path / "bomb.gz")["records"] == 1000


def test_a_huge_line_is_cut_and_the_next_one_still_read(tmp_path: Path) -> None:
    (tmp_path / "huge.log").write_bytes(b"ERROR: " + b"x" * 20_000_000 + b"\nINFO: after\n")
    result = report(tmp_path / "huge.log")
    assert (result["records"], result["levels"]["error"], result["levels"]["info"]) == (2, 1, 1)
    assert all(len(row["message"]) <= 160 for row in result["top_messages"])


def test_very_many_different_messages_stay_within_memory() -> None:
    words = (f"INFO: {''.join(chr(97 + int(d)) for d in str(n))}\n" for n in range(60_000))
    result = report("-", stdin="".join(words).encode())
    assert result["records"] == 60_000
    assert result["top_is_approximate"] is True


def test_bytes_that_are_no_text_never_reach_a_terminal_raw() -> None:
    done = script("analyze.py", "-", stdin=b"ERROR: caf\xe9 \x1b[2J\x9b31m \xe2\x80\xae evil\n" * 3)
    assert done.returncode == 0
    assert not set(done.stdout) & {0x1B, 0x9B}
    assert "\u202e" not in done.stdout.decode()


@pytest.mark.parametrize(
    "line",
    [
        '{"a":' * 100_000,
        '{"level":' + "9" * 10_000 + "}",
        '{"time":1e999,"level":{"a":[]}}',
        '{"time":"9999999999999999999","level":"²"}',
        "[1,2]",
        "<999>Nov 99 99:99:99 host app: x",
        "<13>Feb 30 25:61:61 host app: x",
        "2026-13-45T99:99:99Z host app: x",
        '1.1.1.1 - - [99/Foo/2026:02:13:00 +9999] "" 200 1',
        "0001-01-01T00:00:00+23:59 host app: x",
        "9999-12-31 23:59:59 x",
        "<1>1 " + "[" * 60_000,
        'a b c [21/Nov/2026:02:13:00 +0000] "' + "\\" * 60_000,
        "level=" * 10_000,
        " " * 60_000 + "x",
    ],
)
def test_hostile_lines_are_one_record_and_no_crash(line: str) -> None:
    result = report("-", stdin=b"INFO: ok\n" + line.encode() + b"\nINFO: ok\n")
    assert result["records"] == 3
    assert result["levels"]["info"] >= 2


def test_a_missing_file_beside_a_good_one_is_reported_and_the_good_one_analyzed(tmp_path: Path) -> None:
    (tmp_path / "good.log").write_text("INFO: fine\n")
    done = script("analyze.py", tmp_path / "good.log", tmp_path / "absent.log")
    assert done.returncode == 1
    assert b"health        OK" in done.stdout
    assert b"absent.log: No such file" in done.stderr


def test_pipes_and_empty_directories_are_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = script("analyze.py", tmp_path / "pipe", tmp_path)
    assert done.returncode == 3
    assert b"pipe: not a regular file" in done.stderr
    assert b"no log files directly in this directory" in done.stderr


def test_a_closed_reader_ends_the_output_quietly(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"INFO: x\n" * 200_000)
    command = f"{sys.executable} {SKILL}/scripts/parse_logs.py {tmp_path}/a.log | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("name", ["analyze.py", "fetch_logs.py", "parse_logs.py"])
def test_every_script_explains_itself_and_its_exit_codes(name: str) -> None:
    done = script(name, "--help")
    assert done.returncode == 0
    assert b"Exit codes" in done.stdout
    assert script(name, "--no-such-option").returncode == 2


def test_using_the_skill_leaves_its_folder_unchanged(tmp_path: Path) -> None:
    before = sorted(SKILL.rglob("*"))
    (tmp_path / "a.log").write_text("INFO: x\n")
    report(tmp_path / "a.log")
    parsed("x")
    script("fetch_logs.py", tmp_path / "a.log")
    assert sorted(SKILL.rglob("*")) == before


def test_parse_logs_leaves_out_what_is_below_the_wanted_level() -> None:
    records = parsed("INFO: a\nERROR: b\nnothing\n", "--min-level", "warning")
    assert [record["message"] for record in records] == ["ERROR: b"]


def test_fetch_logs_gives_the_last_lines(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("".join(f"line {n}\n" for n in range(100)))
    assert script("fetch_logs.py", "--lines", "2", tmp_path / "a.log").stdout == b"line 98\nline 99\n"


def test_fetch_logs_gives_what_is_newer_with_the_lines_that_belong_to_it(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("2026-01-01 00:00:00 old\n  more\n2026-01-02 00:00:00 new\n  detail\n")
    done = script("fetch_logs.py", "--since", "2026-01-02", tmp_path / "a.log")
    assert done.stdout == b"2026-01-02 00:00:00 new\n  detail\n"
    assert script("fetch_logs.py", "--since", "yesterday-ish", tmp_path).returncode == 2
    assert script("fetch_logs.py", "--since", "999999w", tmp_path).returncode == 2


def test_fetch_logs_lists_and_copies_without_overwriting(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("x\n")
    listed = script("fetch_logs.py", "--list", tmp_path).stdout.decode()
    assert listed.split()[0] == "2"
    assert listed.rstrip().endswith("a.log")
    copied = script("fetch_logs.py", "--out", tmp_path / "out", tmp_path / "a.log")
    assert Path(copied.stdout.decode().strip()).read_text() == "x\n"
    again = script("fetch_logs.py", "--out", tmp_path / "out", tmp_path / "a.log")
    assert again.returncode == 3
    assert b"File exists" in again.stderr


def test_fetch_logs_uses_journalctl_where_present(tmp_path: Path) -> None:
    """A journalctl of our own stands in, to see how it is called and what becomes of its failure."""
    program = tmp_path / "journalctl"
    program.write_text('#!/bin/sh\necho "$@"\n[ "$6" != --unit=gone ] || { echo no unit >&2; exit 1; }\n')
    program.chmod(0o755)
    command = [sys.executable, str(SKILL / "scripts" / "fetch_logs.py"), "--journal", "--since", "2026-01-01", "--unit"]
    environment = {"PATH": str(tmp_path) + ":/usr/bin:/bin", "TZ": "UTC"}
    done = subprocess.run([*command, "ssh"], capture_output=True, timeout=60, env=environment)
    assert b"--lines=1000 --since=@1767225600 --unit=ssh" in done.stdout
    failed = subprocess.run([*command, "gone"], capture_output=True, timeout=60, env=environment)
    assert (failed.returncode, failed.stderr) == (3, b"fetch_logs: journalctl: no unit\n")
    missing = subprocess.run([*command, "ssh"], capture_output=True, timeout=60, env={"PATH": str(tmp_path / "none")})
    assert missing.returncode == 3
    assert b"not present on this machine" in missing.stderr


RECORDS = [
    {"time": "2026-11-21T02:13:00Z", "level": "error", "message": "boom"},
    {"time": "2026-11-21T02:13:01Z", "level": "info", "message": "well"},
]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(RECORDS, indent=2),
        json.dumps(RECORDS),
        "\n\n" + json.dumps(RECORDS, indent=1) + "\n\n",
        json.dumps({"count": 2, "logs": RECORDS}, indent=2),
        json.dumps({"logs": RECORDS}),
        json.dumps({"logs": RECORDS}) + "\n \n",
        json.dumps({"data": RECORDS, "next": None}, indent=4),
        json.dumps(RECORDS, indent=2).replace("\n", "\r\n"),
    ],
)
def test_a_document_of_records_is_as_good_as_a_line_for_each(text: str) -> None:
    lines = "\n".join(map(json.dumps, RECORDS))
    facts = [{**row, "line": 0} for row in parsed(lines)]
    assert [{**row, "line": 0} for row in parsed(text)] == facts
    assert [row["level"] for row in facts] == ["error", "info"]


@pytest.mark.parametrize(
    "text",
    [
        "[error] 12 disk gone\n[error] 13 disk gone\n",
        "[2026-11-21 02:13:00] ERROR boom\n[2026-11-21 02:13:01] INFO well\n",
        '{"level":"error","message":"boom"}\n{"level":"info","message":"well"}\n',
        "[\nERROR boom\n",
        "[{\n" + '"level": "error"' + "\n",
        "{\n" + '  "level": "error",\n  "message": "boom"\n}\n',
        '[{"level": "error"}, 3]',
        '{"logs": [{"level": "error"}]}\n\n{"logs": [{"level": "error"}]}\n',
        "[" * 100_000,
    ],
)
def test_what_is_no_such_document_is_read_line_by_line(text: str) -> None:
    kept = [row["line"] for row in parsed(text)]
    assert kept == sorted(kept)
    assert 1 in kept


def test_an_empty_document_has_no_records() -> None:
    assert report("-", stdin=b"[]")["health"] == "NO DATA"
    assert report("-", stdin=b'{"logs": []}\n')["health"] == "NO DATA"


def test_a_format_that_is_forced_is_forced_on_lines() -> None:
    assert len(parsed(json.dumps(RECORDS, indent=2), "--format", "plain")) == len(
        json.dumps(RECORDS, indent=2).split("\n")
    )
