"""The bundle for somebody who helps: what is in it, and that nothing that was said and no secret is."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from e2e.harness import running, write_skill

pytestmark = pytest.mark.e2e

CANARY = "canary-4711"
KEY = "sk-ant-api03-" + "k" * 40


def test_it_has_the_state_of_the_daemon_and_nothing_that_was_said(tmp_path: Path) -> None:
    write_skill(tmp_path / "skills", "hello", f"print('{CANARY}')\n", description=f"Says {CANARY}.")
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    config = f'[model]\nprovider = "offline"\napi_key_file = "{tmp_path}/key"\n'
    config += f'[backends.local]\nenvironment = {{ TOKEN = "{CANARY}" }}\n'
    with running(tmp_path, skills=[tmp_path / "skills"], config=config) as daemon:
        session = daemon.create(title=CANARY, system=CANARY, labels={"about": CANARY})
        daemon.ask(session, f"/hello {CANARY}")
        target = tmp_path / "bundle.tar.gz"
        flags = ["debug", "bundle", "-o", str(target), "--config", str(tmp_path / "skilld.toml")]
        done = daemon.skillctl(*flags, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["file"] == str(target)
        assert target.stat().st_mode & 0o777 == 0o600
        again = daemon.skillctl(*flags)
        assert (again.returncode, "File exists" in again.stderr) == (1, True), "what is there is not replaced"
    with tarfile.open(target) as archive:
        parts = {Path(entry.name).name: archive.extractfile(entry) for entry in archive}
        texts = {name: part.read().decode() for name, part in parts.items() if part is not None}
    assert set(texts) == {
        *("versions.json", "config.json", "doctor.json", "host.json", "status.json", "tree.json", "backends.json"),
        *("skills.json", "metrics.txt", "log.txt"),
    }
    assert json.loads(texts["status.json"])["state_dir"] == str(daemon.state)
    assert json.loads(texts["skills.json"])["skills"][0]["name"] == "hello"
    assert json.loads(texts["config.json"])["config"]["backends"]["local"]["environment"] == {"TOKEN": "(not shown)"}
    assert "skilld_turns_total" in texts["metrics.txt"]
    whole = "".join(texts.values())
    assert CANARY not in whole
    assert KEY not in whole


def test_without_a_daemon_it_says_what_could_not_be_had(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        daemon.stop()
        target = tmp_path / "bundle.tar.gz"
        done = daemon.skillctl("debug", "bundle", "-o", str(target))
        assert done.returncode == 0, done.stderr
    with tarfile.open(target) as archive:
        part = archive.extractfile("skilld-debug/status.json")
        assert part is not None
        assert "cannot reach the daemon" in json.load(part)["not_available"]
