"""What stands at the edge of what a policy can judge: bodies that hold themselves, files that are none, odd classes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anthropic
import pytest

from monitor_kit import a_policy, policy_file, told_of_calls
from skill_actors.testing import FakeMessagesApi
from skilld_monitor import Monitoring, enable_monitoring
from skilld_monitor.policy import BlockedError
from skilld_monitor.policy.guard import before_call, before_function, before_tool
from skilld_monitor.policy.holder import Holder

KEY = "sk-ant-api03-" + "aB3dE5fG7h" * 4


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> Monitoring:
    """Switched on, and nothing taken out of its queue."""
    monkeypatch.setattr("skilld_monitor.sender.Sender.start", lambda self: None)
    return enable_monitoring("shop")


def test_a_body_that_holds_itself_is_the_clients_to_refuse_and_what_else_is_in_it_is_judged(tmp_path: Path) -> None:
    client = SimpleNamespace(create=lambda **given: "fine")
    enable_monitoring("shop", client, "create", policy_file=policy_file(tmp_path, "block"))
    body: dict[str, Any] = {"system": "fine"}
    body["extra_body"] = body
    assert client.create(extra_body=body) == "fine"
    body["system"] = "secret"
    with pytest.raises(BlockedError):
        client.create(extra_body=body)


@pytest.mark.parametrize("id", [["x"], {}])
def test_a_file_with_an_id_that_is_no_text_is_told_and_raises_nothing(tmp_path: Path, id: object) -> None:
    made = enable_monitoring("shop", policy_file=policy_file(tmp_path, "block", id=id))
    assert "id: expected text" in made.problem


class Unhashable(type):
    __hash__ = None  # type: ignore[assignment]


class Odd(metaclass=Unhashable):
    def __init__(self) -> None:
        self.held: list[int] = []  # else the collector does not know it


def test_a_kept_raw_form_is_judged_in_a_program_with_classes_that_have_no_hash(
    tmp_path: Path, client: anthropic.Anthropic, api: FakeMessagesApi
) -> None:
    odd, raw = Odd(), client.messages.with_raw_response
    made = enable_monitoring("shop", policy_file=policy_file(tmp_path, "block"))
    said: Any = [{"role": "user", "content": "secret"}]
    with pytest.raises(BlockedError):
        raw.create(model="claude-x", max_tokens=9, messages=said)
    assert made.problem == ""
    assert api.requests == []
    assert odd.held == []


def test_a_call_that_passes_unjudged_is_told_once_a_minute_and_cause_and_in_its_problem(still: Monitoring) -> None:
    still.policy.heard(a_policy())
    for _ in range(50):
        before_call(still, {"messages": iter([KEY])})
        before_tool(still, "read", {"lines": iter([KEY])})
    found = told_of_calls(still)
    assert [(event["name"], event["level"]) for event in found] == [
        ("LLM_call_unjudged", "WARNING"),
        ("tool_call_unjudged", "WARNING"),
    ]
    assert "argument 'messages' cannot be judged" in found[0]["data"]["security.reason"]
    assert found[1]["data"]["gen_ai.tool.name"] == "read"
    assert still.policy.counts["unjudged"] == 100
    assert "a call was not judged: its argument" in still.problem
    still.policy._told = {cause: at_s - 60 for cause, at_s in still.policy._told.items()}
    before_call(still, {"messages": iter([KEY])})
    before_call(still, {"messages": iter([KEY])})
    assert [event["name"] for event in told_of_calls(still)] == ["LLM_call_unjudged"], "a minute later once more"


def test_a_cause_that_is_another_with_each_call_makes_no_event_of_each(still: Monitoring) -> None:
    still.policy.heard(a_policy())
    for number in range(300):
        before_function(still, "f", {f"argument_{number}": iter([KEY])})
    assert len(told_of_calls(still)) == 20
    assert still.policy.counts["unjudged"] == 300


def test_a_policy_that_cannot_be_kept_is_in_the_problem_until_it_can(still: Monitoring, tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("no folder")
    still.policy.heard(a_policy())
    assert "cannot be kept" in still.policy.problem
    (tmp_path / "spool").unlink()
    still.policy.heard(a_policy())
    assert still.policy.problem == ""


def test_a_policy_that_comes_while_another_is_made_ready_is_in_force(
    still: Monitoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, heard = Holder._make, iter([a_policy("block", version="v2")])

    def slowly(holder: Holder, said: Any) -> Any:
        found = make(holder, said)
        for policy in heard:
            holder.heard(policy)
        return found

    monkeypatch.setattr(Holder, "_make", slowly)
    still.policy.heard(a_policy("redact", dry_run=True))
    ((policy,), problem) = still.policy.policies()
    assert (policy.dry_run, set(policy.actions.values()), problem) == (False, {"block"}, "")
    assert still.policy.version == "v2"
