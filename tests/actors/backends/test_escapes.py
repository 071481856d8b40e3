"""Commands of a sandboxed local backend that try to get out: each way is tried in each sandbox."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from sandbox_kit import SANDBOXES, require_sandbox
from skill_actors.backends import (
    BackendUnavailable,
    Limits,
    LocalOptions,
    ToolCall,
    ToolContext,
    ToolResult,
    Workspace,
    WorkspaceSpec,
    open_local,
)
from skill_actors.backends.confinement import SCOPE_ABI, landlock_abi
from support import run

pytestmark = pytest.mark.alone  # the bombs take what the machine has

PYTHON = "/usr/bin/python3"
CONNECT = PYTHON + ' -c "import socket; s = socket.socket(socket.{}); s.settimeout(5); s.connect({}); print(1 + 41)"'


class Cell:
    """A state directory with two conversations in it; commands run in the first."""

    def __init__(self, state: Path, kind: str, **options: Any) -> None:
        self.kind = kind
        self.state = state
        self.mine = state / "workspaces" / "mine"
        self.other = state / "workspaces" / "other"
        self.skill = state / "skills" / "abc"
        for folder in (self.other, self.skill, self.skill.with_name("def")):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "file").write_text("top-secret\n")
        (state / "journal.db").write_text("top-secret\n")
        self.options = LocalOptions(**{"sandbox": kind, **options})
        self.workspace: Workspace

    def run(self, body: Callable[[Cell], Awaitable[None]]) -> None:
        async def main() -> None:
            async with open_local(self.options, private=[self.state]) as executor:
                self.workspace = await executor.open(WorkspaceSpec(session="mine", root=self.mine))
                await body(self)

        run(main)

    async def tool(self, name: str, input: dict[str, Any], **context: Any) -> ToolResult:
        call = ToolCall(id="call-1", name=name, input=input)
        return await self.workspace.execute(call, ToolContext(readable=[self.skill], **context))

    async def bash(self, command: str, **context: Any) -> ToolResult:
        return await self.tool("bash_tool", {"command": command}, **context)


@pytest.fixture(params=SANDBOXES)
def kind(request: pytest.FixtureRequest) -> str:
    require_sandbox(request.param)
    return str(request.param)


@pytest.fixture
def cell(kind: str, tmp_path: Path) -> Cell:
    return Cell(tmp_path, kind)


def test_the_workspace_the_skills_and_the_programs_of_the_system_are_there(cell: Cell) -> None:
    async def body(cell: Cell) -> None:
        result = await cell.bash(
            f"cat {cell.skill}/file && echo x > file && mkdir -p a/b && mv file a/b && cat a/b/file && "
            f"{PYTHON} -c 'import ssl, tempfile; print(tempfile.TemporaryFile().write(bytes(3)))' && "
            "id -un && date >/dev/null && echo $HOME && pwd"
        )
        user = (await trio.run_process(["id", "-un"], capture_stdout=True)).stdout.decode().strip()
        assert result.content.splitlines() == ["top-secret", "x", "3", user, str(cell.mine), str(cell.mine)]

    cell.run(body)


def test_skills_cannot_be_changed_and_those_of_others_not_be_seen(cell: Cell) -> None:
    async def body(cell: Cell) -> None:
        result = await cell.bash(
            f"echo x >> {cell.skill}/file; rm -f {cell.skill}/file; touch {cell.skill}/new; ls {cell.skill}"
        )
        assert result.content.splitlines()[0] == "file"
        result = await cell.bash(f"cat {cell.skill.with_name('def')}/file")
        assert "top-secret" not in result.content

    cell.run(body)
    assert (cell.skill / "file").read_text() == "top-secret\n"
    assert [entry.name for entry in cell.skill.iterdir()] == ["file"]


def test_files_of_other_sessions_and_of_the_state_are_out_of_reach(cell: Cell) -> None:
    async def body(cell: Cell) -> None:
        for target in (cell.other / "file", cell.state / "journal.db", Path("../other/file"), Path("../../journal.db")):
            for command in (
                "cat {}",
                "cp {} stolen",
                "ln {} stolen",
                "mv {} stolen",
                "cat < {}",
                "base64 /proc/self/cwd/{}",
            ):
                result = await cell.bash(command.format(target) + "; cat stolen")
                assert "top-secret" not in result.content, (command, target)
                assert result.is_error
            for command in (
                "echo x > {}",
                "rm -f {}",
                "truncate -s 0 {}",
                PYTHON + " -c \"import os; os.truncate('{}', 0)\"",
            ):
                await cell.bash(command.format(target))
        await cell.bash(f"ln -s {cell.other} link; ln -s {cell.state}/journal.db db")
        for tool in ("cat link/file", "cat db", "ls link/"):
            assert "file" not in (await cell.bash(tool + " 2>/dev/null")).content
        for path in ("link/file", "db", "../other/file", f"{cell.state}/journal.db", "/proc/self/root/etc/shadow"):
            for tool, more in (("view", {}), ("create_file", {"file_text": "x"}), ("str_replace", {"old_str": "top"})):
                assert (await cell.tool(tool, {"path": path, **more})).is_error

    cell.run(body)
    assert (cell.other / "file").read_text() == (cell.state / "journal.db").read_text() == "top-secret\n"
    assert sorted(entry.name for entry in cell.other.iterdir()) == ["file"]


def test_secrets_of_the_host_and_of_the_daemon_cannot_be_read(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(cell: Cell) -> None:
        me = os.getpid()
        for command in (
            *("cat /etc/shadow", "cat /proc/self/root/etc/shadow", "cat /etc/gshadow /root/.bash_history"),
            *("strings /proc/[0-9]*/environ; cat /proc/[0-9]*/environ", f"cat /proc/{me}/environ"),
            *(f"cat /proc/{me}/root/etc/shadow", f"ls /proc/{me}/root/ /proc/{me}/fd/0/", f"head -c 9 /proc/{me}/mem"),
            *("env", "ls /run/credentials /run/skilld /home /root", "head -c 9 /proc/kcore", "dmesg"),
        ):
            result = await cell.bash(command + " 2>/dev/null")
            assert "sk-of-the-daemon" not in result.content
            assert "root:" not in result.content
            if command != "env" and not command.startswith("strings"):
                assert result.content.startswith(("[exit code", "(no output)")), (command, result.content)

    daemon = {"ANTHROPIC_API_KEY": "sk-of-the-daemon", "CREDENTIALS_DIRECTORY": "/run/credentials/skilld.service"}
    for name, value in daemon.items():
        monkeypatch.setenv(name, value)
    cell.run(body)


def test_no_socket_of_the_host_can_be_connected_to(cell: Cell) -> None:
    """The daemon's own, and that of docker: both are local sockets with a path."""
    place = cell.state / "skilld.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as abstract:
        listener.bind(str(place))
        listener.listen()
        abstract.bind("\0skilld-test-" + str(os.getpid()))
        abstract.listen()

        async def body(cell: Cell) -> None:
            for address in (
                f"'{place}'",
                "'../../skilld.sock'",
                "'/run/docker.sock'",
                f"'\\0skilld-test-{os.getpid()}'",
            ):
                result = await cell.bash(CONNECT.format("AF_UNIX", address))
                assert result.is_error
                assert "42" not in result.content

        cell.run(body)


