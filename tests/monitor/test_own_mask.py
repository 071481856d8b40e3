"""A program's own way to mask, in all that is masked in the program itself, and what it does wrong shows no secret."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import anthropic
import pytest

from skill_actors.testing import FakeMessagesApi
from skilld_monitor import enable_monitoring, log_event
from skilld_monitor.scanning import builtin, rules_as_json
from skilld_monitor.settings import SettingsError

KEY = "sk-ant-api03-" + "aB3dE5fG7h" * 4
CARD = "4111 1111 1111 1111"


def vault(text: str, rule: str) -> str | None:
    """As a program does it that keeps what it hides, and finds it again by a name."""
    return f"<vault:{rule}:{len(text)}>" if rule.startswith("secret.") else None


def written(path: str | None) -> str:
    assert path is not None
    return Path(path).read_text(encoding="utf-8")


def test_it_holds_in_the_log_file_and_for_what_waits_and_leaves_to_the_rules_what_it_will(tmp_path: Path) -> None:
    made = enable_monitoring("shop", log_file=tmp_path / "log.json", mask=vault)
    log_event("leak", {"text": f"use {KEY} and {CARD}"})
    assert made.flush(10)
    made.disable()
    (spooled,) = (tmp_path / "spool").glob("*.jsonl")
    for text in (written(made.log_path), spooled.read_text()):
        assert KEY not in text
        assert f"use <vault:secret.anthropic-key:{len(KEY)}> and 4111****1111" in text


def test_it_masks_what_a_policy_redacts(tmp_path: Path, client: anthropic.Anthropic, api: FakeMessagesApi) -> None:
    own = tmp_path / "policy.json"
    own.write_text(json.dumps({"mode": "redact", "rules": rules_as_json(builtin())}))
    own.chmod(0o600)
    made = enable_monitoring("shop", policy_file=str(own), mask=vault)
    assert made.problem == ""
    said: Any = [{"role": "user", "content": f"use {KEY}"}]
    client.messages.create(model="claude-x", max_tokens=9, messages=said)
    assert api.requests[-1].body["messages"][0]["content"] == f"use <vault:secret.anthropic-key:{len(KEY)}>"


def fails(text: str, rule: str) -> str:
    raise RuntimeError(text)


def leaves(text: str, rule: str) -> str:
    sys.exit(text)


def keeps(text: str, rule: str) -> str:
    return text


def strays(text: str, rule: str) -> Any:
    return [text]


def around(text: str, rule: str) -> str:
    return f"<{text}>"


@pytest.mark.parametrize("mask", [fails, leaves, keeps, strays, around])
def test_what_it_does_wrong_shows_nothing_and_harms_nobody(tmp_path: Path, mask: Any) -> None:
    made = enable_monitoring("shop", log_file=tmp_path / "log.json", mask=mask)
    log_event("leak", {"text": f"use {KEY}", "api_key": KEY, "password": "hunter2xyz"})
    log_event("more", {"password": [KEY, "hunter2xyz"]})
    log_event("next", {"text": "fine"})
    assert made.flush(10)
    made.disable()
    text = written(made.log_path)
    assert KEY not in text
    assert "hunter2xyz" not in text
    assert "[masked]" in text
    assert '"fine"' in text


def test_one_that_gives_nothing_leaves_nothing(tmp_path: Path) -> None:
    made = enable_monitoring("shop", log_file=tmp_path / "log.json", mask=lambda text, rule: "")
    log_event("leak", {"text": f"use {KEY}", "password": ["hunter2xyz"], "api_key": KEY})
    assert made.flush(10)
    made.disable()
    (line,) = [json.loads(line) for line in written(made.log_path).splitlines() if "leak" in line]
    assert line["data"] == {"text": "use ", "password": [""], "api_key": ""}


@pytest.mark.alone
def test_one_that_never_comes_back_holds_up_nobody_for_long(tmp_path: Path) -> None:
    held = threading.Event()

    def waits(text: str, rule: str) -> str | None:
        held.wait(60)
        return None

    made = enable_monitoring("shop", log_file=tmp_path / "log.json", mask=waits)
    began_s = time.monotonic()
    for number in range(100):
        log_event(f"leak-{number}", {"text": f"use {KEY}"})
    assert made.flush(20)
    assert time.monotonic() - began_s < 5
    held.set()
    assert written(made.log_path).count('"use [masked]"') == 100


def test_what_is_no_function_is_told_and_raises_where_that_is_wanted() -> None:
    made = enable_monitoring("shop", mask="full")
    assert made.problem == "mask is 'full'; expected a function of a text and the id of a rule"
    made.disable()
    with pytest.raises(SettingsError, match="mask is '7'; expected a function"):
        enable_monitoring("shop", mask=7, strict=True)
