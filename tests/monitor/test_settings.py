"""Where settings come from, which one wins, and what is wrong with one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import skill_actors
import skilld.monitor
import skilld_monitor
from skilld_monitor import SettingsError, enable_monitoring, log_event, monitor_call
from skilld_monitor.log_file import file_for
from skilld_monitor.settings import CONTENT_FIELDS, Settings, usable

UID = os.geteuid()


def settings(tmp_path: Path, env: dict[str, str] | None = None, **arguments: Any) -> Settings:
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    found, problem = usable(arguments, {**home, **(env or {})}, folder=str(tmp_path), uid=UID)
    if problem:
        raise SettingsError(problem)
    return found


def test_arguments_win_over_the_environment_over_the_project_over_the_user(tmp_path: Path) -> None:
    user = tmp_path / "config" / "skilld" / "monitor.ini"
    user.parent.mkdir(parents=True)
    names = ("agent_id", "environment", "debug_level", "max_queued", "capture")
    user.write_text(
        "[monitor]\n"
        + "".join(
            f"{name} = {value}\n" for name, value in zip(names, ("user", "user", "DEBUG", "1", "input"), strict=True)
        )
    )
    (tmp_path / "skilld-monitor.ini").write_text(
        "[monitor]\nagent_id = project\nenvironment = project\ncapture = output\n"
    )
    found = settings(tmp_path, {"SKILLD_MONITOR_AGENT": "env", "ENVIRONMENT": "env"}, agent_id="argument")
    assert found.agent_id == "argument"
    assert found.environment == "env"
    assert found.capture == {"output"}
    assert (found.debug_level, found.max_queued) == ("DEBUG", 1)
    assert found.exit_timeout_s == 5


@pytest.mark.parametrize(
    ("env", "name", "value"),
    [
        ({"MONITORING_LOG_FILE": "x.json"}, "log_file", "x.json"),
        ({"MONITORING_DEBUG_LEVEL": "warn"}, "debug_level", "WARNING"),
        ({"ENVIRONMENT": "production"}, "environment", "production"),
        ({"SKILLD_MONITOR_SOCKET": "/s"}, "socket", "/s"),
        ({"SKILLD_SOCKET": "/run/mine/skilld.sock"}, "socket", "/run/mine/monitor.sock"),
        ({"SKILLD_SOCKET": "/run/mine/skilld.sock", "SKILLD_MONITOR_SOCKET": "/s"}, "socket", "/s"),
        ({"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY"}, "capture", frozenset(CONTENT_FIELDS)),
        ({"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "NO_CONTENT"}, "capture", frozenset()),
        ({"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "spam_only"}, "capture", frozenset()),
        ({"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "off"}, "capture", frozenset()),
        ({"SKILLD_MONITOR_FULL_EVENTS": "1"}, "capture", frozenset(CONTENT_FIELDS)),
    ],
)
def test_variables_are_read(tmp_path: Path, env: dict[str, str], name: str, value: object) -> None:
    assert getattr(settings(tmp_path, env), name) == value


def test_a_file_that_others_could_have_written_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "skilld-monitor.ini"
    file.write_text("[monitor]\nagent_id = project\n")
    assert settings(tmp_path).agent_id == "project"
    file.chmod(0o666)
    assert settings(tmp_path).agent_id == "unnamed"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"debug_level": "loud"}, "debug_level is 'loud'"),
        ({"capture": "input,everything"}, "capture has 'everything'"),
        ({"max_queued": "many"}, "max_queued is 'many'"),
        ({"exit_timeout_s": float("nan")}, "exit_timeout_s"),
        ({"sokcet": "/s"}, "there is no setting 'sokcet'"),
        ({"agent_id": "x" * 201}, "agent_id is 201 characters"),
        ({"strict": "perhaps"}, "strict is 'perhaps'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)):
        settings(tmp_path, **arguments)


def test_where_it_stands_is_named_too(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^SKILLD_MONITOR_MAX_QUEUED: max_queued is 'many'; expected a number"):
        settings(tmp_path, {"SKILLD_MONITOR_MAX_QUEUED": "many"})
    (tmp_path / "skilld-monitor.ini").write_text("[monitor]\ndebug_level = LOUD\n")
    with pytest.raises(SettingsError, match=r"skilld-monitor\.ini: debug_level is 'LOUD'; there are DEBUG, INFO"):
        settings(tmp_path)


def test_a_file_may_ask_for_errors_too(tmp_path: Path) -> None:
    (tmp_path / "skilld-monitor.ini").write_text("[monitor]\nstrict = true\n")
    with pytest.raises(SettingsError, match="LOUD"):
        enable_monitoring("order-desk", debug_level="LOUD")


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "skilld-monitor.ini", 0o600)
    assert settings(tmp_path).agent_id == "unnamed"


@pytest.mark.parametrize("text", ["no section", "[monitor]\nunknown = 1\n", "[monitor]\nagent_id = \xff\n"])
def test_a_file_that_is_wrong_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "skilld-monitor.ini").write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match=r"skilld-monitor\.ini"):
        settings(tmp_path)


def test_a_wrong_setting_raises_only_where_that_was_asked_for() -> None:
    with pytest.raises(SettingsError):
        enable_monitoring("shop", debug_level="loud", strict=True)
    made = enable_monitoring("shop", debug_level="loud")
    assert "loud" in made.problem
    assert (made.settings.agent_id, made.settings.debug_level) == ("shop", "INFO")


def test_switching_it_on_writes_no_settings(tmp_path: Path) -> None:
    enable_monitoring("shop").disable()
    assert [path.name for path in tmp_path.iterdir()] == ["spool"]


@pytest.mark.parametrize(
    ("named", "made"),
    [
        ("logs/", r"logs/shop_monitoring_\d{8}_\d{6}\.json"),
        ("there", r"there/shop_monitoring_\d{8}_\d{6}\.json"),
        ("file", r"file\.json"),
        ("file.log", r"file\.log"),
    ],
)
def test_a_log_file_is_named_as_it_always_was(tmp_path: Path, named: str, made: str) -> None:
    (tmp_path / "there").mkdir()
    found = file_for(named, "shop", 0.0)
    assert re.fullmatch(f"{re.escape(str(tmp_path))}/{made}", found)


def test_a_log_file_has_the_lines_that_its_readers_know_with_no_daemon_at_all(tmp_path: Path) -> None:
    made = enable_monitoring("shop", log_file=tmp_path / "deep" / "er" / "log")
    log_event("order", {"n": 1}, "ORDERS", "warning")
    monitor_call(len, "API")([])
    made.disable()
    assert made.log_path == str(tmp_path / "deep/er/log.json")
    lines = [json.loads(line) for line in Path(made.log_path).read_text().splitlines()]
    assert [line["event"] for line in lines] == ["monitoring_enabled", "order", "call_finish", "monitoring_disabled"]
    order = lines[1]
    assert order.keys() == {"timestamp", "level", "channel", "agent_id", "event", "data"}
    assert (order["level"], order["channel"], order["agent_id"], order["data"]) == (
        "WARNING",
        "ORDERS",
        "shop",
        {"n": 1},
    )
    assert lines[2]["data"]["function"] == "len"
    assert oct(Path(made.log_path).stat().st_mode & 0o777) == "0o600"


def test_full_events_have_the_start_and_the_content_of_each_call(tmp_path: Path) -> None:
    class Client:
        def ask(self, **_kwargs: object) -> dict[str, object]:
            return {"content": [{"type": "text", "text": "an answer"}]}

    client = Client()
    made = enable_monitoring("shop", client, "ask", str(tmp_path / "log"), "INFO", full_events=True)
    client.ask(messages=[{"role": "user", "content": "a question"}])
    made.disable()
    lines = [json.loads(line) for line in (tmp_path / "log.json").read_text().splitlines()]
    start, finish = lines[1:3]
    assert (start["event"], finish["event"]) == ("LLM_call_start", "LLM_call_finish")
    assert json.loads(start["data"]["prompt"])[0]["content"] == "a question"
    assert finish["data"]["response"] == "an answer"
    assert finish["data"]["duration"] >= 0


def test_the_other_name_is_the_same_thing() -> None:
    assert list(skilld.monitor.__all__) == list(skilld_monitor.__all__)
    for name in skilld_monitor.__all__:
        assert getattr(skilld.monitor, name) is getattr(skilld_monitor, name)


def test_an_unknown_name_is_an_ordinary_error() -> None:
    with pytest.raises(AttributeError, match="no_such"):
        _ = skilld_monitor.no_such
    assert set(skilld_monitor.__all__) <= set(dir(skilld_monitor))


COST = """
import resource, sys, time
def rss():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
before, began = rss(), time.process_time()
import NAME as monitor
imported = time.process_time() - began
made = monitor.enable_monitoring("shop")
monitor.log_event("x", {"n": 1})
made.flush()
print(imported * 1000, (time.process_time() - began) * 1000, (rss() - before) / (1 << 20))
heavy = {"asyncio", "dataclasses", "http", "inspect", "logging", "ssl", "typing", "urllib"}
print(sorted(heavy & sys.modules.keys()))
"""


@pytest.mark.alone
@pytest.mark.parametrize("name", ["skilld_monitor", "skilld.monitor"])
def test_it_costs_a_program_little(tmp_path: Path, name: str) -> None:
    """The figures are 20 ms and 8 MB; a busy machine may take ten times that long."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(str(Path(str(of.__file__)).parents[1]) for of in (skilld_monitor, skill_actors)),
    }
    command = [sys.executable, "-S", "-c", COST.replace("NAME", name)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=True)
    figures, modules = done.stdout.splitlines()
    imported_ms, all_ms, megabytes = map(float, figures.split())
    assert imported_ms < 200
    assert all_ms < 400
    assert megabytes <= 8
    assert modules == "[]"


def test_each_setting_that_cannot_be_used_is_left_out_and_the_others_stay(tmp_path: Path) -> None:
    folder = tmp_path / ".config" / "skilld"
    folder.mkdir(parents=True)
    (folder / "monitor.ini").write_text("[monitor]\nenvironment = production\nmax_queued = many\nwrong = 1\n")
    made = enable_monitoring("shop", debug_level="LOUD", exit_timeout_s=1, log_file=7)  # type: ignore[arg-type]
    settings = made.settings
    assert (settings.agent_id, settings.environment, settings.exit_timeout_s) == ("shop", "production", 1)
    assert (settings.debug_level, settings.max_queued) == ("INFO", 65_536)
    assert "LOUD" in made.problem
    made.disable()


def test_a_working_directory_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    made = enable_monitoring("shop", log_file="log.json")
    assert (made.settings.agent_id, made.log_path) == ("shop", None)
    made.disable()