def test_with_the_hosts_network_no_abstract_socket_is_reached_but_a_commands_own(kind: str, tmp_path: Path) -> None:
    """They belong to the network: bubblewrap shows them with it, and Landlock takes them away again."""
    if landlock_abi() < SCOPE_ABI:
        pytest.skip("the Landlock of this kernel cannot keep abstract sockets inside")
    own = PYTHON + (
        ' -c "import socket as s; a, b = s.socket(s.AF_UNIX), s.socket(s.AF_UNIX); '
        "a.bind(chr(0) + 'mine'); a.listen(); b.connect(chr(0) + 'mine'); print(1 + 41)\""
    )
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0skilld-test-" + str(os.getpid()))
        abstract.listen()

        async def body(cell: Cell) -> None:
            result = await cell.bash(CONNECT.format("AF_UNIX", f"'\\0skilld-test-{os.getpid()}'"))
            assert result.is_error
            assert ("Operation not permitted" if kind == "bwrap" else "not supported") in result.content
            assert ("42" if kind == "bwrap" else "not supported") in (await cell.bash(own)).content

        Cell(tmp_path, kind, network="host").run(body)


def test_without_network_nothing_of_it_is_reached(kind: str, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"('127.0.0.1', {listener.getsockname()[1]})"

        async def shut(cell: Cell) -> None:
            result = await cell.bash(CONNECT.format("AF_INET", address))
            assert result.is_error
            assert "42" not in result.content
            raw = PYTHON + " -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)'"
            assert (await cell.bash(raw)).is_error

        async def open_(cell: Cell) -> None:
            assert (await cell.bash(CONNECT.format("AF_INET", address))).content == "42"

        Cell(tmp_path, kind, network="none").run(shut)
        Cell(tmp_path, kind, network="host").run(open_)


def test_no_more_rights_can_be_had(cell: Cell) -> None:
    async def body(cell: Cell) -> None:
        result = await cell.bash("grep -E '^(NoNewPrivs|Cap)' /proc/self/status | tr -d '\\t'")
        assert set(result.content.split()) == {
            "NoNewPrivs:1",
            *(f"Cap{name}:{'0' * 16}" for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")),
        }
        for command in (  # none of them does harm where it succeeds
            *("setpriv --reuid 12 true", "su -c true nobody", "chroot . /bin/true", f"kill -0 {os.getppid()}"),
            *("mount -t tmpfs none .", "unshare -Ur mount -t tmpfs none .", "mknod disk b 8 0", ": >> /usr/bin/env"),
            *(": >> /etc/passwd", "chmod 644 /etc/passwd", "echo h > /proc/sysrq-trigger"),
            "cat /proc/sys/kernel/panic > /proc/sys/kernel/panic",
        ):
            assert (await cell.bash(command)).is_error, command

    cell.run(body)


def test_a_set_uid_program_gives_nothing(cell: Cell) -> None:
    async def body(cell: Cell) -> None:
        await cell.bash("cp /bin/cat c; chmod 6755 c")
        result = await cell.bash("./c /proc/self/status | grep -E '^(NoNewPrivs|CapEff|CapPrm)' | tr -d '\\t'")
        assert set(result.content.split()) == {"NoNewPrivs:1", f"CapEff:{'0' * 16}", f"CapPrm:{'0' * 16}"}
        assert (await cell.bash("./c /etc/shadow")).is_error
        assert "root:" not in (await cell.bash("./c /etc/shadow /proc/self/root/etc/shadow")).content

    cell.run(body)


def test_links_put_where_the_daemon_writes_lead_it_nowhere(cell: Cell) -> None:
    async def body(cell: Cell) -> None:
        await cell.bash(f"rm -rf .skilld; ln -s {cell.other} .skilld")
        result = await cell.bash("seq 100000", max_output_chars=2_000)
        assert result.outcome == "ok"
        assert result.output_file is None
        await cell.bash(f"rm .skilld; mkdir .skilld; ln -s {cell.other} .skilld/output; ln -s {cell.other} .skilld/tmp")
        assert (await cell.bash("seq 100000; mktemp", max_output_chars=2_000)).output_file is None

    cell.run(body)
    assert sorted(entry.name for entry in cell.other.iterdir()) == ["file"]


def test_a_fork_bomb_ends_with_its_call(kind: str, tmp_path: Path) -> None:
    async def body(cell: Cell) -> None:
        result = await cell.bash("bomb() { bomb | bomb & }; bomb; sleep 20", timeout_s=20)
        assert result.outcome == "error"
        assert "processes, more than 50; the command and all it had started were killed]" in result.content
        assert result.duration_ms < 15_000
        assert (await cell.bash("echo next")).content == "next"

    Cell(tmp_path, kind, limits=Limits(total_processes=50)).run(body)


def test_commands_yield_the_processor_to_who_ends_them(kind: str, tmp_path: Path) -> None:
    async def body(cell: Cell) -> None:
        assert (await cell.bash("nice")).content == "19"
        assert (await cell.bash("nice -n -5 nice 2>/dev/null")).content == "19"

    Cell(tmp_path, kind).run(body)


def test_a_fork_bomb_of_sessions_ends_with_its_call(kind: str, tmp_path: Path) -> None:
    """None of its processes is in the group of another."""
    bomb = PYTHON + " -c 'import os, time\nfor _ in range(300):\n if os.fork() == 0:\n  os.setsid()\n  time.sleep(30)'"

    async def body(cell: Cell) -> None:
        result = await cell.bash(f"{bomb}; sleep 20", timeout_s=20)
        assert result.outcome == "error"
        assert "it had 51 processes, more than 50; the command and all it had started were killed]" in result.content
        assert (await cell.bash("echo next")).content == "next"

    Cell(tmp_path, kind, limits=Limits(total_processes=50)).run(body)


def test_a_memory_bomb_ends_with_its_call(kind: str, tmp_path: Path) -> None:
    bomb = PYTHON + " -c 'x = []\nwhile True: x.append(bytearray(1 << 20))'"

    async def together(cell: Cell) -> None:
        result = await cell.bash(f"{bomb} & {bomb} & wait", timeout_s=20)
        assert result.outcome == "error"
        assert "bytes of memory in use, more than 100000000; the command" in result.content

    async def alone(cell: Cell) -> None:
        assert "MemoryError" in (await cell.bash(bomb, timeout_s=20)).content

    Cell(tmp_path, kind, limits=Limits(total_memory_bytes=100_000_000)).run(together)
    Cell(tmp_path, kind, limits=Limits(memory_bytes=400_000_000)).run(alone)


def test_a_call_that_computes_for_too_long_is_ended_whoever_computes(kind: str, tmp_path: Path) -> None:
    async def body(cell: Cell) -> None:
        result = await cell.bash("for i in 1 2; do (while :; do :; done) & done; wait", timeout_s=25)
        assert result.outcome == "error"
        assert "s of processor time, more than 1; the command" in result.content

    Cell(tmp_path, kind, limits=Limits(total_cpu_s=1)).run(body)


def test_a_file_cannot_grow_beyond_its_limit(kind: str, tmp_path: Path) -> None:
    async def body(cell: Cell) -> None:
        result = await cell.bash("head -c 9000000 /dev/zero > big; stat -c %s big")
        assert "1000000" in result.content

    Cell(tmp_path, kind, limits=Limits(file_bytes=1_000_000)).run(body)


def test_folders_in_memory_have_a_size(tmp_path: Path) -> None:
    require_sandbox("bwrap")

    async def body(cell: Cell) -> None:
        for folder in ("/tmp", "/dev/shm"):
            result = await cell.bash(f"df -B1 --output=size {folder} | tail -1")
            assert int(result.content) == 256 << 20
        assert (await cell.bash("touch /dev/x")).is_error
        assert (await cell.bash("touch /x")).is_error

    Cell(tmp_path, "bwrap").run(body)


@pytest.mark.deep
def test_ten_gigabytes_of_output_take_no_room(kind: str, tmp_path: Path) -> None:
    async def body(cell: Cell) -> None:
        result = await cell.bash("yes 0123456789012345678901234567890123456789 | head -c 10G", timeout_s=20)
        assert "[the output is cut; its first 67108864 bytes are in .skilld/output/call-1.txt]" in result.content

    Cell(tmp_path, kind).run(body)


def test_more_can_be_shown_and_the_daemons_own_folders_not(kind: str, tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    shown.mkdir()
    (shown / "file").write_text("for you\n")

    async def body(cell: Cell) -> None:
        assert (await cell.bash(f"cat {shown}/file")).content == "for you"
        assert (await cell.bash(f"touch {shown}/new")).is_error

    Cell(tmp_path / "state", kind, readable=[str(shown)]).run(body)

    async def never(cell: Cell) -> None:
        raise AssertionError("opened")

    for readable in (tmp_path, tmp_path / "state", tmp_path / "state" / "workspaces"):
        with pytest.raises(BackendUnavailable, match="must stay out of their reach"):
            Cell(tmp_path / "state", kind, readable=[str(readable)]).run(never)
