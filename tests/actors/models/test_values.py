"""Prices, retries, keys, failures and request bodies: the parts that decide without I/O, or with a file."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from skill_actors.models import (
    CredentialError,
    KeyEnvironment,
    KeyFile,
    Message,
    ModelError,
    ModelRequest,
    PriceError,
    RetryPolicy,
    Usage,
    backoff,
    cost_usd,
    find_key_source,
    load_prices,
)
from skill_actors.models.failures import retry_after_s
from skill_actors.models.request import request_body

MILLION = 1_000_000
ALL = Usage(
    input_tokens=MILLION,
    output_tokens=MILLION,
    cache_read_tokens=MILLION,
    cache_write_5m_tokens=MILLION,
    cache_write_1h_tokens=MILLION,
)


@pytest.mark.parametrize(
    ("model", "usd"),
    [
        ("claude-sonnet-5-5", 2 + 10 + 0.1 + 2.5 + 4),
        ("claude-opus-4-5-20251101", 5 + 25 + 0.5 + 6.25 + 10),
        ("claude-fable-5-1", 10 + 50 + 0.25 + 12.5 + 20),
        ("claude-haiku-5-5", 0.5 + 2.5 + 0.05 + 0.625 + 1),
        ("offline", 0.0),
    ],
)
def test_each_kind_of_token_has_its_rate(model: str, usd: float) -> None:
    assert cost_usd(model, ALL) == pytest.approx(usd)


def test_the_tier_follows_from_the_whole_prompt_of_the_call() -> None:
    small = Usage(input_tokens=40_000, cache_read_tokens=60_000)
    large = Usage(input_tokens=40_000, cache_read_tokens=60_001)
    assert cost_usd("claude-haiku-5-5", small) == pytest.approx(0.04 * 0.10 + 0.06 * 0.01)
    assert cost_usd("claude-haiku-5-5", large) == pytest.approx(0.04 * 0.50 + 0.060001 * 0.05)


def test_web_search_is_paid_by_the_request() -> None:
    assert cost_usd("claude-sonnet-5-5", Usage(web_search_requests=3)) == pytest.approx(0.03)


@pytest.mark.parametrize("model", ["claude-mythos-5-2", "gpt", "", "claude-sonnet-5-5-2025", "Claude-Sonnet-5-5"])
def test_an_unknown_price_is_none_and_never_zero(model: str) -> None:
    assert cost_usd(model, Usage()) is None


PRICE = """
dated = 2027-01-01
web_search_per_1000 = 12
[[price]]
models = ["own-model", "claude-haiku-5-5"]
input = 1
cache_write_5m = 1
cache_write_1h = 1
cache_read = 1
output = 1
"""


def test_an_own_price_file_adds_models_and_replaces_those_it_names(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(PRICE)
    table = load_prices(file)
    assert table.cost_usd("own-model", Usage(input_tokens=MILLION, web_search_requests=1000)) == pytest.approx(13)
    assert table.cost_usd("claude-haiku-5-5", Usage(input_tokens=1000)) == pytest.approx(0.001)
    assert table.cost_usd("claude-sonnet-5-5", Usage(input_tokens=MILLION)) == pytest.approx(2)
    assert table.to_dict()["dated"] == "2027-01-01"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("input = 1\n", "", "input must be"),
        ("input = 1\n", "input = -1\n", "-1"),
        ("input = 1\n", "input = nan\n", "NaN"),
        ("input = 1\n", "input = true\n", "True"),
        ("input = 1\n", "inptu = 1\n", "'inptu'"),
        ("dated = 2027-01-01\n", "dated = 'soon'\n", "soon"),
        ("[[price]]", "[price]", "tables"),
        ('models = ["own-model", "claude-haiku-5-5"]', "models = []", "models"),
        ('"claude-haiku-5-5"', '"own-model"', "twice"),
        ("[[price]]", "[[price", "price file"),
        ("output = 1", "output = 1\nmax_prompt_tokens = 0", "max_prompt_tokens"),
    ],
)
def test_a_price_file_that_is_wrong_is_refused_with_the_reason(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in PRICE
    file = tmp_path / "prices.toml"
    file.write_text(PRICE.replace(old, new))
    with pytest.raises(PriceError, match="price") as caught:
        load_prices(file)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_missing_price_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PriceError, match="cannot be read"):
        load_prices(tmp_path / "none")


def failure(*, retryable: bool = True, after_s: float | None = None) -> ModelError:
    return ModelError("x", code="overloaded", retryable=retryable, retry_after_s=after_s)


def test_waits_double_up_to_the_cap_and_end_with_the_last_attempt() -> None:
    policy = RetryPolicy(max_attempts=7)
    waits = [backoff(attempt, failure(), Random(1), policy) for attempt in range(1, 8)]
    assert waits[-1] is None
    for wait_s, full_s in zip(waits[:-1], [0.5, 1, 2, 4, 8, 8], strict=True):
        assert wait_s is not None
        assert 0.75 * full_s <= wait_s <= full_s


def test_four_attempts_are_the_default() -> None:
    assert [backoff(attempt, failure(), Random(1)) is None for attempt in range(1, 6)] == [False] * 3 + [True] * 2


def test_what_cannot_succeed_is_not_tried_again() -> None:
    assert backoff(1, failure(retryable=False), Random(1)) is None


def test_the_server_is_waited_for_as_it_asks_but_not_for_ever() -> None:
    wait_s = backoff(1, failure(after_s=30), Random(1))
    assert wait_s is not None
    assert 30 <= wait_s <= 33
    assert backoff(1, failure(after_s=61), Random(1)) is None
    assert backoff(1, failure(after_s=0), Random(1)) == 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "3", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 40.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:01 GMT"}, 0.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "later"}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, now_s=60.0) == seconds


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text("sk-first\n")
    file.chmod(0o600)
    return file


def test_the_key_is_read_again_when_the_file_is_changed_or_replaced(key_file: Path) -> None:
    source = KeyFile(key_file)
    assert source() == "sk-first"
    key_file.write_text("sk-again")
    assert source() == "sk-again"
    other = key_file.with_name("new")
    other.write_text("sk-other")
    other.chmod(0o600)
    other.rename(key_file)
    assert source() == "sk-other"
    key_file.unlink()
    with pytest.raises(CredentialError, match="No such file"):
        source()


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b" \n", "empty"), (b"x" * 9000, "more than 8192"), (b"a b", "blanks"), (b"k\xff", "ASCII")],
)
def test_a_key_file_without_a_key_is_refused_without_showing_it(key_file: Path, content: bytes, said: str) -> None:
    key_file.write_bytes(content)
    with pytest.raises(CredentialError, match=said) as caught:
        KeyFile(key_file)()
    assert caught.value.code == "not_configured"
    assert str(key_file) in str(caught.value)


def test_a_folder_or_a_pipe_is_no_key_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(CredentialError, match="not a regular file"):
            KeyFile(place)()


def test_a_key_that_everybody_can_read_is_warned_about_once(key_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    key_file.chmod(0o644)
    source = KeyFile(key_file)
    source()
    key_file.write_text("sk-second")
    source()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "sk-" not in caplog.text


def test_sources_are_found_in_order(key_file: Path) -> None:
    environ = {"ANTHROPIC_API_KEY": "sk-env", "CREDENTIALS_DIRECTORY": str(key_file.parent)}
    assert repr(find_key_source(credential="key", file=Path("other"), environ=environ)) == f"KeyFile('{key_file}')"
    assert repr(find_key_source(file=key_file, environ=environ)) == f"KeyFile('{key_file}')"
    from_environment = find_key_source(environ=environ)
    assert from_environment is not None
    assert from_environment() == "sk-env"
    assert find_key_source(environ={}) is None


@pytest.mark.parametrize("name", ["", "../key", "a/b", ".", ".."])
def test_a_credential_name_is_no_path(name: str) -> None:
    with pytest.raises(CredentialError, match="credential name"):
        find_key_source(credential=name, environ={"CREDENTIALS_DIRECTORY": "/run"})


def test_a_credential_without_systemd_names_the_way_out() -> None:
    with pytest.raises(CredentialError, match="LoadCredential=key"):
        find_key_source(credential="key", environ={})


def test_an_environment_variable_that_vanished_is_said() -> None:
    with pytest.raises(CredentialError, match="SOME_KEY is not set"):
        KeyEnvironment("SOME_KEY", {})()


def test_a_history_with_gaps_is_mended_on_the_way_out() -> None:
    """Blank texts and empty messages go, neighbours of one role are joined, results of tools come first."""
    call = {"type": "tool_use", "id": "t", "name": "n", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": "r"}
    messages: list[Message] = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": [{"type": "text", "text": " \n"}]},
        {"role": "user", "content": [{"type": "text", "text": "two"}]},
        {"role": "assistant", "content": [{"type": "text", "text": ""}, call]},
        {"role": "user", "content": [{"type": "text", "text": "note"}, result]},
    ]
    before = repr(messages)
    body = request_body(ModelRequest(model="m", messages=messages))
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result, {"type": "text", "text": "note"}]},
    ]
    assert repr(messages) == before
    assert "system" not in body
    assert "tools" not in body


def test_a_summary_of_the_api_without_a_word_is_not_sent_back() -> None:
    """The API takes null, and a text."""
    messages: list[Message] = [
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {
            "role": "assistant",
            "content": [{"type": "compaction", "content": content} for content in ("", None, "they spoke")],
        },
        {"role": "user", "content": [{"type": "text", "text": "more"}]},
    ]
    body = request_body(ModelRequest(model="claude-sonnet-5-5", messages=messages))
    assert [block["content"] for block in body["messages"][1]["content"]] == [None, "they spoke"]
