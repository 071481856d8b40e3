"""See skilld work, in under a minute and without a key or a network: `make demo`.

It starts the real daemon in a temporary directory, lets the bundled log-analyzer work on one of this machine's logs,
edits a skill while the daemon runs, kills the daemon and finds the conversation again, and leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
LOGS = ("dpkg.log", "syslog", "messages", "apt/history.log", "apt/term.log", "alternatives.log")
READY_S = 30
RELOADED_S = 10
STOPPED_S = 40  # the daemon gives running turns 30 s
MAX_SOCKET_PATH = 100
METRICS = (
    "skilld_sessions{",
    "skilld_turns_total",
    "skilld_tool_duration_seconds_count",
    "skilld_skills_loaded",
    "skilld_journal_commits",
)

EDIT = ('" ".join(words)', '" ".join(words).upper()')
NEXT = (
    ("skilld --skills skills &", "the daemon, for you; offline until ANTHROPIC_API_KEY is set"),
    ('skillctl send "analyze the logs in /var/log"', "a conversation; skillctl send -c ... goes on with it"),
    ("skillctl skills list", "edit one of them: the next turn uses the edit"),
)


class DemoError(Exception):
    """Something did not happen as it should; the text says what."""


class Demo:
    """One run: a temporary directory, a copy of the bundled skills, and the daemon that uses them."""

    def __init__(self, place: Path) -> None:
        """Copy the bundled skills to `place`; nothing runs yet."""
        self.place = place
        self.socket = place / "skilld.sock"
        self.skills = place / "skills"
        self.log = place / "skilld.log"
        self.daemon: subprocess.Popen[bytes] | None = None
        bundled = next(path for path in (ROOT / "skills", Path(sys.prefix) / "share/skilld/skills") if path.is_dir())
        shutil.copytree(bundled, self.skills, ignore=shutil.ignore_patterns("__pycache__"))
        # No key of the user's, no configuration of the user's: the demo costs nothing and changes nothing.
        self.environment = {name: os.environ[name] for name in ("PATH", "LANG", "TERM", "TZ") if name in os.environ}
        self.environment |= {"HOME": str(place), "SKILLD_SOCKET": str(self.socket)}

    def start(self) -> None:
        """Start the daemon and wait until it is ready.

        Raises:
            DemoError: it ended, or was not ready in time.

        """
        arguments = ["--socket", self.socket, "--state-dir", self.place / "state", "--skills", self.skills]
        command = [program("skilld"), *map(str, arguments)]
        say("$ skilld " + " ".join(command[1:]) + " &")
        began_s = time.monotonic()
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stderr=log, stdout=log, env=self.environment
            )
        while self.ask("health").returncode:
            if self.daemon.poll() is not None:
                raise DemoError(f"the daemon ended with exit code {self.daemon.returncode}")
            if time.monotonic() - began_s > READY_S:
                raise DemoError(f"the daemon was not ready within {READY_S} s")
            time.sleep(0.05)
        say(f"  ready after {time.monotonic() - began_s:.1f} s, process {self.daemon.pid}")

    def kill(self) -> None:
        """End the daemon by SIGKILL, which it can neither notice nor delay."""
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()

    def stop(self) -> None:
        """Stop the daemon by SIGTERM.

        Raises:
            DemoError: it did not end in time or not with exit code 0, or something of it is still running.

        """
        if self.daemon is None:
            return
        say(f"$ kill {self.daemon.pid}")
        self.daemon.terminate()
        try:
            code = self.daemon.wait(STOPPED_S)
        except subprocess.TimeoutExpired:
            raise DemoError(f"the daemon did not stop within {STOPPED_S} s") from None
        if code:
            raise DemoError(f"the daemon stopped with exit code {code}, not 0")
        if left := self.left_running():
            raise DemoError(f"still running: {left}")
        say("  exit code 0; no process of it is left")

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run skillctl and give what it prints, without showing it."""
        command = [program("skillctl"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=60)

    def show(self, *arguments: str) -> str:
        """Run skillctl, showing what it prints as it comes; gives the same.

        Raises:
            DemoError: it failed.

        """
        say("$ skillctl " + " ".join(f'"{word}"' if " " in word else word for word in arguments))
        command = [program("skillctl"), *arguments]
        printed = b""
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.environment
        ) as process:
            assert process.stdout is not None
            while piece := os.read(process.stdout.fileno(), 65536):
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
                printed += piece
        if process.returncode:
            raise DemoError(f"skillctl {arguments[0]} ended with exit code {process.returncode}")
        return printed.decode("utf-8", "replace")

    def digest(self, skill: str) -> str:
        """Which content of a skill the daemon uses now."""
        return str(json.loads(self.ask("skills", "show", skill, "--json").stdout)["digest"])

    def left_running(self) -> list[str]:
        """Processes that were started for this demo, by the temporary directory in what the kernel knows of them."""
        mark, found = os.fsencode(self.place), []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                facts = [
                    (entry / "cmdline").read_bytes(),
                    (entry / "environ").read_bytes(),
                    os.fsencode(os.readlink(entry / "cwd")),
                ]
            except OSError:
                continue  # it ended meanwhile, or is somebody else's
            if int(entry.name) != os.getpid() and any(mark in fact for fact in facts):
                found.append(f"{entry.name} {facts[0].replace(bytes(1), b' ').decode('utf-8', 'replace').strip()}")
        return found


