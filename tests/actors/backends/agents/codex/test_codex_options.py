"""What operators and conversations may say of codex."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skill_actors.backends.agents.codex.options import CodexOptions, SessionChoice, checked, chosen
from skill_actors.backends.base import BackendUnavailable, OptionRefused
from skill_actors.models.prices import load_prices


def test_nothing_said_is_a_sandbox_without_a_network_in_which_all_is_asked() -> None:
    made = checked({})
    assert (made.sandbox, made.approval, made.unasked, made.bypass) == ("workspace-write", "untrusted", False, False)
    assert (made.network, made.web_search, made.features, made.warm) == (False, False, (), True)
    assert chosen({}, made) == SessionChoice()


def test_operators_options_are_taken_as_a_configuration_file_has_them() -> None:
    made = checked(
        {
            "program": "/opt/codex",
            "folder": "/var/lib/x",
            "api_key_file": "",
            "environment": {"HTTPS_PROXY": "http://proxy"},
            "features": ["goals"],
            "idle_close_s": 5,
            "prices": load_prices(),
        }
    )
    assert (made.folder, made.api_key_file, made.features, made.idle_close_s) == (
        Path("/var/lib/x"),
        None,
        ("goals",),
        5,
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"programme": "x"}, "there is none such"),
        ({"program": ""}, "has to name a program"),
        ({"program": 7}, "a text of one line"),
        ({"program": "a\0b"}, "a text of one line"),
        ({"folder": "relative"}, "an absolute path"),
        ({"base_url": "ftp://x"}, "http or https"),
        ({"base_url": "https://user:secret@host"}, "without a user"),
        ({"sandbox": "none"}, "one of read-only"),
        ({"approval": "always"}, "one of never"),
        ({"warm": False}, "single turns cannot ask"),
        ({"warm": "no"}, "true or false"),
        ({"max_processes": 0}, "at least 1"),
        ({"max_processes": True}, "a whole number"),
        ({"idle_close_s": float("nan")}, "seconds above 0"),
        ({"idle_close_s": float("inf")}, "seconds above 0"),
        ({"environment": {"CODEX_HOME": "/x"}}, "none of"),
        ({"environment": {"SKILLD_CODEX_KEY": "/x"}}, "none of"),
        ({"environment": {"A=B": "x"}}, "letters, digits"),
        ({"environment": ["A"]}, "a table of texts"),
        ({"environment": {"A": 1}}, "a text"),
        ({"features": "goals"}, "a list of names"),
        ({"model": "-m --yolo"}, "a model's name"),
        ({"prices": {}}, "model.price_file"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(options: dict[str, Any], words: str) -> None:
    with pytest.raises(BackendUnavailable, match="codex_cli") as caught:
        checked(options)
    assert words in str(caught.value)
    assert next(iter(options)) in str(caught.value)


def test_a_key_is_in_no_message_and_no_repr() -> None:
    with pytest.raises(BackendUnavailable) as caught:
        checked({"api_key": "sk-secret\n"})
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(checked({"api_key": "sk-secret"}))
    assert "secret" not in repr(checked({"environment": {"A": "secret"}}))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"sandbox": "danger-full-access"}, "bypass"),
        ({"approval": "never"}, "unasked"),
        ({"approval": "on-request"}, "unasked"),
        ({"network": True}, "network"),
        ({"web_search": "live"}, "web_search"),
        ({"features": {"goals": True}}, "features"),
    ],
)
def test_what_widens_has_to_be_permitted_by_a_key_that_the_refusal_names(options: dict[str, Any], key: str) -> None:
    with pytest.raises(OptionRefused, match=rf"backends\.codex_cli\.{key}") as caught:
        chosen(options, CodexOptions())
    assert caught.value.option == next(iter(options))
    permitted = checked({key: ["goals"] if key == "features" else True})
    assert getattr(chosen(options, permitted), caught.value.option) == options[caught.value.option]


def test_what_the_operator_chose_for_all_may_be_chosen_and_what_narrows_always() -> None:
    operator = CodexOptions(sandbox="danger-full-access", approval="never")
    assert chosen({"sandbox": "danger-full-access", "approval": "never"}, operator).approval == "never"
    assert chosen({"sandbox": "read-only", "approval": "untrusted"}, operator).sandbox == "read-only"


@pytest.mark.parametrize(
    "options",
    [
        {"add_dir": "/etc"},
        {"config": {"sandbox_mode": "danger-full-access"}},
        {"profile": "x"},
        {"sandbox": "workspace-write --yolo"},
        {"model": "m\n"},
        {"model": None},
        {"effort": "maximal"},
        {"web_search": "yes"},
        {"features": {"goals": "on"}},
        {"features": ["goals"]},
        {"network": 1},
    ],
)
def test_a_conversation_is_refused_what_is_no_option_of_its_own(options: dict[str, Any]) -> None:
    with pytest.raises(OptionRefused):
        chosen(options, CodexOptions(features=["goals"], unasked=True, bypass=True, network=True, web_search=True))


def test_a_conversation_cannot_ask_for_questions_where_there_are_none() -> None:
    with pytest.raises(OptionRefused, match="warm is false"):
        chosen({"approval": "untrusted"}, CodexOptions(warm=False, approval="never"))
