"""What is masked is gone from every text of a value, and nothing else changes."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scan_kit import corpus, planted
from skilld_monitor.scanning import builtin, read_rules
from skilld_monitor.scanning.masking import MASK

KEY = "sk-ant-api03-" + "aB3dE5fG7h" * 4
CARD = "4111 1111 1111 1111"
RULE = {"id": "x", "category": "sensitive_data", "severity": "high", "kind": "pattern", "match": r"\d{16}"}

SECRETS = [(line["text"], line["secrets"]) for line in planted()]
BENIGN = [line["text"] for line in corpus() if line["label"] == "benign"]


@pytest.mark.parametrize(
    ("method", "shown"),
    [
        ("full", "[masked]"),
        ("partial", "1234****3456"),
        ("credit_card", "1234****3456"),
        ("last4", "****3456"),
        ("none", "1234567890123456"),
        ("hash", "[masked]"),
    ],
)
def test_each_method_shows_what_it_says(method: str, shown: str) -> None:
    rules = read_rules([{**RULE, "mask": method}])
    assert rules.mask_text("no 1234567890123456 no")[0] == f"no {shown} no"


def test_a_hash_is_the_same_for_the_same_secret_and_another_for_another_key() -> None:
    rules = read_rules([{**RULE, "mask": "hash"}])
    one, two = rules.with_key(b"one"), rules.with_key(b"two")
    assert one.mask_text("1234567890123456")[0] == one.mask_text("1234567890123456")[0]
    assert one.mask_text("1234567890123456")[0] != one.mask_text("1234567890123457")[0]
    assert one.mask_text("1234567890123456")[0] != two.mask_text("1234567890123456")[0]
    assert "3456" not in one.mask_text("1234567890123456")[0]


def test_addresses_keep_their_domain_and_numbers_their_end() -> None:
    text = f"ada.lovelace@engine.org, (415) 555-2671, {CARD}, 536-22-8726"
    assert builtin().mask_text(text)[0] == "a****e@engine.org, ****2671, 4111****1111, ****8726"


def test_a_short_secret_is_masked_in_full() -> None:
    rules = read_rules([{**RULE, "match": r"\d{4,16}", "mask": "partial"}])
    assert rules.mask_text("pin 123456")[0] == "pin [masked]"


def test_a_function_of_the_programs_own_masks_and_its_mistakes_hide_all() -> None:
    rules = read_rules([RULE])
    assert rules.with_custom(lambda text, rule: f"<{rule}>").mask_text("1234567890123456")[0] == "<x>"
    assert rules.with_custom(lambda text, rule: None).mask_text("1234567890123456")[0] == "[masked]"

    def broken(text: str, rule: str) -> str:
        raise RuntimeError(text)

    assert rules.with_custom(broken).mask_text("1234567890123456")[0] == "[masked]"


@pytest.mark.alone
def test_a_function_that_takes_too_long_is_asked_once() -> None:
    asked: list[str] = []

    def slow(text: str, rule: str) -> str:
        asked.append(rule)
        time.sleep(2)
        return text

    rules = read_rules([RULE]).with_custom(slow, timeout_s=0.05)
    began_s = time.monotonic()
    shown, _ = rules.mask_text("1234567890123456 and 6543210987654321")
    assert shown == "[masked] and [masked]"
    assert time.monotonic() - began_s < 1.5
    assert asked == ["x"]


def test_every_text_of_a_value_is_masked_names_and_all_and_the_structure_stays() -> None:
    value = {
        "system": f"use {KEY}",
        "messages": [{"role": "user", "content": [{"type": "text", "text": CARD}, 5, None, True, 1.5]}],
        KEY: {"nested": (KEY, "fine")},
        "tools": [{"arguments": {"headers": {"Authorization": f"Bearer {KEY}"}}}],
    }
    before = json.dumps(value)
    shown, found = builtin().mask(value)
    assert json.dumps(value) == before, "the program's own objects are its own"
    assert KEY not in str(shown)
    assert CARD not in str(shown)
    assert isinstance(shown, dict)
    assert list(shown) == ["system", "messages", "sk-a****fG7h", "tools"]
    assert shown["messages"][0]["content"][1:] == [5, None, True, 1.5]
    assert isinstance(shown["sk-a****fG7h"]["nested"], tuple)
    assert len(found) >= 5


def test_a_card_is_masked_as_a_number_too_and_other_numbers_stay_numbers() -> None:
    shown, found = builtin().mask({"card": [int(CARD.replace(" ", ""))]})
    assert shown == {"card": ["4111****1111"]}
    assert [finding.rule for finding in found] == ["personal.payment-card"]
    value = [4111111111111112, 1_795_345_506_643_422, 1_795_345_506_643_422_400, 10**30, -4111111111111111, True, 1.5]
    assert builtin().mask(value)[0] is value


def test_two_names_that_are_masked_alike_stay_two() -> None:
    other = KEY[:-4] + "fG7h"
    value = {f"{KEY}x1": 1, KEY: 2, other[:13] + "z" + other[14:]: 3}
    shown, _ = builtin().mask(value)
    assert isinstance(shown, dict)
    assert sorted(shown.values()) == [1, 2, 3]


def test_what_has_nothing_to_mask_is_the_same_object() -> None:
    value = {"a": ["b", {"c": "d"}], "n": 1}
    assert builtin().mask(value) == (value, [])
    assert builtin().mask(value)[0] is value


@pytest.mark.parametrize("name", ["password", "dbPassword", "X-API-Key", "client_secret", "Authorization", "cookie"])
def test_a_field_that_is_named_as_a_secret_is_masked_whatever_it_holds(name: str) -> None:
    shown, found = builtin().mask({name: "plainword"})
    assert shown == {name: "[masked]"}
    assert [finding.rule for finding in found] == ["secret.named-field"]


@pytest.mark.parametrize(
    "name", ["gen_ai.usage.input_tokens", "token_type", "keyboard", "secretary", "gen_ai.token.type"]
)
def test_a_field_whose_name_merely_resembles_one_is_left(name: str) -> None:
    assert builtin().mask({name: "plainword"}) == ({name: "plainword"}, [])


def test_what_is_deeper_than_anything_sensible_is_masked_as_a_whole() -> None:
    value: object = KEY
    for _ in range(300):
        value = [value]
    assert KEY not in str(builtin().mask(value)[0])


def test_samples_show_the_place_and_no_secret_that_stands_near_or_is_cut() -> None:
    text = f"my key {KEY} and then rm -rf / with card {CARD}"
    _, found = builtin().mask_text(text)
    assert {finding.category for finding in found} == {"sensitive_data", "dangerous_commands"}
    for finding in found:
        assert "rm -rf /" in finding.sample or finding.category == "sensitive_data"
        assert KEY[-12:] not in finding.sample
        assert "1111" not in finding.sample
        assert len(finding.sample) <= 200


def test_redacting_hides_what_masking_leaves() -> None:
    assert builtin().mask_text("run rm -rf / now")[0] == "run rm -rf / now"
    assert builtin().redact_text("run rm -rf / now")[0].startswith("run [masked]")


FILLING = st.lists(st.sampled_from(BENIGN), max_size=3).map("\n".join)


@settings(max_examples=150, deadline=None)
@given(FILLING, st.sampled_from(SECRETS), FILLING, st.sampled_from(SECRETS))
def test_no_planted_secret_is_left_whatever_stands_around_it(
    before: str, first: tuple[str, list[str]], between: str, second: tuple[str, list[str]]
) -> None:
    text = "\n".join((before, first[0], between, second[0]))
    shown, found = builtin().mask_text(text)
    assert [secret for secret in first[1] + second[1] if secret in shown] == []
    assert builtin().mask_text(shown)[0] == shown
    for finding in found:
        assert 0 <= finding.start < finding.end <= len(text)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(BENIGN), min_size=1, max_size=6))
def test_benign_text_is_never_changed(parts: list[str]) -> None:
    text = "\n\n".join(parts)
    assert builtin().mask_text(text)[0] == text


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=12,
    )
)
def test_whatever_a_value_is_its_structure_stays(value: object) -> None:
    shown, found = builtin().mask(value)
    if not found:
        assert shown == value
    assert type(shown) is type(value)


def test_a_field_named_as_a_secret_is_masked_as_a_number_and_as_each_of_several_values() -> None:
    value = {
        "password": ["hunterly", "xylophone"],
        "headers": {"Authorization": ("opaque-one",), "accept": ["text/html"]},
        "passcode": 90210447,
        "secret": True,
        "api_key": [1, 2],
    }
    shown, found = builtin().mask(value)
    assert shown == {
        "password": [MASK, MASK],
        "headers": {"Authorization": (MASK,), "accept": ["text/html"]},
        "passcode": MASK,
        "secret": True,
        "api_key": [1, 2],
    }
    assert [finding.rule for finding in found] == ["secret.named-field"] * 4
    plain = {"password": ["<your password>"], "token_count": 5_000}
    assert builtin().mask(plain)[0] is plain
