"""skillctl chat as a person uses it: at a terminal, with the real daemon."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.harness import Daemon, clean_environment, program, running, write_skill
from terminal_kit import SOON_S, Terminal, at_terminal

pytestmark = pytest.mark.e2e

SLOW = "import sys, time\nprint('begun', flush=True)\ntime.sleep(60)\n"


@contextmanager
def terminal(daemon: Daemon, *arguments: str) -> Iterator[Terminal]:
    home = daemon.folder / "home"
    home.mkdir(exist_ok=True)
    command = [*program("skillctl"), f"--socket={daemon.socket}", "chat", *arguments]
    env = clean_environment(TERM="dumb", HOME=str(home), XDG_STATE_HOME=str(home / "state"))
    with at_terminal(command, env) as at:
        yield at


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("chat")
    write_skill(folder / "skills", "hello", "import sys\nprint('hello,', *sys.argv[1:])\n")
    write_skill(folder / "skills", "slow", SLOW)
    with running(folder, skills=[folder / "skills"]) as daemon:
        yield daemon


def test_a_conversation_of_several_messages_and_a_clean_leave(daemon: Daemon) -> None:
    with terminal(daemon) as at:
        at.until("> ")
        at.type("/hello you\n")
        at.until(r"session ses_\w+")
        at.until("hello, you")
        at.until("> ")
        at.type("/hello once \\\nmore\n")
        at.until("hello, once more")
        at.until("> ")
        at.type(":session\n")
        session = re.search(r"ses_[a-z0-9]+", at.until(r"ses_[a-z0-9]+\s"))
        assert session
        at.until("> ")  # before it reads, the end of the input would be lost with the terminal's own line
        at.type("\x04")
        assert at.process.wait(SOON_S) == 0
    texts = [event["data"]["text"] for event in daemon.events(session[0]) if event["type"] == "turn.queued"]
    assert texts == ["/hello you", "/hello once \nmore"]
    remembered = daemon.folder / "home/state/skilld/chat_history"
    assert "/hello you" in remembered.read_text()
    assert remembered.stat().st_mode & 0o777 == 0o600


def test_ctrl_c_cancels_the_turn_and_not_the_program(daemon: Daemon) -> None:
    with terminal(daemon, "--no-history") as at:
        at.until("> ")
        at.type("/slow\n")
        at.until(r"\[bash_tool\]")
        at.interrupt()
        at.until("cancelled")
        at.until("> ")
        at.type("half a message")
        at.until("half a message")
        at.interrupt()
        at.until("> ")
        at.type("/hello again\n")
        at.until("hello, again")
        at.type(":quit\n")
        assert at.process.wait(SOON_S) == 0


def test_what_cannot_be_done_is_said_and_the_conversation_goes_on(daemon: Daemon) -> None:
    with terminal(daemon, "--no-history") as at:
        at.until("> ")
        at.type(":nonsense\n")
        at.until("there is no :nonsense; there are :approval, ")
        at.type(":he\n")
        at.until("Ctrl-D leaves")
        at.type(":skills\n")
        at.until("/hello: A skill for a test")
        at.type('"""\nfirst\n\nlast\n"""\n')
        at.until(r"session ses_\w+")
        at.until(r"\$0\.00")
        at.type(":new\n")
        at.until("begins another")
        at.type("/hel\t there\n")
        at.until("hello, there")


def test_lines_of_a_pipe_are_messages(daemon: Daemon) -> None:
    command = [*program("skillctl"), f"--socket={daemon.socket}", "chat"]
    said = b"/hello one\n\n/hello two\n"
    done = subprocess.run(command, input=said, capture_output=True, env=clean_environment(), timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^hello, (\w+)$", done.stdout.decode(), re.MULTILINE) == ["one", "two"]


def test_a_daemon_that_is_away_is_said_and_can_come_back(daemon: Daemon) -> None:
    with terminal(daemon, "--no-history") as at:
        at.until("> ")
        at.type("/hello first\n")
        at.until("hello, first")
        daemon.stop()
        at.until("> ")
        at.type("/hello lost\n")
        at.until("skillctl: error")
        daemon.start()
        at.until("> ")
        at.type("/hello back\n")
        at.until("hello, back")
        at.process.send_signal(signal.SIGTERM)
