"""The socket file: who may have it, and what happens to one that is there already."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from conftest import require
from skilld.http import ListenerError, SocketInUse, open_listener


def test_the_socket_and_a_folder_made_for_it_belong_to_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "run" / "s.sock"
    listener = open_listener(path, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    listener.close()
    listener.close()
    assert not path.exists()


def test_a_shared_socket_is_open_to_connections(tmp_path: Path) -> None:
    path = tmp_path / "run" / "s.sock"
    listener = open_listener(path, {}, shared=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    listener.close()


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    listener = open_listener(path, {})
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()


def test_a_live_socket_of_a_second_daemon_is_neither_taken_nor_unlinked(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    first = open_listener(path, {})
    with pytest.raises(SocketInUse, match="another skilld holds"):
        open_listener(path, {})
    assert path.exists()
    first.close()


def test_a_live_socket_of_a_stranger_without_our_lock_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(path))
        stranger.listen(0)
        with pytest.raises(SocketInUse, match="somebody listens"):
            open_listener(path, {})
        assert path.exists()


def test_a_live_socket_whose_backlog_is_full_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as stranger, socket.socket(socket.AF_UNIX) as waiting:
        stranger.bind(str(path))
        stranger.listen(0)
        waiting.connect(str(path))
        with pytest.raises(SocketInUse):
            open_listener(path, {})


def test_closing_leaves_a_socket_that_somebody_else_has_put_there(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    listener = open_listener(path, {})
    path.unlink()
    path.write_text("other")
    listener.close()
    assert path.read_text() == "other"


def test_an_ordinary_file_in_its_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    path.write_text("mine")
    with pytest.raises(ListenerError, match="is no socket"):
        open_listener(path, {})
    assert path.read_text() == "mine"


def test_a_link_as_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ListenerError, match="not a real folder"):
        open_listener(tmp_path / "link" / "s.sock", {})


def test_a_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(ListenerError, match="writable by others"):
        open_listener(folder / "s.sock", {})


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    require(os.geteuid() == 0, "needs root to give a folder away")
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    with pytest.raises(ListenerError, match="belongs to uid 12345"):
        open_listener(folder / "s.sock", {})


def test_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ListenerError, match="107"):
        open_listener(tmp_path / ("x" * 120), {})


def test_a_socket_passed_by_systemd_is_taken_and_its_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "systemd.sock"
    child = os.fork()
    if child == 0:
        os._exit(_use_passed(path))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert path.exists()


def _use_passed(path: Path) -> int:
    """In a child of its own, since the passed socket has to be descriptor 3."""
    try:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        sock.listen()
        os.dup2(sock.fileno(), 3)
        listener = open_listener(path, {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})
        ours = listener.activated and listener.path == path
        listener.close()
        return 0 if ours else 1
    except BaseException:
        return 2


def test_sockets_passed_to_another_process_are_not_touched(tmp_path: Path) -> None:
    listener = open_listener(tmp_path / "s.sock", {"LISTEN_PID": "1", "LISTEN_FDS": "1"})
    assert not listener.activated
    listener.close()


def test_two_passed_sockets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ListenerError, match="passed 2 sockets"):
        open_listener(tmp_path / "s.sock", {"LISTEN_PID": "7", "LISTEN_FDS": "2"}, pid=7)
