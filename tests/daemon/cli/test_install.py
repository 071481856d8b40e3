"""skillctl install and uninstall, as far as they go without a systemd; `tests/e2e/test_systemd_boot.py` has one."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from skilld.cli.app import skillctl
from skilld.cli.failure import EXIT
from skilld.cli.help_pages import help_pages
from skilld.installation import Layout

ROOT = Path(__file__).parents[3]
COMPLETIONS = {
    "bash": "bash-completion/completions/skillctl",
    "zsh": "zsh/site-functions/_skillctl",
    "fish": "fish/vendor_completions.d/skillctl.fish",
}


@pytest.fixture(autouse=True)
def _from_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The data of this checkout, whatever environment runs the tests; a home of the test's own."""
    monkeypatch.setattr("skilld.cli.commands.install.data_dir", lambda name: ROOT / name)
    monkeypatch.setattr("skilld.cli.commands.install._scripts", lambda: Path("/opt/skilld/bin"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "no-manager"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(skillctl, arguments, catch_exceptions=False)


def actions(result: Result) -> dict[str, str]:
    told: dict[str, Any] = json.loads(result.stdout)
    return {Path(item["path"]).name: item["action"] for item in told["files"]}


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_dry_run_says_everything_and_writes_nothing(tmp_path: Path) -> None:
    done = run("install", "--user", "--dry-run")
    assert done.exit_code == EXIT.DONE
    assert f"would create {tmp_path}/config/systemd/user/skilld.service" in done.stdout.splitlines()
    assert files_below(tmp_path) == []


def test_for_a_user_it_installs_and_takes_it_away_again(tmp_path: Path) -> None:
    done = run("install", "--user")
    assert "next: systemctl --user enable --now skilld.socket skilld.service" in done.stdout.splitlines()
    assert files_below(tmp_path) == [
        "config/skilld/.installed.json",
        "config/skilld/skilld.toml",
        "config/systemd/user/skilld.service",
        "config/systemd/user/skilld.socket",
    ]
    unit = (tmp_path / "config/systemd/user/skilld.service").read_text()
    assert "ExecStart=/opt/skilld/bin/skilld " in unit
    assert actions(run("install", "--user", "--json")) == dict.fromkeys(
        ["skilld.service", "skilld.socket", "skilld.toml"], "same"
    )
    assert run("uninstall", "--user", "--dry-run").exit_code == EXIT.DONE
    assert len(files_below(tmp_path)) == 4
    assert "conversations stay in ~/.local/state/skilld" in run("uninstall", "--user").stdout
    assert files_below(tmp_path) == []


def test_what_was_edited_is_named_and_kept(tmp_path: Path) -> None:
    run("install", "--user")
    config = tmp_path / "config/skilld/skilld.toml"
    config.write_text("# mine\n")
    assert f"keep, it was edited: {config}" in run("install", "--user").stdout.splitlines()
    assert f"keep, it was edited: {config}" in run("uninstall", "--user").stdout.splitlines()
    assert files_below(tmp_path) == ["config/skilld/skilld.toml"]
    again = run("install", "--user", "--force")
    assert f"what was there is {config}.old now" in again.stdout.splitlines()


def test_for_a_package_nothing_is_run_and_no_record_is_kept(tmp_path: Path) -> None:
    told = json.loads(run("install", "--root", str(tmp_path), "--bin-dir", "/usr/lib/x/bin", "--json").stdout)
    assert told["commands"] == []
    assert [path for path in files_below(tmp_path) if not path.startswith("usr/share/")] == [
        "etc/skilld/skilld.toml",
        "usr/lib/systemd/system/skilld.service",
        "usr/lib/systemd/system/skilld.socket",
        "usr/lib/sysusers.d/skilld.conf",
    ]
    assert "ExecStart=/usr/lib/x/bin/skilld " in (tmp_path / "usr/lib/systemd/system/skilld.service").read_text()


def test_manual_pages_and_completions_come_with_the_systems_service(tmp_path: Path) -> None:
    run("install", "--root", str(tmp_path), "--bin-dir", "/usr/lib/x/bin")
    run("man", "--all", str(tmp_path / "pages"))
    share = tmp_path / "usr/share"
    pages = {path.name: path.read_text() for path in (share / "man/man1").iterdir()}
    assert pages == {path.name: path.read_text() for path in (tmp_path / "pages").iterdir()}
    for shell, place in COMPLETIONS.items():
        assert (share / place).read_text() == run("completion", shell).stdout
    assert "usr/share" not in run("install", "--user", "--dry-run").stdout


def test_a_folder_full_of_files_is_one_line_and_with_json_each_is_named(tmp_path: Path) -> None:
    arguments = ["install", "--dry-run", "--root", str(tmp_path), "--bin-dir", "/usr/lib/x/bin"]
    pages = len(list(help_pages(skillctl, ("skillctl",))))
    lines = run(*arguments).stdout.splitlines()
    assert f"would create {pages} files in {tmp_path}/usr/share/man/man1" in lines
    assert {f"would create {tmp_path}/usr/share/{place}" for place in COMPLETIONS.values()} <= set(lines)
    assert len(lines) == 1 + len(COMPLETIONS) + 4
    assert len(actions(run(*arguments, "--json"))) == pages + len(COMPLETIONS) + 4


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_takes_what_was_installed(tmp_path: Path) -> None:
    run("install", "--root", str(tmp_path), "--bin-dir", "/usr/lib/x/bin")
    script = tmp_path / "usr/share" / COMPLETIONS["bash"]
    done = subprocess.run(
        ["bash", "--norc", "-c", 'source "$1" && complete -p skillctl', "-", str(script)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith(" skillctl\n")


def test_pages_go_with_the_rest_unless_they_were_edited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = Layout(units=tmp_path / "u", config=tmp_path / "etc/skilld", sysusers=None, share=tmp_path / "share")
    monkeypatch.setattr("skilld.cli.commands.install._layout", lambda for_user, root: place)
    run("install", "--user")
    edited = tmp_path / "share/man/man1/skillctl-send.1"
    edited.write_text("mine")
    said = run("uninstall", "--user").stdout.splitlines()
    pages = len(list(help_pages(skillctl, ("skillctl",))))
    assert f"remove {pages - 1} files in {edited.parent}" in said
    assert f"keep, it was edited: {edited}" in said
    assert files_below(tmp_path) == ["share/man/man1/skillctl-send.1"]


def test_the_broker_comes_with_its_profile_only(tmp_path: Path) -> None:
    run("install", "--root", str(tmp_path), "--bin-dir", "/usr/lib/x/bin", "--profile", "broker")
    found = files_below(tmp_path)
    assert {path for path in found if "broker" in path} == {
        "usr/lib/systemd/system/skilld-broker.service",
        "usr/lib/systemd/system/skilld-broker.socket",
        "usr/lib/sysusers.d/skilld-broker.conf",
    }
    assert (
        "ExecStart=/usr/lib/x/bin/skilld-broker "
        in (tmp_path / found[found.index("usr/lib/systemd/system/skilld-broker.service")]).read_text()
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["install", "--root", "x", "--user"], EXIT.USAGE, "--root is for packages"),
        (["install", "--root", "x", "--now"], EXIT.USAGE, "--root is for packages"),
        (["install", "--profile", "root"], EXIT.USAGE, "'root' is not one of"),
        (["install", "--user", "--profile", "docker"], EXIT.FAILED, "profiles are for the system's service"),
        (["install", "--bin-dir", "/home/a/bin", "--dry-run"], EXIT.FAILED, "the service sees no home"),
        (["install", "--bin-dir", "here", "--dry-run"], EXIT.FAILED, "absolute path"),
        (["install", "--user", "--now"], EXIT.FAILED, "systemd does not run here"),
        (["uninstall", "--user"], EXIT.FAILED, "nothing was installed"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    done = run(*arguments)
    assert done.exit_code == code
    assert said in done.stderr
    assert files_below(tmp_path) == []


def test_without_the_engines_group_no_unit_is_installed_that_could_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skilld.cli.commands.install._has_group", lambda name: False)
    for profile in ("docker", "broker"):
        done = run("install", "--profile", profile, "--dry-run")
        assert done.exit_code == EXIT.FAILED
        assert "there is no group docker here" in done.stderr


def test_where_it_may_not_write_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("in the way")
    done = run("install", "--user")
    assert done.exit_code == EXIT.FAILED
    assert f"{tmp_path}/config" in done.stderr
