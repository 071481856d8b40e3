"""The real daemon as a process, and the ways a user reaches it: httpx, curl and skillctl."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

READY_S = 60.0
JSON = dict[str, Any]


def program(name: str) -> list[str]:
    """How to start one of our programs with the interpreter that runs the tests."""
    beside = Path(sys.executable).with_name(name)
    if beside.exists():
        return [str(beside)]
    return [sys.executable, "-m", {"skilld": "skilld", "skillctl": "skilld.cli"}[name]]


def clean_environment(**extra: str) -> dict[str, str]:
    """The test's environment without anything that would make the daemon behave differently elsewhere."""
    kept = {k: v for k, v in os.environ.items() if not re.match(r"SKILLD_|ANTHROPIC_|XDG_|NOTIFY_|LISTEN_|COV_", k)}
    return {**kept, **extra}


class Daemon:
    """One skilld process with its own folder. Started by `running` or `start`; may be killed and started again."""

    def __init__(
        self,
        folder: Path,
        *,
        skills: Sequence[Path] = (),
        config: str = "",
        env: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
    ) -> None:
        self._within = within  # the command that starts it, such as "unshare --net"
        self.folder = folder
        self.socket = folder / "s.sock"
        self.state = folder / "state"
        self.log = folder / "skilld.log"
        self._env = clean_environment(**dict(env or {}))
        self._arguments = [f"--socket={self.socket}", f"--state-dir={self.state}", *(f"--skills={p}" for p in skills)]
        if config:
            file = folder / "skilld.toml"
            file.write_text(config)
            self._arguments.append(f"--config={file}")
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start the process, and no more."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._within, *program("skilld"), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                cwd=self.folder,
                start_new_session=True,
            )

    def start(self) -> Daemon:
        """Start and wait until it answers that it is ready."""
        self.launch()
        assert self.process is not None
        deadline = time.monotonic() + READY_S
        while not self._is_ready():
            if self.process.poll() is not None:
                raise AssertionError(f"skilld ended with {self.process.returncode}:\n{self.log.read_text()}")
            assert time.monotonic() < deadline, f"not ready after {READY_S} s:\n{self.log.read_text()}"
            time.sleep(0.02)
        return self

    def listens(self) -> bool:
        """Whether a connect succeeds. To be asked before httpx is used, which leaks the socket of one that fails."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.socket))
            except OSError:
                return False
        return True

    def _is_ready(self) -> bool:
        if not self.listens():
            return False
        with self.http() as http:
            return http.get("/v1/health/ready").status_code == 200

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL, as a power cut or an out-of-memory killer would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    def stop(self, timeout_s: float = 45.0) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"skilld did not stop in {timeout_s} s:\n{self.log.read_text()[-4000:]}") from None

    def http(self, timeout_s: float = 30.0) -> httpx.Client:
        # verify=False and trust_env=False: a TLS context costs 20 ms, and there is no TLS on a Unix socket.
        transport = httpx.HTTPTransport(uds=str(self.socket), verify=False, trust_env=False)
        return httpx.Client(transport=transport, base_url="http://skilld", timeout=timeout_s, trust_env=False)

    def curl(self, *arguments: str) -> tuple[int, str]:
        """Status and body by curl over the socket."""
        done = subprocess.run(
            ["curl", "-sS", "--unix-socket", str(self.socket), "-w", "\n%{http_code}", *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    def skillctl(
        self, *arguments: str, input: str | None = None, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*program("skillctl"), *arguments],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env={**self._env, "SKILLD_SOCKET": str(self.socket)},
            check=False,
        )

    def audited(self) -> list[dict[str, Any]]:
        """The lines of the audit log that are whole by now: they are written behind the answers."""
        whole, _, _ = (self.state / "audit/audit.log").read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    # What most tests do, over httpx.

    def create(self, **settings: Any) -> str:
        with self.http() as http:
            answer = http.post("/v1/sessions", json=settings)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def post(self, session: str, text: str, key: str | None = None) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        with self.http() as http:
            return http.post(f"/v1/sessions/{session}/messages", json={"text": text}, headers=headers)

    def wait(self, turn: str, wait_s: float = 60) -> JSON:
        with self.http(timeout_s=wait_s + 10) as http:
            answer: JSON = http.get(f"/v1/turns/{turn}", params={"wait": wait_s}).json()
        return answer

    def ask(self, session: str, text: str) -> JSON:
        """Send and wait for the ending; the turn."""
        accepted = self.post(session, text)
        assert accepted.status_code == 202, accepted.text
        turn = self.wait(accepted.json()["turn"])
        assert turn["result"] is not None, turn
        return turn

    def events(self, session: str, after: str = "0") -> list[JSON]:
        """All stored events."""
        with self.http() as http:
            answer = http.get(f"/v1/sessions/{session}/events", params={"after": after, "follow": "false"})
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]


@contextmanager
def running(
    folder: Path,
    *,
    skills: Sequence[Path] = (),
    config: str = "",
    env: Mapping[str, str] | None = None,
    within: Sequence[str] = (),
) -> Iterator[Daemon]:
    """A daemon that is stopped afterwards, and must leave nothing behind."""
    daemon = Daemon(folder, skills=skills, config=config, env=env, within=within)
    try:
        yield daemon.start()
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.stop()


def write_skill(folder: Path, name: str, script: str, description: str = "A skill for a test.") -> Path:
    """A skill with one Python script, which is its entry."""
    root = folder / name
    (root / "scripts").mkdir(parents=True, exist_ok=True)
    _write_whole(root / "SKILL.md", f"---\nname: {name}\ndescription: {description}\n---\n\nRun the script.\n", folder)
    _write_whole(root / "scripts" / "run.py", script, folder)
    return root


def _write_whole(target: Path, text: str, folder: Path) -> None:
    """Replace a file at once: a daemon that watches the folder must not read, and take for the edit, an empty one."""
    aside = folder.with_name(f".{folder.name}.new")
    aside.write_text(text)
    aside.replace(target)


def processes_with(marker: str) -> list[int]:
    """Processes whose command line or environment holds the text."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            facts = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if marker.encode() in facts:
            found.append(int(entry.name))
    return found


def have(command: str) -> bool:
    return shutil.which(command) is not None
