"""One test for each hole that other daemons of this kind are known for: it is not here."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import require
from e2e.harness import Daemon, clean_environment, program, running, write_skill
from sandbox_kit import require_sandbox
from skilld.paths import find_socket

pytestmark = pytest.mark.e2e

READER = "import sys\nprint(open(sys.argv[1]).read())\n"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("holes")
    write_skill(folder / "skills", "hello", "print('hello')\n")
    with running(folder, skills=[folder / "skills"]) as daemon:
        yield daemon


def open_ports(pid: int) -> list[str]:
    """Where a process listens, or is bound, on any network."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.update(re.findall(r"socket:\[(\d+)\]", os.readlink(entry)))
        except FileNotFoundError:  # closed meanwhile
            continue
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes:
                found.append(f"{table} {fields[1]}")
    return found


def test_cve_2026_25253_no_parameter_of_a_url_sends_anything_elsewhere(daemon: Daemon) -> None:
    """A link that named another gateway had the page send its token there. Here no request names a place to call."""
    with socket.create_server(("127.0.0.1", 0)) as elsewhere, daemon.http() as http:
        elsewhere.setblocking(False)
        url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}"
        for name in ("gatewayUrl", "url", "callback", "redirect", "base_url", "token"):
            for path in ("/v1/status", "/v1/sessions", "/v1/health/live", "/v1/openapi.json"):
                answer = http.get(path, params={name: url})
                assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request"), path
        for name in ("base_url", "model_url", "api_key"):
            assert http.post("/v1/sessions", json={name: url}).status_code == 400
        refused = http.get("/", headers={"accept": "text/html"})
        assert (refused.status_code, refused.headers["content-type"]) == (404, "application/json"), "there are no pages"
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


@pytest.mark.parametrize("header", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}])
def test_cve_2026_22812_a_page_in_a_browser_gets_nothing_and_starts_nothing(
    daemon: Daemon, header: dict[str, str]
) -> None:
    """Any page could start commands through a permissive CORS policy; here also one that a forwarded port let in."""
    session = daemon.create()
    with daemon.http() as http:
        asked = {**header, "access-control-request-method": "POST"}
        preflight = http.options(f"/v1/sessions/{session}/messages", headers=asked)
        assert preflight.status_code == 405
        # What a page may send without asking first: a form's content type.
        simple = {**header, "content-type": "text/plain"}
        answers = [
            preflight,
            http.post(f"/v1/sessions/{session}/messages", content=b'{"text": "/hello"}', headers=simple),
            http.post("/v1/sessions", content=b"{}", headers=simple),
            http.get("/v1/sessions", headers=header),
            http.get(f"/v1/sessions/{session}/events", headers=header),
            http.get("/v1/status", headers={**header, "connection": "upgrade", "upgrade": "websocket"}),
        ]
        assert [answer.status_code for answer in answers[1:]] == [403] * 5
        for answer in answers:
            assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert daemon.events(session) == []


def test_ghsa_4hmj_39m8_jwc7_what_is_to_be_approved_is_shown_as_text(tmp_path: Path) -> None:
    """Escape sequences in a prompt for an approval showed another command than would run."""
    folder = tmp_path / "skills"
    root = write_skill(folder, "sly", "print('x')\n")
    (root / "scripts/run\x1b[2K\x1b[1Gharmless.py").write_text("print('harm')\n")
    text = "harmless\\e[2K\\e[1Gvery harmless\\x9b1A\\u202Etxt.exe\\r"
    (root / "SKILL.md").write_text(
        f'---\nname: sly\ndescription: "{text}"\nallowed-tools: "Bash(rm:\\e[8m*)"\n---\n\nx\n'
    )
    write_skill(folder, "plain", "print('x')\n")
    config = f'[skills]\npaths = ["{folder}"]\ntrusted = ["{folder}"]\napproval = "version"\nbundled = false\n'
    with running(tmp_path, config=config + '[policy]\nask = ["Bash"]\n') as daemon:
        call = "/plain 'sly \x1b[2K\x1b[1Gvery harmless\x9b1A\u202etxt.exe\r'"
        assert daemon.skillctl("send", call).returncode == 3
        for command in (
            ["approvals"],
            ["skills", "show", "sly"],
            ["skills", "status"],
            ["skills", "list"],
            ["skills", "info", str(root)],
            ["skills", "audit", str(root)],
            ["skills", "approve", "sly"],
        ):
            shown = on_a_terminal(daemon, *command)
            assert "sly" in shown, command
            odd = {char for char in shown if not char.isprintable()} - {"\n", "\r", "\t"}
            assert not odd, (command, odd)
            assert not re.search("\r[^\n]", shown), command


