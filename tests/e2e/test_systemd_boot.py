"""skilld as a service of a real systemd: `skillctl install`, what goes wrong afterwards, and `skillctl uninstall`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from doc_kit import blocks
from docker_kit import engine_with_slim_image
from skill_actors.backends.docker_image import SLIM_IMAGE
from systemd_kit import HOME, ROOT, Machine, install_wheel, machine, make_wheels

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.alone,  # a whole machine boots
    pytest.mark.skipif(not (ROOT / "daemon").is_dir(), reason="builds the wheel, and this is a copy of the tests"),
]

SOCKET = "/run/skilld/skilld.sock"
CONFIG = "/etc/skilld/skilld.toml"
TEST_CONF = "/etc/systemd/system/skilld.service.d/90-test.conf"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="module")
def installed(wheels: Path) -> Iterator[Machine]:
    with machine() as booted:
        install_wheel(booted, wheels)
        done = booted.run("sh", "-euc", lines_of("docs/install.md", "ln -s /opt/skilld/bin/skilld"))
        assert "create /etc/systemd/system/skilld.service" in done.stdout.splitlines()
        booted.run("cp", CONFIG, "/root/installed.toml")
        skill(booted, "nap", "import time\nprint('asleep', flush=True)\ntime.sleep(3)\nprint('awake')\n")
        skill(booted, "look", LOOK)
        skill(booted, "place", "import os\nprint(os.getuid(), open('/proc/1/comm').read().strip())\n")
        for user in ("alice", "bob", "carol"):
            booted.run("useradd", "--create-home", user)
        booted.run("sh", "-euc", lines_of("docs/operate.md", "gpasswd --add alice skilld"))
        booted.run("gpasswd", "--add", "bob", "skilld")
        yield booted


@pytest.fixture
def host(installed: Machine) -> Machine:
    """The machine with the service as it was installed, and running."""
    installed.settle()
    return installed


def skill(host: Machine, name: str, script: str) -> None:
    """A skill of the system, whose entry is a Python script."""
    host.write(f"/etc/skilld/skills/{name}/SKILL.md", f"---\nname: {name}\ndescription: For a test.\n---\n\nRun it.\n")
    host.write(f"/etc/skilld/skills/{name}/scripts/run.py", script)


def lines_of(page: str, begin: str) -> str:
    """The commands of the one block of a page that begins so."""
    (block,) = (block for block in blocks(page) if block.is_command and block.text.startswith(begin))
    return block.text


# What a tool's command can see of the daemon that runs it: each path or deed, and how it ended.
LOOK = """\
import json, os, pathlib, socket, sys
told = {"uid": os.getuid()}
for path in sys.argv[1:]:
    try:
        place = pathlib.Path(path)
        told[path] = sorted(os.listdir(place)) if place.is_dir() else place.read_text()
    except OSError as error:
        told[path] = error.strerror
try:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect("/run/skilld/skilld.sock")
    told["socket"] = "connected"
except OSError as error:
    told["socket"] = error.strerror
