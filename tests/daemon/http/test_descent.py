"""Who has started a process, by what the kernel says, and what counts where it says something else meanwhile."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from skill_actors.backends.processes import started_at
from skill_actors.backends.programs import Programs
from skilld.http.descent import Ancestor, Ancestry, chain_of
from skilld.http.peer import Peer, PeerRefused, read_peer

STRANGER = 65_534


def write(
    proc: Path,
    pid: int,
    parent: int,
    started: int,
    name: str = "sh",
    *,
    session: int = 1,
    bound: bool = False,
    queue: str = "819200",
) -> None:
    (proc / str(pid)).mkdir(exist_ok=True)
    fields = " ".join(["S", str(parent), "1", str(session), *["1"] * 15, str(started)])
    (proc / f"{pid}/stat").write_text(f"{pid} ({name}) {fields} 0 0")
    (proc / f"{pid}/status").write_text(f"Name:\tsh\nNoNewPrivs:\t{int(bound)}\n")
    (proc / f"{pid}/limits").write_text(
        f"Max msgqueue size         {queue}               {queue}               bytes\n"
    )


class Connection:
    """Gives no descriptor of its peer, as an old kernel."""

    def getsockopt(self, level: int, optname: int) -> int:
        raise OSError(92, "Protocol not available")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """50 is the daemon, 60 a launcher, 70 its program and 80 what that has started; 90 is somebody else's."""
    for pid, parent in ((1, 0), (50, 1), (60, 50), (70, 60), (80, 70), (90, 1)):
        write(tmp_path, pid, parent, pid * 10, name=") S 1 (")
    return tmp_path


def peer(pid: int, uid: int = 1000) -> Peer:
    return Peer(uid=uid, gid=uid, pid=pid)


def told(proc: Path, pid: int, *, uid: int = 1000, programs: Programs | None = None, own_uid: int = 1000) -> Peer:
    return Ancestry(programs or Programs(), 50, own_uid, proc).told_of(peer(pid, uid), Connection())


class Known(Programs):
    """The launcher 60 serves an agent."""

    def __init__(self, started: int = 600) -> None:
        super().__init__()
        self._agents[60, started] = "ses_a"


def test_a_chain_is_read_up_to_the_first_process(proc: Path) -> None:
    found = chain_of(80, proc)
    assert found is not None
    assert [each.pid for each in found] == [80, 70, 60, 50, 1]
    assert found[0] == Ancestor(80, 70, 800)
    assert chain_of(81, proc) is None


def test_whoever_descends_from_a_launcher_acts_for_its_agent(proc: Path) -> None:
    for pid in (60, 70, 80):
        found = told(proc, pid, programs=Known())
        assert (found.agent, found.own, found.uid) == ("ses_a", True, 1000)
    for pid in (1, 50, 90):
        found = told(proc, pid, programs=Known())
        assert (found.agent, found.own) == (None, False)


def test_what_the_daemon_has_started_otherwise_is_its_own_and_no_agents(proc: Path) -> None:
    found = told(proc, 70)
    assert (found.agent, found.own) == (None, True)


@pytest.mark.parametrize(("session", "bound"), [(60, False), (1, True), (77, False), (60, True)])
def test_what_the_daemon_has_adopted_is_served_to_nobody(proc: Path, session: int, bound: bool) -> None:
    """60 is in a session of its own and free of bounds only if the daemon has started it itself."""
    write(proc, 60, 50, 600, session=session, bound=bound)
    if (session, bound) == (60, False):
        assert told(proc, 80).own
        return
    for pid in (60, 80):
        with pytest.raises(PeerRefused, match="was left by"):
            told(proc, pid)
    assert told(proc, 80, programs=Known()).agent == "ses_a"  # a launcher there is


@pytest.mark.parametrize("above", ["819201", "unlimited"])
def test_a_daemon_that_is_bound_itself_tells_the_adopted_by_session_and_mark(proc: Path, above: str) -> None:
    write(proc, 50, 1, 500, session=50, bound=True, queue=above)
    write(proc, 60, 50, 600, session=60, bound=True, queue=above)
    assert told(proc, 80).own
    for session, queue in ((77, above), (60, "819200")):
        write(proc, 60, 50, 600, session=session, bound=True, queue=queue)
        with pytest.raises(PeerRefused, match="was left by"):
            told(proc, 80)


def test_another_process_with_the_number_of_a_launcher_is_none(proc: Path) -> None:
    assert told(proc, 80, programs=Known(started=599)).agent is None


def test_a_chain_that_changes_while_it_is_read_is_read_again(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """70 ends after 80 was read, its number goes to a process of somebody else, and 80 goes to the launcher."""
    read = Path.read_bytes
    seen: list[str] = []

    def reading(path: Path) -> bytes:
        data = read(path)
        seen.append(path.parent.name)
        if seen == ["80"]:
            write(proc, 70, 90, 701)
            write(proc, 80, 60, 800)
        return data

    monkeypatch.setattr(Path, "read_bytes", reading)
    found = told(proc, 80, programs=Known())
    assert found.agent == "ses_a"
    assert seen.count("80") >= 3


def test_a_chain_that_never_holds_still_is_refused(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, times = Path.read_bytes, iter(range(1000, 9999))

    def reading(path: Path) -> bytes:
        data = read(path)
        if path.parent.name == "70":
            write(proc, 70, 60, next(times))
        return data

    monkeypatch.setattr(Path, "read_bytes", reading)
    with pytest.raises(PeerRefused, match="has ended"):
        told(proc, 80, programs=Known())


def test_what_is_gone_is_refused_to_whom_it_could_have_been(proc: Path) -> None:
    with pytest.raises(PeerRefused, match="has ended"):
        told(proc, 99)
    with pytest.raises(PeerRefused, match="has ended"):
        told(proc, 99, uid=1001, own_uid=0)  # root can become anybody
    assert not told(proc, 99, uid=1001).own  # nothing of the daemon's runs as another user
    assert not told(proc, 0).own  # of a namespace above ours


def test_a_parent_that_is_hidden_ends_the_chain(proc: Path) -> None:
    (proc / "1/stat").unlink()
    assert told(proc, 90).agent is None
    assert told(proc, 80, programs=Known()).agent == "ses_a"


def test_a_tree_that_has_no_end_is_refused(proc: Path) -> None:
    write(proc, 1, 80, 10)
    with pytest.raises(PeerRefused):
        told(proc, 80, programs=Known())


def test_the_kernel_says_whether_the_process_that_connected_still_lives() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        found = Ancestry(Programs(), os.getpid(), os.getuid()).told_of(read_peer(ours, STRANGER), ours)
    assert (found.pid, found.own) == (os.getpid(), False)  # the process itself is nothing that it has started


def test_a_launcher_is_known_while_it_serves_and_no_longer() -> None:
    programs = Programs()
    with subprocess.Popen(["sleep", "60"]) as child:
        started = started_at(child.pid)
        assert started is not None
        with programs.running(child.pid, "ses_a"):
            assert programs.agent_of(child.pid, started) == "ses_a"
            assert programs.agent_of(child.pid, started + 1) is None
            with programs.running(child.pid, ""):
                assert programs.agent_of(child.pid, started) == "ses_a"
        assert programs.agent_of(child.pid, started) is None
        child.kill()
    assert started_at(child.pid) is None
    with programs.running(child.pid, "ses_b"):
        assert programs.agent_of(child.pid, started) is None
