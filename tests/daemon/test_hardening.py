"""Nobody but root looks into the daemon's memory, and it never goes to a file."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from conftest import require

LOOKER = """
import os, sys
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
def tried(action):
    try:
        return len(action())
    except OSError as error:
        return type(error).__name__
pid = sys.argv[1]
print(tried(lambda: open(f"/proc/{pid}/environ", "rb").read()), tried(lambda: os.listdir(f"/proc/{pid}/fd")),
      tried(lambda: open(f"/proc/{pid}/mem", "rb").read(0) or "opened"))
"""
SECRETIVE = """
import ctypes, os, sys
sys.path[:] = sys.argv[2].split(os.pathsep)
from skilld.hardening import forbid_dumps
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # as after an exec: a change of the user alone is undumpable already
if sys.argv[1] == "forbid":
    forbid_dumps()
print(open("/proc/self/limits").read().partition("Max core file size")[2].split()[:2], flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("way", ["leave", "forbid"])
def test_a_process_of_the_same_user_cannot_look_into_it(way: str) -> None:
    require(os.geteuid() == 0, "needs root to become somebody else")
    environment = {"KEY": "canary-of-the-key", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", SECRETIVE, way, os.pathsep.join(sys.path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as secretive:
        assert secretive.stdout is not None
        limits = secretive.stdout.readline().strip()
        looked = subprocess.run(
            [sys.executable, "-c", LOOKER, str(secretive.pid)], capture_output=True, text=True, check=True
        )
        secretive.communicate()
    found = looked.stdout.split()
    if way == "forbid":
        assert (found, limits) == (["PermissionError"] * 3, "['0', '0']")
    else:
        assert int(found[0]) > 0, "what makes this a test: otherwise all of it can be read"
        assert int(found[1]) > 0