status = pathlib.Path("/proc/self/status").read_text()
told["status"] = dict(line.split(":\\t") for line in status.splitlines() if line.startswith(("Cap", "NoNew", "Sec")))
print(json.dumps(told))
"""


def is_active(host: Machine, unit: str = "skilld.service") -> bool:
    return host.show("ActiveState", unit) == "active"


def session_of(stderr: str) -> str:
    return str(re.findall(r"ses_[a-z2-7]{26}", stderr)[0])


def configure(host: Machine, text: str) -> None:
    """Put this first into the configuration."""
    host.write(CONFIG, text)


def restart(host: Machine) -> None:
    host.systemctl("restart", "skilld.service")


def test_the_service_is_ready_when_its_start_has_ended_and_says_so(host: Machine) -> None:
    assert (host.show("Type"), host.show("ActiveState"), host.show("NRestarts")) == ("notify", "active", "0")
    assert host.show("StatusText") == f"serving on {SOCKET}"
    done = host.skillctl("send", "/echo hello")
    assert done.stdout == "echo: hello\n"
    pid = host.show("MainPID")
    facts = json.loads(host.skillctl("status", "--json").stdout)
    assert facts["mode"] == "production"
    backends = json.loads(host.skillctl("backends", "--json").stdout)["items"]
    assert [backend["name"] for backend in backends if backend["default"]] == ["local"]
    status = dict(line.split(":\t", 1) for line in host.path(f"/proc/{pid}/status").read_text().splitlines())
    assert status["Uid"].split()[0] == host.run("id", "-u", "skilld").stdout.strip()
    assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")


def test_the_socket_is_for_the_group_and_outlives_the_service(host: Machine) -> None:
    before = host.run("stat", "-c", "%a %U %G", SOCKET).stdout
    assert before == "660 root skilld\n"
    host.systemctl("stop", "skilld.service")
    assert host.run("stat", "-c", "%a %U %G", SOCKET).stdout == before, "RuntimeDirectory= must not take it along"
    host.systemctl("stop", "skilld.socket")
    assert not host.path(SOCKET).exists()


def test_a_reload_waits_until_it_is_applied_and_keeps_the_process(host: Machine) -> None:
    pid = host.show("MainPID")
    configure(
        host, '[limits]\niterations = 3\nmax_body_bytes = 4096\n[daemon]\nmode = "production"\nlog_level = "debug"\n'
    )
    assert host.systemctl("reload", "skilld").returncode == 0
    found = json.loads(host.skillctl("config", "reload", "--json").stdout)
    assert found == {"applied": [], "needs_restart": ["limits.max_body_bytes"]}
    assert (host.show("MainPID"), host.show("ActiveState")) == (pid, "active")
    assert any(
        "applied daemon.log_level, limits.iterations" in entry["MESSAGE"] for entry in host.entries("-u", "skilld")
    )


def test_a_reload_of_a_configuration_that_cannot_be_used_fails_and_changes_nothing(host: Machine) -> None:
    pid = host.show("MainPID")
    configure(host, "[limits]\niteration = 3\n")
    assert host.systemctl("reload", "skilld", check=False).returncode == 1
    assert (host.show("MainPID"), host.show("ActiveState")) == (pid, "active")
    assert host.show("StatusText") == "the configuration was changed and cannot be used; the one before is in force"
    said = host.skillctl("config", "reload", check=False)
    assert said.returncode == 1
    assert "unknown key 'limits.iteration': did you mean 'limits.iterations'?" in said.stderr
    assert host.skillctl("send", "/echo still").stdout == "echo: still\n"


def test_a_hangup_reloads_too(host: Machine) -> None:
    pid = host.show("MainPID")
    configure(host, "[limits]\niterations = 4\n")
    host.systemctl("kill", "--signal=SIGHUP", "--kill-who=main", "skilld")
    host.until(
        lambda: any("applied limits.iterations" in e["MESSAGE"] for e in host.entries(f"_PID={pid}")), "a reload"
    )
    assert (host.show("MainPID"), host.show("NRestarts")) == (pid, "0")


def test_a_killed_daemon_is_started_again_and_has_its_conversations(host: Machine) -> None:
    session = session_of(host.skillctl("send", "/echo before").stderr)
    pid = host.show("MainPID")
    host.systemctl("kill", "--signal=SIGKILL", "--kill-who=main", "skilld")
    # Sent at once: it waits in the socket until there is somebody again.
    assert host.skillctl("send", "--session", session, "/echo after").stdout == "echo: after\n"
    assert host.show("MainPID") != pid
    assert host.show("NRestarts") == "1"
    shown = host.skillctl("show", session).stdout
    assert "echo: before" in shown
    assert "echo: after" in shown


def test_a_daemon_that_hangs_is_restarted_by_the_watchdog(host: Machine) -> None:
    host.write(TEST_CONF, "[Service]\nWatchdogSec=10\n")  # a start on a busy machine is no hang
    host.systemctl("daemon-reload")
    restart(host)
    pid = host.show("MainPID")
    host.systemctl("kill", "--signal=SIGSTOP", "--kill-who=main", "skilld")
    host.until(lambda: host.show("NRestarts") == "1" and is_active(host), "the watchdog restarts it")
    assert host.show("MainPID") != pid
    assert any("Watchdog timeout" in entry["MESSAGE"] for entry in host.entries("UNIT=skilld.service"))
    assert host.skillctl("send", "/echo again").stdout == "echo: again\n"


def test_a_healthy_daemon_feeds_the_watchdog(host: Machine) -> None:
    host.write(TEST_CONF, "[Service]\nWatchdogSec=6\n")
    host.systemctl("daemon-reload")
    restart(host)
    began = int(host.show("WatchdogTimestampMonotonic"))
    host.until(lambda: int(host.show("WatchdogTimestampMonotonic")) > began + 7_000_000, "longer than its period", 40)
    assert host.show("NRestarts") == "0"


def test_the_first_message_starts_the_service(host: Machine) -> None:
    host.systemctl("stop", "skilld.service")
    assert host.show("ActiveState") == "inactive"
    assert host.skillctl("send", "/echo first").stdout == "echo: first\n"
    assert is_active(host)
    assert host.show("StatusText") == f"serving on {SOCKET}", "the socket is the one that systemd has made"


def test_a_stop_lets_a_turn_end(host: Machine) -> None:
    session = session_of(host.skillctl("send", "--no-wait", "/nap").stderr)
    host.until(lambda: "asleep" in host.skillctl("show", session).stdout, "the command runs")
    host.systemctl("stop", "skilld.socket", "skilld.service")
    assert (host.show("Result"), host.show("ExecMainStatus")) == ("success", "0")
    host.systemctl("start", "skilld.service")
    shown = host.skillctl("show", session).stdout
    assert "awake" in shown
    assert "interrupted" not in shown


def test_a_credential_is_for_the_daemon_alone(host: Machine) -> None:
    secret = f"not-a-real-key-{os.urandom(8).hex()}"
    host.write("/root/key", secret, 0o600)
    install = lines_of("docs/install.md", "install -D -m 600 KEY_FILE").replace("KEY_FILE", "/root/key")
    host.run("sh", "-euc", install)
    kept = "/run/credentials/skilld.service/anthropic_api_key"
    assert json.loads(host.skillctl("status", "--json").stdout)["model"] != "offline"
    assert host.path(kept).read_text() == secret
    assert host.run("cat", kept, user="carol", check=False).returncode == 1
    places = [kept, "/etc/credstore/anthropic_api_key"]
    told = json.loads(host.skillctl("send", "--model", "offline", f"/look {' '.join(places)}").stdout)
    assert {told[place] for place in places} <= {"Permission denied", "No such file or directory"}
    pid = host.show("MainPID")
    assert secret not in host.path(f"/proc/{pid}/environ").read_text()
    assert secret not in host.run("journalctl", "--all", "--output=json").stdout


def test_without_the_credential_the_service_starts_offline(host: Machine) -> None:
    assert json.loads(host.skillctl("status", "--json").stdout)["model"] == "offline"


def test_commands_are_kept_from_the_daemons_own_files(host: Machine) -> None:
    pid = host.show("MainPID")
    places = ["/var/lib/skilld", "/run/skilld", f"/proc/{pid}/environ", "/etc/shadow", "/etc/hosts"]
    told = json.loads(host.skillctl("send", f"/look {' '.join(places)}").stdout)
    denied = {"Permission denied", "No such file or directory"}  # what may not be traced is not seen in /proc either
    assert {told[place] for place in places[:-1]} <= denied
    assert told["/etc/hosts"] not in denied, "or nothing can be read at all, and the rest of this proves nothing"
    assert told["socket"] != "connected"
    assert told["status"]["CapEff"] == "0" * 16
    assert told["status"]["NoNewPrivs"] == "1"
    assert str(told["uid"]) == host.run("id", "-u", "skilld").stdout.strip()


def test_two_users_are_told_apart_and_a_third_is_not_let_in(host: Machine) -> None:
    uids = [int(host.run("id", "-u", user).stdout) for user in ("alice", "bob", "carol")]
    configure(host, f"[roles.send]\nuids = {uids}\n")
    restart(host)
    session = session_of(host.skillctl("send", "/echo mine", user="alice").stderr)
    (listed,) = json.loads(host.skillctl("sessions", "--json", user="alice").stdout)["items"]
    assert (listed["id"], listed["owner_uid"]) == (session, uids[0])
    assert json.loads(host.skillctl("sessions", "--json", user="bob").stdout)["items"] == []
    assert host.skillctl("show", session, user="bob", check=False).returncode == 1
    assert session in host.skillctl("sessions", "--json").stdout, "root sees all"
    refused = host.skillctl("sessions", user="carol", check=False)
    assert refused.returncode == 4, "not in the group of the socket, whatever her role is"
    assert "ermission denied" in refused.stderr


def test_a_new_role_needs_no_restart(host: Machine) -> None:
    alice, bob = (host.run("id", "-u", user).stdout.strip() for user in ("alice", "bob"))
    configure(host, f"[roles.send]\nuids = [{alice}]\n")
    restart(host)
    assert host.skillctl("sessions", user="bob", check=False).returncode == 1
    configure(host, f"[roles.send]\nuids = [{alice}, {bob}]\n")
    host.systemctl("reload", "skilld")
    assert host.skillctl("sessions", user="bob").returncode == 0


def test_a_wrong_configuration_ends_with_78_and_is_not_tried_again(host: Machine) -> None:
    host.systemctl("stop", "skilld.socket", "skilld.service")
    configure(host, "[limits]\niteration = 3\n")
    assert host.systemctl("start", "skilld.service", check=False).returncode == 1
    host.until(lambda: host.show("ActiveState") == "failed", "the service fails")
    assert (host.show("ExecMainStatus"), host.show("NRestarts")) == ("78", "0")


def test_clients_cannot_keep_a_service_that_cannot_start_in_a_loop(host: Machine) -> None:
    """Each waiting client would start it anew; systemd ends that after five, for the socket too."""
    before = len(failures(host))
    host.systemctl("stop", "skilld.service")
    configure(host, "[limits]\niteration = 3\n")
    assert host.skillctl("status", check=False).returncode == 4
    host.until(lambda: host.show("ActiveState", "skilld.socket") == "failed", "the socket gives up")
    assert host.show("Result", "skilld.socket") == "service-start-limit-hit"
    assert 1 <= len(failures(host)) - before <= 5


def failures(host: Machine) -> list[str]:
    """What systemd said each time the configuration was refused."""
    return [entry["MESSAGE"] for entry in host.entries("UNIT=skilld.service") if "status=78" in entry["MESSAGE"]]


def test_the_journal_has_fields_to_search_by(host: Machine) -> None:
    pid = host.show("MainPID")
    entries = host.entries(f"_PID={pid}", "LOGGER=skilld")
    assert [e["PRIORITY"] for e in entries if e["MESSAGE"].startswith("ready: ")] == ["6"]
    entry = entries[-1]
    assert (entry["SYSLOG_IDENTIFIER"], entry["_SYSTEMD_UNIT"]) == ("skilld", "skilld.service")
    assert Path(entry["CODE_FILE"]).name.endswith(".py")


def test_nobody_waits_for_a_journal_that_is_away(host: Machine) -> None:
    units = ("systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald.service")
    host.systemctl("stop", *units)
    try:
        assert host.skillctl("send", "/echo unheard").stdout == "echo: unheard\n"
        host.systemctl("reload", "skilld")
    finally:
        host.systemctl("start", *units)
    pid = host.show("MainPID")
    host.systemctl("reload", "skilld")
    assert [e for e in host.entries(f"_PID={pid}") if e["MESSAGE"].startswith("the configuration was read again")]
    assert host.show("NRestarts") == "0"


@pytest.mark.parametrize("content", ["", "\n", "x" * 100_000, "a\nb\n", "\x00"])
def test_a_credential_that_is_none_is_said_and_never_sent(host: Machine, content: str) -> None:
    host.write("/etc/credstore/anthropic_api_key", content, 0o600)
    host.systemctl("restart", "skilld.service", check=False)
    if is_active(host):
        assert host.skillctl("send", "--model", "offline", "/echo without").stdout == "echo: without\n"
    else:
        assert host.show("ExecMainStatus") == "78"


def test_runners_get_control_groups_below_the_services_own(host: Machine) -> None:
    assert host.show("Delegate") == "yes"
    host.skillctl("send", "/echo group")
    home = host.show("ControlGroup")
    below = host.run("find", "/sys/fs/cgroup", "-path", f"*{home}/*", "-name", "cgroup.procs").stdout.splitlines()
    groups = [place for place in below if host.path(place).read_text().strip()]
    assert groups, "each runner is in a group of its own"
    host.systemctl("stop", "skilld.socket", "skilld.service")
    left = host.run("pgrep", "-u", "skilld", "-l", check=False)
    assert left.stdout == ""


def test_the_shipped_units_are_without_fault_and_little_exposed(host: Machine) -> None:
    for unit in ("skilld.service", "skilld.socket"):
        done = host.run("systemd-analyze", "verify", f"/etc/systemd/system/{unit}")
        assert (done.stdout, done.stderr) == ("", ""), "unknown keys exit 0 and only complain"
    assert host.run("systemd-analyze", "security", "--threshold=18", "skilld.service").returncode == 0


def test_installing_again_keeps_what_was_edited(host: Machine) -> None:
    host.run("sh", "-c", f"echo '# mine' >> {CONFIG}")
    again = json.loads(host.skillctl("install", "--json").stdout)
    told = {item["path"]: item["action"] for item in again["files"]}
    assert told.pop("/usr/local/share/man/man1/skillctl-send.1") == "same"
    assert {path: action for path, action in told.items() if path.startswith("/etc/")} == {
        "/etc/systemd/system/skilld.service": "same",
        "/etc/systemd/system/skilld.socket": "same",
        "/etc/sysusers.d/skilld.conf": "same",
        CONFIG: "keep",
    }
    assert host.path(CONFIG).read_text().endswith("# mine\n")


def test_the_profile_for_tools_takes_effect(host: Machine) -> None:
    host.skillctl("install", "--profile", "tools")
    restart(host)
    assert "ptrace" in host.show("SystemCallFilter").split()
    assert host.skillctl("send", "/echo more").stdout == "echo: more\n"
    host.skillctl("install", "--profile", "none")
    assert not host.path("/etc/systemd/system/skilld.service.d/50-profile.conf").exists()
    assert "ptrace" not in host.show("SystemCallFilter").split()


def test_with_the_broker_the_daemon_has_containers_and_not_the_engine(host: Machine) -> None:
    with engine_with_slim_image():
        gid = host.run("stat", "-c", "%g", "/run/docker.sock").stdout.strip()
        host.run("groupadd", "--non-unique", "--gid", gid, "docker", check=False)
        configure(host, f'[backends.docker]\nimage = "{SLIM_IMAGE}"\npool = 0\n')
        host.skillctl("install", "--profile", "broker", "--now")
        restart(host)
        assert json.loads(host.skillctl("status", "--json").stdout)["mode"] == "production"
        assert host.skillctl("send", "/place").stdout.split()[1] in ("docker-init", "tini", "init")
        assert is_active(host, "skilld-broker.service")
        groups = re.findall(
            r"^Groups:(.*)$", host.path(f"/proc/{host.show('MainPID')}/status").read_text(), re.MULTILINE
        )
        assert gid not in groups[0].split()
        for path in ("/run/docker.sock", "/run/skilld-broker/docker.sock"):
            assert host.run("test", "-w", path, user="carol", check=False).returncode == 1
        assert host.run("test", "-w", "/run/docker.sock", user="skilld", check=False).returncode == 1
        host.skillctl("install", "--profile", "none")
        assert host.show("LoadState", "skilld-broker.socket") == "not-found"
        assert host.run("systemctl", "--failed", "--plain", "--no-legend").stdout == ""


def test_without_a_network_a_model_is_reached_through_the_socket(host: Machine) -> None:
    """As the manual tells, but that the other end is a fake of the API on the machine's loopback."""
    api = [f"{HOME}/bin/python", "-m", "skill_actors.testing.fake_api", "--port", "8089"]
    host.run("systemd-run", "--unit=fake-api", *api)
    host.write("/etc/credstore/anthropic_api_key", "not-a-real-key", 0o600)
    configure(host, '[daemon]\nmode = "production"\n[model]\nbase_url = "http://localhost"\n')
    proxy = "/usr/lib/systemd/systemd-socket-proxyd 127.0.0.1:8089"
    host.write("/etc/systemd/system/skilld-model.service.d/90.conf", f"[Service]\nExecStart=\nExecStart={proxy}\n")
    host.run("sh", "-euc", lines_of("docs/secure.md", "cd /opt/skilld/share/skilld/systemd"))
    units = ("skilld.service", "skilld-model.socket", "skilld-model.service")
    done = host.run("systemd-analyze", "verify", *(f"/etc/systemd/system/{unit}" for unit in units))
    assert (done.stdout, done.stderr) == ("", "")
    pid = host.show("MainPID")
    assert os.readlink(f"/proc/{host.pid}/ns/net") != os.readlink(host.path(f"/proc/{pid}/ns/net"))
    interfaces = host.path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
    assert host.run("stat", "-c", "%a %U", "/run/skilld-model/api.sock").stdout == "600 skilld\n"
    assert host.skillctl("send", "hello").stdout == "You said: hello\n", "which is what the fake says"
    assert is_active(host, "skilld-model.service")
    place = "SKILLD_MODEL_SOCKET=/run/skilld-model/api.sock"
    looked = host.run("env", place, f"{HOME}/bin/skillctl", "doctor", "--json", check=False).stdout
    levels = {check["name"]: check["level"] for check in json.loads(looked)["checks"]}
    assert levels["model socket"] == "ok"
    host.run("sh", "-euc", lines_of("docs/secure.md", "systemctl disable --now skilld-model.socket"))
    host.run("rm", "-r", "/etc/systemd/system/skilld-model.service.d")
    host.systemctl("daemon-reload")
    host.systemctl("stop", "fake-api.service")
    assert os.readlink(host.path(f"/proc/{host.show('MainPID')}/ns/net")) == os.readlink(f"/proc/{host.pid}/ns/net")
    assert host.show("LoadState", "skilld-model.socket") == "not-found"


