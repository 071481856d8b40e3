"""Control groups: found where the kernel says, and nothing put into one gets out alive."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skill_actors.backends import cgroups
from skill_actors.backends.resident import find_nest
from skill_actors.backends.survivors import marked

V2 = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
HYBRID = """\
31 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 23 0:28 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
33 23 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""

FREE = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve("/bin/sleep", ["sleep", "600"], {})
    os._exit(0)
time.sleep(600)
"""

# Each process has one child and dies: nobody stands still long enough to be named by its number.
BOMB = """
import os, time
for _ in range(30):
    if os.fork() == 0:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            if os.fork():
                os._exit(0)
            os.setsid()
        os._exit(0)
time.sleep(600)
"""


@pytest.fixture(params=["v2", "freezer"])
def home(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A group in which groups may be made, of either version."""
    place: Path | None = None
    for candidate in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/freezer")):
        wanted = "cgroup.kill" if request.param == "v2" else "freezer.state"
        if (made := cgroups.make(candidate, f"skilld-test-{secrets.token_hex(4)}")) is not None:
            if (made / wanted).exists():
                place = made
                break
            cgroups.end(made)
    if place is None:
        pytest.skip(f"no control group of kind {request.param} may be made here")
    yield place
    assert cgroups.end(place) == 0


def enter(group: Path, code: str) -> subprocess.Popen[bytes]:
    """A Python process that lives in the group."""
    join = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')"
    return subprocess.Popen([sys.executable, "-I", "-S", "-c", f"{join}\n{code}"])


def wait_for(condition: object, limit_s: float = 30.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("mounts", "own", "expected"),
    [
        (V2, "0::/user.slice/x.service\n", "/sys/fs/cgroup/user.slice/x.service"),
        (V2, "0::/\n", "/sys/fs/cgroup"),
        (HYBRID, "2:freezer:/a\n1:memory:/b\n0::/c\n", "/sys/fs/cgroup/unified/c"),
        (HYBRID.rsplit("33", 1)[0], "2:freezer:/a\n1:memory:/b\n", "/sys/fs/cgroup/freezer/a"),
        ("30 23 0:26 /x /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/x/y\n", "/sys/fs/cgroup/y"),
        ("30 23 0:26 / /with\\040space rw - cgroup2 cgroup2 rw\n", "0::/y\n", "/with space/y"),
        ("30 23 0:26 /../other /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/y\n", None),
        ("", "0::/x\n", None),
        (HYBRID, "", None),
    ],
)
def test_the_own_group_is_where_the_kernel_says(tmp_path: Path, mounts: str, own: str, expected: str | None) -> None:
    (tmp_path / "cgroup").write_text(own)
    (tmp_path / "mountinfo").write_text(mounts)
    assert cgroups.find_home(tmp_path) == (None if expected is None else Path(expected))


def test_a_place_that_is_no_control_group_gives_none_and_keeps_no_folder(tmp_path: Path) -> None:
    assert cgroups.make(tmp_path, "group") is None
    assert list(tmp_path.iterdir()) == []
    assert cgroups.make(None, "group") is None
    assert cgroups.make(Path("/proc"), "group") is None


def test_daemons_without_any_mark_die_with_their_group(home: Path) -> None:
    group = cgroups.make(home, "runner")
    assert group is not None
    process = enter(group, FREE)
    wait_for(lambda: len(cgroups.members(group)) == 2)
    assert cgroups.end(group) == 0
    assert process.wait(30) == -signal.SIGKILL
    assert not group.exists()
    assert cgroups.end(group) == 0  # twice does no harm


def test_a_fork_bomb_dies_with_its_group(home: Path) -> None:
    group = cgroups.make(home, "bomb")
    assert group is not None
    process = enter(group, BOMB)
    wait_for(lambda: len(cgroups.members(group)) > 20)
    assert cgroups.end(group) == 0
    assert process.wait(30) == -signal.SIGKILL


def test_a_sweep_ends_the_groups_of_one_owner_only(home: Path) -> None:
    mine, other = cgroups.make(home, "skilld-me.1"), cgroups.make(home, "skilld-you.1")
    assert mine is not None
    assert other is not None
    processes = [enter(mine, "import time; time.sleep(600)"), enter(other, "import time; time.sleep(600)")]
    wait_for(lambda: cgroups.members(mine) and cgroups.members(other))
    assert cgroups.sweep(home, "skilld-me.") == 1
    assert processes[0].wait(30) == -signal.SIGKILL
    assert processes[1].poll() is None
    cgroups.end(other)
    assert processes[1].wait(30) == -signal.SIGKILL


def test_what_an_earlier_life_left_is_found_by_its_owner_even_without_groups() -> None:
    owner = secrets.token_hex(8)
    left = subprocess.Popen(["sleep", "600"], env={"SKILLD_RUNNER": f"{owner}.1234"})
    others = subprocess.Popen(["sleep", "600"], env={"SKILLD_RUNNER": f"{owner}0.1234"})
    wait_for(lambda: marked(f"SKILLD_RUNNER={owner}.1234") == [left.pid])
    wait_for(lambda: marked(f"SKILLD_RUNNER={owner}0.1234") == [others.pid])
    find_nest(owner)
    assert left.wait(30) == -signal.SIGKILL
    assert others.poll() is None
    os.kill(others.pid, signal.SIGKILL)
    others.wait(30)