def on_a_terminal(daemon: Daemon, *arguments: str) -> str:
    """What a terminal is sent."""
    ours, theirs = os.openpty()
    environment = {**clean_environment(), "SKILLD_SOCKET": str(daemon.socket), "TERM": "dumb"}
    with subprocess.Popen(
        [*program("skillctl"), *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        shown = bytearray()
        while True:
            try:
                data = os.read(ours, 65_536)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            shown += data
        process.wait(30)
    os.close(ours)
    return shown.decode("utf-8", "replace")


def test_ghsa_2j8v_hwgc_x698_what_was_approved_is_what_runs(tmp_path: Path) -> None:
    """The command changed between the approval and the run. Here an approval is of a hash of every file."""
    skills = tmp_path / "skills"
    shown = 'import os\nprint("token", os.environ.get("TOKEN", "kept"))\n'
    root = write_skill(skills, "tides", shown)
    (tmp_path / "token").write_text("s3cr3t-of-tides")
    (tmp_path / "token").chmod(0o600)
    config = f'[skills]\npaths = ["{skills}"]\ntrusted = ["{skills}"]\napproval = "version"\nbundled = false\n'
    config += f'[skills.secrets.tides]\nTOKEN = {{ file = "{tmp_path}/token" }}\n'
    with running(tmp_path, config=config) as daemon:
        with daemon.http() as http:
            seen = http.get("/v1/skills/tides").json()["digest"]
        script = root / "scripts/run.py"
        script.write_text(shown + "# swapped while somebody was looking\n")
        daemon.skillctl("skills", "reload")
        refused = daemon.skillctl("skills", "approve", "tides", "--digest", seen)
        assert refused.returncode == 1
        assert "is another version now" in refused.stderr
        assert daemon.ask(daemon.create(), "/tides")["result"]["text"].startswith("token kept")
        script.write_text(shown)
        daemon.skillctl("skills", "reload")
        assert daemon.skillctl("skills", "approve", "tides", "--digest", seen).returncode == 0
        assert daemon.ask(daemon.create(), "/tides")["result"]["text"].startswith("token ***")
        script.write_text(shown + "# swapped after the approval\n")
        daemon.skillctl("skills", "reload")
        assert daemon.ask(daemon.create(), "/tides")["result"]["text"].startswith("token kept")


def test_zeroclaw_9840_a_second_daemon_neither_takes_nor_unlinks_the_socket_of_the_first(
    daemon: Daemon, tmp_path: Path
) -> None:
    before = daemon.socket.lstat()
    second = Daemon(tmp_path)
    second.socket = daemon.socket
    second._arguments[0] = f"--socket={daemon.socket}"
    for _ in range(2):
        second.launch()
        assert second.process is not None
        assert second.process.wait(30) == 75
    after = daemon.socket.lstat()
    assert (after.st_dev, after.st_ino) == (before.st_dev, before.st_ino)
    assert str(daemon.socket) in second.log.read_text(), "it says which, and what to do"
    assert daemon.ask(daemon.create(), "/hello")["result"]["text"] == "hello"


def test_zeroclaw_3983_a_sandbox_that_is_configured_is_in_force_or_nothing_starts(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of-the-host")
    skills = tmp_path / "skills"
    write_skill(skills, "reader", READER)
    require_sandbox("landlock")
    for sandbox in ("none", "landlock"):
        folder = tmp_path / sandbox
        folder.mkdir()
        with running(folder, skills=[skills], config=f'[backends.local]\nsandbox = "{sandbox}"\n') as daemon:
            text = daemon.ask(daemon.create(), f"/reader {secret}")["result"]["text"]
            assert ("of-the-host" in text) is (sandbox == "none"), text
    folder = tmp_path / "wrong"
    folder.mkdir()
    wrong = Daemon(folder, config='[backends.local]\nsandbox = "landlok"\n')
    wrong.launch()
    assert wrong.process is not None
    assert wrong.process.wait(30) == 78


def test_predictable_temporary_files_are_neither_made_nor_followed(tmp_path: Path) -> None:
    """A name that can be known beforehand is a link that somebody else has made beforehand."""
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    skills = tmp_path / "skills"
    write_skill(skills, "hello", "print('hello')\n")
    names = []
    for number in range(2):
        folder = tmp_path / f"d{number}"
        folder.mkdir()
        with running(folder, skills=[skills], env={"TMPDIR": str(shared)}) as daemon:
            session = daemon.create()
            assert daemon.ask(session, "/hello")["result"]["text"] == "hello"
            assert daemon.skillctl("backup", str(folder / "b.tar")).returncode == 0
            assert daemon.skillctl("skills", "test", str(skills / "hello")).returncode in (0, 1)
            names.append({path.name for path in shared.iterdir()})
            for path in shared.iterdir():
                assert not path.lstat().st_mode & 0o077, f"{path} is open to others"
    assert not names[0] & names[1]
    assert list(shared.iterdir()) == [], "left behind"


def test_predictable_temporary_files_a_socket_below_tmp_that_a_stranger_made_first_is_not_used(tmp_path: Path) -> None:
    """Without a login session the socket is /tmp/skilld-UID/skilld.sock, and /tmp is everybody's."""
    require(os.geteuid() == 0, "needs root to be two users")
    uid, stranger = 987_601, 987_602
    planted = Path(f"/tmp/skilld-{uid}")
    planted.mkdir(mode=0o755)
    try:
        os.chown(planted, stranger, stranger)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(planted / "skilld.sock"))
            (planted / "skilld.sock").chmod(0o666)
            server.listen()
            server.setblocking(False)
            assert find_socket(None, {"HOME": str(tmp_path)}, uid) == Path("/run/skilld/skilld.sock")
            with pytest.raises(BlockingIOError):
                server.accept()
    finally:
        for path in planted.iterdir():
            path.unlink()
        planted.rmdir()


def test_open_defaults_without_a_configuration_there_is_no_port_and_nothing_is_readable_by_others(
    daemon: Daemon,
) -> None:
    daemon.ask(daemon.create(), "/hello")
    assert open_ports(daemon.pid) == []
    assert stat.S_IMODE(daemon.socket.lstat().st_mode) == 0o600
    assert stat.S_IMODE(daemon.state.lstat().st_mode) == 0o700
    readable = [path for path in daemon.state.rglob("*") if path.lstat().st_mode & 0o077 and is_reachable(path, daemon)]
    assert readable == []


def is_reachable(path: Path, daemon: Daemon) -> bool:
    """Whether every folder above it, up to the state, lets others pass."""
    above = [parent for parent in path.parents if parent.is_relative_to(daemon.state)]
    return all(parent.lstat().st_mode & 0o001 for parent in above)


CONNECT = """
import socket, sys
for path in sys.argv[1:]:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
            print("let in")
        except PermissionError:
            print("refused")
"""


def test_open_defaults_another_user_is_not_let_in() -> None:
    require(os.geteuid() == 0, "needs root to become somebody else")
    folder = Path(tempfile.mkdtemp(prefix="skilld-open-"))  # not below pytest's, which nobody else may pass anyway
    try:
        folder.chmod(0o755)
        with running(folder) as daemon, socket.socket(socket.AF_UNIX) as open_to_all:
            open_to_all.bind(str(folder / "open.sock"))
            (folder / "open.sock").chmod(0o666)
            open_to_all.listen()
            done = subprocess.run(
                ["/usr/bin/env", "python3", "-c", CONNECT, str(folder / "open.sock"), str(daemon.socket)],
                user=54_321,
                group=54_321,
                extra_groups=[],
                cwd="/",
                capture_output=True,
                text=True,
                check=True,
            )
    finally:
        shutil.rmtree(folder)
    assert done.stdout == "let in\nrefused\n"