def test_an_upgrade_and_the_way_back_are_as_the_manual_tells(host: Machine) -> None:
    """To the same version, which is what there is: each line of the page, with a folder of wheels as the version."""
    page, wheels = "docs/upgrade.md", "--no-index --find-links=/wheels skilld"

    def typed(begin: str) -> str:
        lines = lines_of(page, begin)
        for placeholder in ("PATH_OF_THE_NEW_VERSION", "PATH_OF_THE_OLD_VERSION"):
            lines = lines.replace(placeholder, wheels)
        return host.run("env", "--chdir=/root", "sh", "-euc", lines).stdout

    session = session_of(host.skillctl("send", "/echo before").stderr)
    assert "manifest.json" in typed("mkdir -p backups").splitlines()
    pid = host.show("MainPID")
    looked = typed("/opt/skilld/bin/pip install --upgrade")
    assert "ok    daemon" in looked
    assert "ok    socket folder" in looked, "it is the service's user's, and root looks at it"
    assert host.show("MainPID") != pid
    host.skillctl("send", "-s", session, "/echo after")
    typed("systemctl stop skilld.socket skilld.service\n/opt/skilld/bin/pip")
    shown = host.skillctl("show", session).stdout
    assert "echo: before" in shown
    assert "echo: after" not in shown, "it was said after the backup"