def program(name: str) -> str:
    """The program of that name that belongs to the Python running this."""
    path = Path(sys.executable).parent / name
    return str(path) if path.exists() else fail(f"{path} is missing; run: make setup")


def fail(text: str) -> NoReturn:
    """Raise DemoError."""
    raise DemoError(text)


def say(text: str) -> None:
    """Print a line of our own at once, so that it keeps its place among what the programs print."""
    print(text, flush=True)


def title(text: str) -> None:
    """Print the heading of a part."""
    say(f"\n--- {text}")


def real_log() -> Path | None:
    """A log of this machine that has something in it."""
    paths = (Path("/var/log") / name for name in LOGS)
    return next((path for path in paths if os.access(path, os.R_OK) and path.stat().st_size), None)


def tell(demo: Demo) -> None:
    """Run all parts.

    Raises:
        DemoError: one of them did not do what it is there to show.

    """
    title("Start the daemon in a temporary directory, without a key and without a network")
    demo.start()

    title("A message that a skill on disk answers")
    log = real_log() or demo.log
    answer = demo.show("send", "--new", f"analyze the log {log}")
    if "error rate" not in answer:
        raise DemoError(f"the log-analyzer did not report on {log}")
    match = re.search(r"\bses_[a-z2-7]{26}\b", answer) or fail("skillctl did not name the new conversation")
    session = match.group()

    title("Edit a skill while the daemon runs; the next turn uses the edit")
    demo.show("send", "-s", session, "/echo hello")
    edit(demo)
    if "HELLO AGAIN" not in demo.show("send", "-s", session, "/echo hello again"):
        raise DemoError("the turn after the edit did not use it")

    title("Kill the daemon with SIGKILL, start it again: the conversation is there and goes on")
    say(f"$ kill -9 {demo.daemon.pid if demo.daemon else ''}")
    demo.kill()
    demo.start()
    if str(log) not in demo.show("show", session):
        raise DemoError("the conversation was not there after the restart")
    demo.show("send", "-s", session, "/echo still here")

    title("What it measured")
    say("$ skillctl metrics")
    for line in demo.ask("metrics").stdout.splitlines():
        if line.startswith(METRICS) and "_created" not in line:
            say(f"  {line}")

    title("Stop it")
    demo.stop()


def edit(demo: Demo) -> None:
    """Make the echo skill answer in capitals, and wait until the daemon has noticed.

    Raises:
        DemoError: it did not notice in time.

    """
    script = demo.skills / "echo/scripts/echo.py"
    before = demo.digest("echo")
    text = script.read_text(encoding="utf-8")
    edited = text.replace(*EDIT)
    if edited == text:
        raise DemoError(f"{script} no longer holds {EDIT[0]}")
    script.write_text(edited, encoding="utf-8")
    say(f"in skills/echo/scripts/echo.py, {EDIT[0]} becomes {EDIT[1]}")
    began_s = time.monotonic()
    while demo.digest("echo") == before:
        if time.monotonic() - began_s > RELOADED_S:
            raise DemoError(f"the edit was not noticed within {RELOADED_S} s")
        time.sleep(0.05)
    say(f"  noticed after {time.monotonic() - began_s:.1f} s")


def main() -> int:
    """Run the demo; 0 when everything happened as told, 1 otherwise."""
    began_s = time.monotonic()
    temporary = tempfile.gettempdir()
    place = Path(
        tempfile.mkdtemp(prefix="skilld-demo-", dir=temporary if len(temporary) < MAX_SOCKET_PATH - 40 else "/tmp")
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    demo = Demo(place)
    try:
        tell(demo)
    except (DemoError, OSError, subprocess.SubprocessError, ValueError) as error:
        say(f"\ndemo: {error}")
        if demo.log.exists():
            say("the daemon's log ends:\n" + "\n".join(demo.log.read_text("utf-8", "replace").splitlines()[-20:]))
        return 1
    finally:
        demo.kill()
        shutil.rmtree(place, ignore_errors=True)
    say(f"\nDone in {time.monotonic() - began_s:.0f} s; {place} is removed. Try next:\n")
    folder = os.path.relpath(Path(sys.executable).parent)
    for command, meaning in NEXT:
        say(f"  {folder}/{command:<52} # {meaning}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
