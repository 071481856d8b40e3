"""The page on security scanning says what the program does, and its examples work."""

from __future__ import annotations

import hashlib
import hmac
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from skilld.config import AlertsConfig, MonitorPolicyConfig
from skilld.monitor.alerts.alert import TOO_MANY, AlertRules, Seen
from skilld.monitor.alerts.store import AlertStore
from skilld.monitor.inspection.inspector import NOT_SCANNED
from skilld.monitor.inspection.pushed import policy_for
from skilld.monitor.inspection.rule_files import layered, read_rule_file
from skilld_monitor.scanning import DIRECTIONS, builtin
from skilld_monitor.scanning.masking import METHODS
from skilld_monitor.scanning.rules import _FIELDS, KINDS

PAGE = Path(__file__).parents[3] / "docs/security-scanning.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the manual is in the repository; this is a copy")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_rule_file_of_the_page_does_what_the_page_says(tmp_path: Path) -> None:
    (text,) = [block for block in blocks("toml") if "[[rule]]" in block]
    (tmp_path / "local.toml").write_text(text)
    rules = layered([read_rule_file(tmp_path / "local.toml")])
    ids = {rule.id: rule for rule in rules.rules}
    assert "personal.phone" not in ids
    assert not [id for id in ids if id.startswith("secret.azure-")]
    assert ids["personal.email"].severity == "medium"
    assert {rule.id for rule in builtin().rules} - ids.keys() >= {"personal.phone"}
    found = rules.scan("customer no. C-123456 asked VAULT.corp and mail.corp, not billing db", "input")
    assert [finding.rule for finding in found] == ["shop.customer-number", "shop.hosts", "shop.hosts"]
    assert not rules.scan("for example customer number C-123456", "input")
    assert not rules.scan("customer number C-123456", "error")


def test_the_policy_of_the_page_is_one() -> None:
    (text,) = [block for block in blocks("toml") if "monitor.policy" in block]
    config = MonitorPolicyConfig(**tomllib.loads(text)["monitor"]["policy"])
    shop, tests = (policy_for(config, builtin(), agent) for agent in ("shop", "tests"))
    assert shop["modes"]["command.recursive-remove"] == "block"
    assert shop["modes"]["secret.aws-access-key-id"] == "redact"
    assert (tests["modes"], tests["dry_run"]) == ({}, True)


def test_the_sinks_of_the_page_are_some_and_its_receiver_knows_the_signature() -> None:
    (text,) = [block for block in blocks("toml") if "secret_file" in block]
    AlertsConfig(**tomllib.loads(text)["monitor"]["alerts"])
    (code,) = blocks("python")
    made: dict[str, Any] = {}
    exec(code, made)
    signed = hmac.new(b"s", b"1000.{}", hashlib.sha256).hexdigest()
    headers = {"x-skilld-timestamp": "1000", "x-skilld-signature": f"sha256={signed}"}
    assert made["is_ours"](b"s", headers, b"{}", 1100.0)
    assert not made["is_ours"](b"other", headers, b"{}", 1100.0)
    assert not made["is_ours"](b"s", headers, b"{ }", 1100.0)
    assert not made["is_ours"](b"s", headers, b"{}", 1400.0)


def test_fields_kinds_masks_and_directions_are_all_named() -> None:
    text = PAGE.read_text()
    _, _, table = text.partition("| field | what |")
    named = set(re.findall(r"^\| `(\w+)` \|", table.partition("\n\n")[0], re.MULTILINE))
    assert named == set(_FIELDS)
    for name in (*KINDS, *METHODS, *DIRECTIONS, TOO_MANY, NOT_SCANNED):
        assert f"`{name}`" in text, name


def test_an_alert_has_what_the_page_lists(tmp_path: Path) -> None:
    store = AlertStore(tmp_path / "alerts.db")
    rules = AlertRules(min_severity="low", dedup_s=1, per_minute=1, keep_s=1, max_alerts=1)
    usual: dict[str, Any] = {"agent": "a", "session": "", "rule": "r", "category": "c", "severity": "high"}
    usual |= {"confidence": 1.0, "direction": "input", "sample": "", "trace": None, "span": None}
    (alert,) = store.take_in([Seen(id=1, event=1, uid=1, **usual)], rules, 1).new
    store.close()
    (listed,) = re.findall(r"^An alert has .*", PAGE.read_text(), re.MULTILINE)
    for name in alert.to_dict():
        assert f"`{name}`" in listed, name