def test_after_an_incident_there_is_something_to_look_at_as_the_manual_tells(host: Machine) -> None:
    host.skillctl("send", "/echo before")
    lines = lines_of("docs/secure.md", "systemctl stop skilld.socket skilld.service\ntail")
    shown = host.run("env", "--chdir=/root", "sh", "-euc", lines).stdout
    assert "/v1/sessions/{id}/messages" in shown
    assert not is_active(host)
    assert host.run("sh", "-c", "tar -tzf /root/*debug*.tar.gz").stdout


def test_a_user_has_a_service_of_his_own(host: Machine) -> None:
    uid = host.run("id", "-u", "carol").stdout.strip()
    host.systemctl("start", f"user@{uid}.service")
    runtime = f"XDG_RUNTIME_DIR=/run/user/{uid}"

    def as_carol(*command: str) -> str:
        return host.run("env", runtime, "HOME=/home/carol", *command, user="carol").stdout

    as_carol(f"{HOME}/bin/skillctl", "install", "--user", "--now")
    assert as_carol("systemctl", "--user", "is-active", "skilld.service", "skilld.socket") == "active\nactive\n"
    assert as_carol(f"{HOME}/bin/skillctl", "send", "/echo carol") == "echo: carol\n"
    assert host.path("/home/carol/.local/state/skilld/journal.db").exists()
    as_carol("systemctl", "--user", "reload", "skilld.service")
    as_carol(f"{HOME}/bin/skillctl", "uninstall", "--user")
    assert not host.path("/home/carol/.config/systemd/user/skilld.service").exists()
    host.systemctl("stop", f"user@{uid}.service")


