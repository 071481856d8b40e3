"""Where both programs look for the socket and the state."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import require
from skilld import paths


def test_the_daemon_prefers_flag_then_environment_then_file_then_systemd(tmp_path: Path) -> None:
    env = {"SKILLD_SOCKET": "/e/s", "RUNTIME_DIRECTORY": "/run/skilld:/run/other"}
    assert paths.daemon_socket_path(Path("/f/s"), env, 0, Path("/c/s")) == Path("/f/s")
    assert paths.daemon_socket_path(None, env, 0, Path("/c/s")) == Path("/e/s")
    del env["SKILLD_SOCKET"]
    assert paths.daemon_socket_path(None, env, 0, Path("/c/s")) == Path("/c/s")
    assert paths.daemon_socket_path(None, env, 7) == Path("/run/skilld/skilld.sock")


def test_root_and_users_have_their_own_places(tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path), "XDG_STATE_HOME": "/s", "HOME": "/h"}
    assert paths.daemon_socket_path(None, env, 0) == Path("/run/skilld/skilld.sock")
    assert paths.daemon_socket_path(None, env, 1000) == tmp_path / "skilld/skilld.sock"
    assert paths.daemon_socket_path(None, {}, 987_654) == Path("/tmp/skilld-987654/skilld.sock")
    assert paths.state_dir(None, env, 0) == Path("/var/lib/skilld")
    assert paths.state_dir(None, env, 1000) == Path("/s/skilld")
    assert paths.state_dir(None, {"HOME": "/h", "XDG_STATE_HOME": "relative"}, 1000) == Path("/h/.local/state/skilld")
    assert paths.state_dir(None, {"STATE_DIRECTORY": "/var/lib/x"}, 5) == Path("/var/lib/x")


def test_a_path_is_refused_above_107_bytes_not_characters() -> None:
    longest = Path("/" + "x" * 106)
    assert paths.check_socket_path(longest) == longest
    for name in ("/" + "x" * 107, "/" + "é" * 54):
        with pytest.raises(paths.PathError, match="107"):
            paths.check_socket_path(Path(name))


def test_a_client_takes_the_users_socket_only_while_somebody_listens(tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    own = tmp_path / "skilld/skilld.sock"
    own.parent.mkdir()
    uid = 987_654 if os.geteuid() == 0 else os.getuid()
    assert paths.find_socket(None, env, uid) == Path("/run/skilld/skilld.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(own))
        assert paths.find_socket(None, env, uid) == Path("/run/skilld/skilld.sock")  # stale: nobody listens
        server.listen()
        assert paths.find_socket(None, env, uid) == own
    assert paths.find_socket(Path("/f"), env, uid) == Path("/f")
    assert paths.find_socket(None, {"SKILLD_SOCKET": "/e"}, uid) == Path("/e")


def test_a_client_takes_no_socket_that_somebody_else_can_have_put_there(tmp_path: Path) -> None:
    require(os.geteuid() == 0, "needs root to give a folder away")
    env, uid = {"XDG_RUNTIME_DIR": str(tmp_path)}, 987_654
    own = tmp_path / "skilld/skilld.sock"
    own.parent.mkdir(mode=0o755)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(own))
        server.listen()
        for owner, mode, found in (
            (uid, 0o700, own),
            (uid, 0o777, Path("/run/skilld/skilld.sock")),
            (uid + 1, 0o755, Path("/run/skilld/skilld.sock")),
        ):
            os.chown(own.parent, owner, owner)
            own.parent.chmod(mode)
            assert paths.find_socket(None, env, uid) == found
        own.parent.rename(tmp_path / "elsewhere")
        own.parent.symlink_to(tmp_path / "elsewhere")
        assert paths.find_socket(None, env, uid) == Path("/run/skilld/skilld.sock")


def test_the_users_own_configuration_is_found(tmp_path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert paths.find_config(env, 1000) is None
    (tmp_path / "skilld").mkdir()
    (tmp_path / "skilld/skilld.toml").touch()
    assert paths.find_config(env, 1000) == tmp_path / "skilld/skilld.toml"


def test_shipped_data_is_found() -> None:
    folder = paths.data_dir("etc")
    assert folder is not None
    assert (folder / "skilld.toml").is_file()
    assert paths.data_dir("no-such-folder") is None


def test_the_module_imports_nothing_heavy() -> None:
    code = "import sys, skilld.paths; print([m for m in ('trio', 'pydantic', 'httpx') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "[]"
