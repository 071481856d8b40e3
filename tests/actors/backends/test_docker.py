"""Containers of conversations, on a real engine: their life, their files, their skills, and what is refused."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest
import trio
import trio.testing

from docker_bench import boxed, containers_of, owner_of
from docker_kit import engine_with_slim_image
from skill_actors.backends import BackendUnavailable, ToolCall, ToolContext, WorkspaceSpec
from skill_actors.backends.docker import DockerWorkspace, open_docker
from skill_actors.backends.docker_image import SLIM_IMAGE, engine_address
from skill_actors.backends.docker_options import checked
from support import run


def test_a_container_is_as_hard_as_it_is_meant_to_be_and_goes_with_its_workspace(tmp_path: Path) -> None:
    owner = owner_of(tmp_path)

    async def main() -> None:
        async with boxed(tmp_path / "w", owner=owner, memory_bytes=256 << 20, workspace_bytes=64 << 20) as box:
            assert (await box.bash("echo up")).content == "up"
            with engine_with_slim_image() as client:
                (facts,) = containers_of(client, owner)
            host = facts["HostConfig"]
            assert host["NetworkMode"] == "none"
            assert (host["ReadonlyRootfs"], host["Privileged"], host["AutoRemove"]) == (True, False, True)
            assert (host["CapDrop"], sorted(host["CapAdd"])) == (["ALL"], ["KILL", "SETGID", "SETUID"])
            assert host["SecurityOpt"] == ["no-new-privileges:true"]
            assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (256 << 20, 256 << 20, 512)
            assert host["NanoCpus"] == 10**9
            assert host["LogConfig"]["Type"] == "none"
            assert not host.get("Mounts")
            assert facts["Mounts"] == []
            assert (facts["Config"]["OpenStdin"], facts["Config"]["StdinOnce"]) == (True, True)
            limits = await box.bash("grep -E 'NoNewPrivs|Seccomp:|CapPrm|CapEff' /proc/self/status")
            values = [line.split()[1] for line in limits.content.splitlines()]
            assert values == ["0" * 16, "0" * 16, "1", "2"], limits.content
        with engine_with_slim_image() as client:
            assert containers_of(client, owner) == []
            with trio.fail_after(20):
                while containers_of(client, owner, going=True):  # noqa: ASYNC110  # the engine removes it
                    await trio.sleep(0.02)

    run(main)


def test_each_call_is_a_user_of_its_own_and_uses_the_files_of_the_earlier_ones(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path / "w") as box:
            first = await box.bash("umask 077; mkdir d; echo secret > d/private; chmod 0 d/private; id -u")
            second = await box.bash("cat d/private; echo more >> d/private; id -u")
            assert second.content.startswith("secret\n")
            assert second.content.split()[-1] != first.content
            assert (await box.tool("view", {"path": "d/private"})).content == "     1\tsecret\n     2\tmore\n"
            assert (box.folder / "d/private").read_text() == "secret\nmore\n"

    run(main)


def test_files_outlive_the_container_and_the_model_is_told_of_the_new_one(tmp_path: Path) -> None:
    owner = owner_of(tmp_path)

    async def main() -> None:
        async with boxed(tmp_path / "w", owner=owner) as box:
            await box.bash(
                "mkdir -p a/b; echo kept > a/b/file; ln -s b/file a/link; chmod 755 a/b/file; echo x > /tmp/x"
            )
            with engine_with_slim_image() as client:
                client.api.kill(containers_of(client, owner)[0]["Id"])
            while box.workspace.holds_container:  # noqa: ASYNC110  # until that is known here
                await trio.sleep(0.005)
            result = await box.bash("cat a/link; stat -c %a a/b/file; ls /tmp")
            assert result.content.startswith("[this conversation has got a new container")
            assert result.content.endswith("]\nkept\n775")
            assert not (await box.bash("cat a/link")).content.startswith("[")

    run(main)


def test_a_container_that_is_killed_during_a_call_ends_the_call_as_lost(tmp_path: Path) -> None:
    owner = owner_of(tmp_path)

    async def main() -> None:
        async with boxed(tmp_path / "w", owner=owner) as box:

            async def kill() -> None:
                while not await trio.Path(box.folder, "started").exists():  # noqa: ASYNC110  # brought out in time
                    await trio.sleep(0.02)
                with engine_with_slim_image() as client:
                    client.api.kill(containers_of(client, owner)[0]["Id"])

            async with trio.open_nursery() as nursery:
                nursery.start_soon(kill)
                result = await box.bash("touch started; sleep 1000")
            assert (result.outcome, result.exit_code) == ("error", None)
            assert "how far it came is unknown" in result.content
            assert (await box.bash("ls")).content.endswith("\nstarted")

    run(main)


def test_what_is_changed_on_disk_between_calls_is_seen_inside(tmp_path: Path) -> None:
    async def main() -> None:
        folder = tmp_path / "w"
        folder.mkdir()
        (folder / "early").write_text("early\n")
        async with boxed(folder) as box:
            assert (await box.bash("cat early; echo mine > made; rm early")).content == "early"
            assert not (folder / "early").exists()
            (folder / "made").write_text("theirs\n")
            (folder / "new").mkdir()
            (folder / "new" / "ünï").write_bytes(b"\0\xff")
            (folder / os.fsdecode(b"\xff-name")).write_text("odd")
            assert (await box.bash("cat made; wc -c < new/ünï; ls | wc -l")).content == "theirs\n2\n3"
            (folder / "made").unlink()
            assert (await box.bash("ls -A made")).exit_code == 2

    run(main)


def test_large_files_go_both_ways_whole(tmp_path: Path) -> None:
    async def main() -> None:
        folder = tmp_path / "w"
        folder.mkdir()
        data = os.urandom(5_000_001)
        (folder / "in").write_bytes(data)
        async with boxed(folder) as box:
            result = await box.bash("cat in in > out; wc -c in out", timeout_s=20)
            assert result.exit_code == 0, result.content
            assert (folder / "out").read_bytes() == data + data

    run(main)


def test_more_than_the_workspace_holds_is_refused_inside_and_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path / "w", workspace_bytes=4 << 20) as box:
            result = await box.bash("head -c 3M /dev/zero > a; head -c 3M /dev/zero > b; truncate -s 1T sparse; rm a b")
            assert "No space left on device" in result.content
            assert "File size limit exceeded" in result.content
            for number in range(3):
                result = await box.bash(f"truncate -s 2M sparse{number}")
            assert "are allowed: what has changed is not kept" in result.content
            assert sum(path.stat().st_size for path in box.folder.iterdir()) <= 4 << 20
            await box.bash("rm sparse1")
            assert not (box.folder / "sparse1").exists()

    run(main)


def test_skills_are_unpacked_once_readable_runnable_and_not_to_be_changed(tmp_path: Path) -> None:
    async def main() -> None:
        skill = tmp_path / "skills" / ("0123456789abcdef" * 4)
        (skill / "scripts").mkdir(parents=True)
        (skill / "SKILL.md").write_text("use me\n")
        (skill / "scripts" / "go.sh").write_text("#!/bin/sh\necho gone\n")
        (skill / "scripts" / "go.sh").chmod(0o555)
        async with boxed(tmp_path / "w") as box:
            inside = box.workspace.path_of_skill(skill)
            assert inside == "/mnt/skills/0123456789abcdef"
            assert (await box.bash(f"ls {inside}")).exit_code == 2
            assert (await box.bash(f"{inside}/scripts/go.sh", readable=[skill])).content == "gone"
            for attempt in (
                ">> SKILL.md",
                "rm -rf scripts",
                "touch new",
                "touch ../new",
                "mv ../* /tmp",
                "chmod 777 .",
            ):
                assert (await box.bash(f"cd {inside} && {attempt}", readable=[skill])).outcome == "error", attempt
            shown = await box.tool("view", {"path": f"{inside}/SKILL.md"}, readable=[skill])
            assert shown.content == "     1\tuse me\n"
            assert (await box.bash("ls /mnt/skills", readable=[skill])).content == skill.name[:16]
            names = [tmp_path / place / "a-name-of-more-than-sixteen" for place in ("one", "two", "three")]
            for number, folder in enumerate(names):
                folder.mkdir(parents=True)
                (folder / "SKILL.md").write_text(f"{number}\n")
            insides = [box.workspace.path_of_skill(folder) for folder in names]
            shown = await box.bash(f"cd /; cat {'/SKILL.md '.join(insides)}/SKILL.md", readable=names)
            assert shown.content == "0\n1\n2"

    run(main)


def test_a_pooled_container_is_given_once_and_replaced(tmp_path: Path) -> None:
    owner = owner_of(tmp_path)

    async def main() -> None:
        async with boxed(tmp_path / "w", owner=owner, pool=1) as box:
            pool = box.executor.pool
            with trio.fail_after(20):
                while not pool.ready:  # noqa: ASYNC110  # the engine makes it
                    await trio.sleep(0.02)
            with engine_with_slim_image() as client:
                (waiting,) = [facts["Id"] for facts in containers_of(client, owner)]
            host_name = (await box.bash("cat /etc/hostname; touch /tmp/mine")).content
            assert waiting.startswith(host_name)
            other = await box.another()
            assert not (await other.bash("cat /etc/hostname; ls /tmp")).content.startswith(host_name)
            await box.workspace.aclose()
            with trio.fail_after(20):
                while not pool.ready:  # noqa: ASYNC110  # the engine makes it
                    await trio.sleep(0.02)
            with engine_with_slim_image() as client:
                assert waiting not in [facts["Id"] for facts in containers_of(client, owner)]

    run(main)


def test_where_no_more_containers_may_be_the_idle_one_makes_room_and_comes_back(tmp_path: Path) -> None:
    owner = owner_of(tmp_path)

    async def main() -> None:
        async with boxed(tmp_path / "w", owner=owner, max_containers=1) as box:
            await box.bash("echo mine > file")
            other = await box.another()
            assert (await other.bash("ls")).content == "(no output)"
            with engine_with_slim_image() as client:
                assert len(containers_of(client, owner)) == 1
            assert (await box.bash("cat file")).content.endswith("]\nmine")

    run(main)


def test_conversations_that_begin_at_once_do_not_exceed_the_limit(tmp_path: Path) -> None:
    owner = owner_of(tmp_path)

    async def main() -> None:
        async with boxed(tmp_path / "w", owner=owner, max_containers=2) as box:
            results: list[object] = []
            specs = [WorkspaceSpec(session=str(number), root=tmp_path / str(number)) for number in range(4)]
            workspaces = [await box.executor.open(spec) for spec in specs]

            async def one(workspace: DockerWorkspace) -> None:
                call = ToolCall(id="c", name="bash_tool", input={"command": "sleep 0.5; echo done"})
                try:
                    results.append((await workspace.execute(call, ToolContext())).content)
                except BackendUnavailable:
                    results.append(None)

            async with trio.open_nursery() as nursery:
                for workspace in workspaces:
                    nursery.start_soon(one, workspace)
            assert sorted(results, key=str) == [None, None, "done", "done"]
            with engine_with_slim_image() as client:
                assert len(containers_of(client, owner)) == 2

    run(main)


def test_two_that_begin_at_once_each_take_the_room_of_another(tmp_path: Path) -> None:
    owner = owner_of(tmp_path)

    async def main() -> None:
        async with boxed(tmp_path / "w", owner=owner, max_containers=2) as box:
            most = 0

            async def one(number: int) -> None:
                nonlocal most
                spec = WorkspaceSpec(session=str(number), root=tmp_path / str(number))
                workspace = await box.executor.open(spec)
                call = ToolCall(id="c", name="bash_tool", input={"command": "echo done"})
                assert (await workspace.execute(call, ToolContext())).content == "done"
                with engine_with_slim_image() as client:
                    most = max(most, len(containers_of(client, owner)))

            for first in (0, 2, 4):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(one, first)
                    nursery.start_soon(one, first + 1)
            assert most == 2

    run(main)


def test_where_all_containers_are_at_work_the_next_conversation_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path / "w", max_containers=1) as box:
            other = await box.another()
            refused: list[str] = []

            async def emit(_chunk: object) -> None:
                with pytest.raises(BackendUnavailable) as caught:
                    await other.bash("echo no")
                refused.append(str(caught.value))

            await box.bash("echo go", emit=emit)
            assert refused == ["all 1 containers are at work; send again later, or raise max_containers"]

    run(main)


def test_what_an_earlier_life_of_the_owner_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    owner = owner_of(tmp_path)

    async def main() -> None:
        with engine_with_slim_image() as client:
            left, others = [
                client.containers.run(SLIM_IMAGE, ["sleep", "60"], detach=True, network_mode="none", labels=labels)
                for labels in (
                    {"skilld.owner": owner, "skilld.boot": "before"},
                    {"skilld.owner": owner + "other", "skilld.boot": "before"},
                )
            ]
            try:
                async with open_docker(checked({"image": SLIM_IMAGE, "pool": 0}), owner=owner) as executor:
                    await executor.check()
                assert containers_of(client, owner) == []
                assert [facts["Id"] for facts in containers_of(client, owner + "other")] == [others.id]
            finally:
                others.remove(force=True)
                with contextlib.suppress(Exception):
                    left.remove(force=True)

    run(main)


async def relay(path: Path, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    """A socket that leads to the engine. To cancel it is what a crash of the engine looks like from here."""
    target = engine_address(os.environ).removeprefix("unix://")

    async def copy(source: trio.abc.Stream, sink: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                await sink.send_all(data)
            await sink.send_eof()

    async def serve(stream: trio.SocketStream) -> None:
        async with stream, await trio.open_unix_socket(target) as engine, trio.open_nursery() as both:
            both.start_soon(copy, stream, engine)
            both.start_soon(copy, engine, stream)

    with trio.CancelScope() as scope, trio.socket.socket(trio.socket.AF_UNIX) as listening:
        await listening.bind(str(path))
        listening.listen()
        task_status.started(scope)
        await trio.serve_listeners(serve, [trio.SocketListener(listening)])
    os.unlink(path)


def test_an_engine_that_goes_is_an_error_with_a_remedy_and_one_that_comes_back_is_used(tmp_path: Path) -> None:
    socket = tmp_path / "engine.sock"

    async def main() -> None:
        async with trio.open_nursery() as relays:
            engine = await relays.start(relay, socket)
            async with boxed(tmp_path / "w", address=f"unix://{socket}") as box:
                await box.bash("echo kept > file")
                engine.cancel()
                await trio.testing.wait_all_tasks_blocked()
                began = time.monotonic()
                with pytest.raises(BackendUnavailable, match=r"no container engine at|failed"):
                    await box.bash("cat file")
                assert time.monotonic() - began < 10
                engine = await relays.start(relay, socket)
                assert (await box.bash("cat file")).content.endswith("]\nkept")
            engine.cancel()

    run(main)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"address": "unix:///no/such/socket"}, "no container engine at unix:///no/such/socket: nothing is there"),
        ({"image": "localhost/no-such-image:1"}, "no image localhost/no-such-image:1: run skillctl docker build"),
        ({"image": SLIM_IMAGE, "runtime": "no-such"}, "no runtime 'no-such'; it has "),
        ({"image": SLIM_IMAGE, "network": "no-such"}, "no network 'no-such'"),
    ],
)
def test_what_the_engine_has_not_is_an_error_with_a_remedy(tmp_path: Path, options: dict[str, str], words: str) -> None:
    async def main() -> None:
        with engine_with_slim_image():
            pass
        async with open_docker(checked({"pool": 0} | options)) as executor:
            for attempt in (executor.check(), executor.open(WorkspaceSpec(session="s", root=tmp_path / "w"))):
                with pytest.raises(BackendUnavailable) as caught:
                    await attempt
                assert words in str(caught.value)

    run(main)


def test_an_image_without_python_says_what_is_missing(tmp_path: Path) -> None:
    async def main() -> None:
        with engine_with_slim_image() as client:
            bare = client.containers.create(SLIM_IMAGE, ["true"], network_mode="none")
            try:
                name = f"localhost/skilld-test-{os.getpid()}"
                client.api.import_image_from_data(_tar_without_anything(), repository=name, tag="1")
            finally:
                bare.remove()
            try:
                async with boxed(tmp_path / "w", image=f"{name}:1") as box:
                    with pytest.raises(BackendUnavailable, match="python3"):
                        await box.bash("echo x")
            finally:
                client.images.remove(f"{name}:1", force=True)

    run(main)


def _tar_without_anything() -> bytes:
    import io
    import tarfile

    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        member = tarfile.TarInfo("empty")
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    return target.getvalue()


def test_a_picture_is_seen_and_one_that_is_no_picture_is_told(tmp_path: Path) -> None:
    pixel = bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
        "0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
    )

    async def main() -> None:
        folder = tmp_path / "w"
        folder.mkdir()
        (folder / "pixel").write_bytes(pixel)
        (folder / "cut").write_bytes(pixel[:40])
        async with boxed(folder) as box:
            seen = await box.tool("view", {"path": "pixel"})
            assert [(image.media_type, image.data) for image in seen.images] == [("image/png", pixel)]
            assert "1 x 1 pixels" in seen.content
            cut = await box.tool("view", {"path": "cut"})
            assert (list(cut.images), cut.outcome) == ([], "ok")
            assert "damaged" in cut.content

    run(main)