def test_uninstalling_leaves_conversations_and_what_was_edited(host: Machine) -> None:
    """The last one: the others need the service."""
    host.run("sh", "-c", f"echo '# mine' >> {CONFIG}")
    done = host.skillctl("uninstall")
    assert f"keep, it was edited: {CONFIG}" in done.stdout.splitlines()
    assert not is_active(host)
    assert not is_active(host, "skilld.socket")
    assert host.show("LoadState") == "not-found"
    assert host.path("/var/lib/skilld/journal.db").exists()
    assert host.path(CONFIG).exists()
    assert not host.path("/usr/local/share/man/man1/skillctl-send.1").exists()
    host.skillctl("install", "--now")
    assert host.skillctl("sessions").returncode == 0


def test_the_debian_package_installs_serves_and_goes(wheels: Path, tmp_path: Path) -> None:
    (wheel,) = wheels.glob("skilld-*.whl")
    command = [str(ROOT / "scripts/deb"), str(Path(sys.prefix)), str(wheel), str(tmp_path)]
    offline = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}  # fetched already
    made = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=offline)
    assert made.returncode == 0, made.stderr
    package = made.stdout.strip()
    listed = subprocess.run(["dpkg-deb", "--contents", package], capture_output=True, text=True, check=True).stdout
    for name in ("man/man1/skillctl-approve.1.gz", "bash-completion/completions/skillctl"):
        assert f" ./usr/share/{name}\n" in listed
    with machine() as clean:
        shutil.copy(package, clean.path("/skilld.deb"))
        clean.run("dpkg", "--install", "/skilld.deb")
        assert is_active(clean)
        assert is_active(clean, "skilld.socket")
        assert clean.run("skillctl", "send", "/echo packed").stdout == "echo: packed\n"
        clean.write(CONFIG, "[limits]\niterations = 5\n")
        clean.run(
            "dpkg", "--install", "/skilld.deb"
        )  # as an upgrade does: the conffile stays, the service is restarted
        assert clean.path(CONFIG).read_text() == "[limits]\niterations = 5\n"
        assert clean.run("skillctl", "send", "/echo again").stdout == "echo: again\n"
        clean.run("dpkg", "--remove", "skilld")
        assert clean.show("LoadState") == "not-found"
        assert not clean.path("/usr/lib/skilld").exists()
        assert clean.path("/var/lib/skilld/journal.db").exists()
