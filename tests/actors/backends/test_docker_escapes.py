"""What code that means harm gets out of a container: nothing, and what is beside it goes on."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import trio

from docker_bench import Box, boxed
from docker_kit import engine_with_slim_image
from skill_actors.backends import OutputChunk
from skill_actors.backends.docker_image import SLIM_IMAGE
from support import run

SECRET = "sk-ant-this-is-a-secret-0123456789"


# What root can do in a container that is nothing but one.
ROOT_CAN = [
    "cat /etc/shadow",
    "cat /proc/1/environ",
    'python3 -c \'open("/proc/1/mem", "rb")\'',
    "ls -l /proc/1/root/",
    "ls /root",
    "echo x >> /etc/passwd",
    "echo x > /usr/bin/x",
    "mknod /tmp/disk b 8 0",
    "chroot / true",
    "su root -c id",
    "chown 0 /workspace",
    "python3 -c 'import os; os.setuid(0)'",
    "python3 -c 'import os; os.setgroups([0])'",
    "python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)'",
]
# What takes a container that was given more: of the kernel, the network, or the host.
MORE_CAN = [
    "kill -9 1",
    "kill -9 $PPID",
    "kill -9 $(ls /proc | grep -E '^[0-9]+$' | head -3)",
    "echo 1 > /proc/sys/kernel/panic",
    "echo b > /proc/sysrq-trigger",
    "echo 1 > /sys/kernel/mm/ksm/run",
    "mount -t tmpfs none /tmp",
    "cat /dev/mem",
    "ls /dev | grep -E '^([hsvx]d|nvme|dm-|loop)'",
    "unshare -r true",
    "ls /run/docker.sock",
    "ls /var/run/docker.sock",
    "ls /run/skilld",
    "python3 -c 'import socket; exit({name for _, name in socket.if_nameindex()} <= {\"lo\"})'",
    "python3 -c 'import socket; socket.create_connection((\"169.254.169.254\", 80), 2)'",
    "python3 -c 'import socket; socket.create_connection((\"1.1.1.1\", 53), 2)'",
    "python3 -c 'import socket; socket.getaddrinfo(\"example.com\", 80)'",
    "python3 -c 'import ctypes; l = ctypes.CDLL(None); exit(0 if l.ptrace(16, 1, 0, 0) == 0 else 3)'",
    "python3 -c 'import os; os.setpriority(os.PRIO_PROCESS, 0, -5)'",
    "echo -1000 > /proc/self/oom_score_adj",
]


def test_root_can_do_what_must_not_work() -> None:
    """What could never work would show nothing where it does not."""
    with engine_with_slim_image() as client:
        plain = client.containers.run(
            SLIM_IMAGE,
            ["sleep", "60"],
            user="0",
            network_mode="none",
            cap_add=["MKNOD", "NET_RAW"],  # not every engine gives them by itself
            detach=True,
        )
        try:
            for attempt in ROOT_CAN:
                code, output = plain.exec_run(["bash", "-c", attempt], user="0")
                assert code == 0, (attempt, output)
        finally:
            plain.remove(force=True)


def test_what_must_not_work_does_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path / "w") as box:
            here = (await box.bash("cat /etc/hostname")).content
            for attempt in (*ROOT_CAN, *MORE_CAN):
                result = await box.bash(attempt, timeout_s=10)
                assert result.outcome == "error", (attempt, result.content)
                assert (await box.bash("cat /etc/hostname")).content == here, attempt

    run(main)


def test_neither_the_daemons_environment_nor_its_processes_can_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)

    async def main() -> None:
        async with boxed(tmp_path / "w") as box:
            result = await box.bash("env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; ls /proc")
            assert SECRET not in result.content
            pids = [int(line) for line in result.content.splitlines() if line.isdigit()]
            assert 1 <= len(pids) < 12

    run(main)


def test_another_conversations_files_and_processes_are_not_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path / "w") as box:
            other = await box.another()
            await other.bash(f"echo {SECRET} > mine; echo {SECRET} > /tmp/mine")
            result = await box.bash(f"grep -rsl {SECRET} /workspace /tmp /mnt /var /run /dev/shm; ls {tmp_path}")
            assert (result.exit_code, result.content.count(SECRET)) == (2, 0)

    run(main)


def test_a_set_uid_program_gives_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path / "w") as box:
            await box.bash("cp /usr/bin/python3 p; chmod 6777 p; ls -l p")
            result = await box.bash("./p -c 'import os; print(os.getuid() == os.geteuid(), os.getresgid())'")
            assert result.content == "True (19999, 19999, 19999)"

    run(main)


def test_a_fork_bomb_ends_with_its_call_and_other_calls_go_on(tmp_path: Path) -> None:
    bomb = "python3 -c 'import os\nwhile True:\n  try: os.fork()\n  except OSError: pass'"

    async def main() -> None:
        async with boxed(tmp_path / "w", processes=128) as box:
            await box.bash(":")
            beside: list[str] = []

            async def other(_chunk: OutputChunk) -> None:
                beside.append((await box.bash("sleep 0.5; echo beside", timeout_s=15)).content)

            result = await box.bash(f"echo begins; {bomb}", timeout_s=3, emit=other)
            assert result.outcome == "timeout"
            assert "could not be killed" not in result.content
            assert beside == ["beside"]
            assert (await box.bash("ls /proc | grep -cE '^[0-9]+$'")).content in ("5", "6", "7", "8")

    run(main)


def test_a_process_that_kills_whatever_it_may_kills_only_its_own_call(tmp_path: Path) -> None:
    killer = "python3 -c 'import os\nwhile True:\n  try: os.kill(-1, 9)\n  except OSError: pass'"

    async def main() -> None:
        async with boxed(tmp_path / "w") as box:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(box.bash, f"({killer} & ) ; {killer}")
                result = await box.bash("for i in 1 2 3 4 5; do sleep 0.2; echo $i; done")
                assert result.content == "1\n2\n3\n4\n5"
                nursery.cancel_scope.cancel()
            assert (await box.bash("echo fine")).content == "fine"

    run(main)


def test_memory_ends_for_the_call_and_not_for_its_conversation(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path / "w", memory_bytes=160 << 20, workspace_bytes=32 << 20, tmp_bytes=32 << 20) as box:
            await box.bash("echo kept > file")
            result = await box.bash("python3 -c 'x = bytearray(400 << 20); print(len(x))'", timeout_s=20)
            assert result.outcome == "error"
            assert str(400 << 20) not in result.content
            assert (await box.bash("cat file")).content == "kept"

    run(main)


def test_disks_end_where_they_should(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path / "w", workspace_bytes=8 << 20, tmp_bytes=4 << 20, workspace_files=500) as box:
            fill = (
                "for i in $(seq 40); do head -c 1M /dev/zero > {0}/$i || break; done; du -sk {0} | cut -f1; rm -f {0}/*"
            )
            for place, most_kib in (("/workspace", 8 << 10), ("/tmp", 4 << 10), ("/dev/shm", 16 << 10)):
                result = await box.bash(fill.format(place), timeout_s=20)
                assert "No space left on device" in result.content
                assert int(result.content.splitlines()[0]) <= most_kib, place
            many = await box.bash("for i in $(seq 1000); do : > f$i || break; done; ls | wc -l; rm -f f*")
            assert int(many.content.splitlines()[0]) < 500
            assert (await box.bash("find / -xdev -type d -writable 2>/dev/null; :")).content == "/tmp\n/workspace"

    run(main)


@pytest.mark.parametrize("gigabytes", [1, pytest.param(10, marks=pytest.mark.deep)])
def test_gigabytes_of_output_cost_neither_memory_nor_disk(tmp_path: Path, gigabytes: int) -> None:
    async def main() -> None:
        async with boxed(tmp_path / "w") as box:
            result = await box.bash(f"head -c {gigabytes}G /dev/zero | tr '\\0' y", timeout_s=200)
            assert result.outcome == "ok"
            assert len(result.content) <= 30_000
            shown = await box.bash("cat /sys/fs/cgroup/memory/memory.max_usage_in_bytes /sys/fs/cgroup/memory.peak; :")
            most = [int(line) for line in shown.content.splitlines() if line.isdigit()]
            assert most, "the container's memory cannot be read"
            assert max(most) < 200 << 20
            assert sum(path.stat().st_size for path in box.folder.rglob("*") if path.is_file()) <= 64 << 20

    trio.run(main)


def test_links_made_inside_lead_nowhere_on_the_host(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")

    async def main() -> None:
        async with boxed(tmp_path / "w") as box:
            await box.bash(f"ln -s {outside} out; ln -s {outside}/file file; mkdir d")
            assert os.readlink(box.folder / "out") == str(outside)
            await box.bash("rm out file; mkdir out; echo theirs > out/file; echo theirs > file; rmdir d; ln -s / d")
            await box.bash("rm d; mkdir -p d/tmp; echo theirs > d/tmp/theirs")
            assert (outside / "file").read_text() == "mine"
            assert [path.name for path in outside.iterdir()] == ["file"]
            assert (box.folder / "out" / "file").read_text() == "theirs\n"
            await _swap(box)
            assert (outside / "file").read_text() == "mine"

    async def _swap(box: Box) -> None:
        swap = f"while :; do ln -sfn {outside} s; rm -rf s; mkdir -p s; echo theirs > s/file; rm -rf s; done"
        await box.bash(swap, timeout_s=5)

    run(main)


def test_special_files_stay_inside(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path / "w") as box:
            await box.bash(
                "mkfifo pipe; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'; echo x > f"
            )
            assert sorted(path.name for path in box.folder.iterdir()) == ["f"]
            assert (await box.tool("view", {"path": "pipe"})).outcome == "error"

    run(main)


def test_a_tree_that_hides_and_stops_itself_is_dead_within_two_seconds_of_a_cancel(tmp_path: Path) -> None:
    hidden = "(setsid nohup bash -c 'trap \"\" TERM; (kill -STOP $BASHPID) & sleep 8531' >/dev/null 2>&1 &)"

    async def main() -> None:
        async with boxed(tmp_path / "w") as box:
            await box.bash(":")
            async with trio.open_nursery() as nursery:
                began = 0.0

                async def cancel(_chunk: OutputChunk) -> None:
                    nonlocal began
                    began = time.monotonic()
                    nursery.cancel_scope.cancel()

                await box.bash(f"{hidden}; echo up; sleep 8532", emit=cancel)
            assert time.monotonic() - began < 2
            assert "8531" not in (await box.bash("cat /proc/*/cmdline | tr '\\0' ' '")).content

    run(main)
