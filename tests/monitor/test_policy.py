"""Rules that redact or block, applied before the call: what goes out, what is told, and what happens in doubt."""

from __future__ import annotations

import json
import os
import queue
import stat
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from monitor_kit import a_policy as policy
from monitor_kit import run_program
from monitor_kit import told_of_calls as told
from skilld_monitor import Monitoring, enable_monitoring
from skilld_monitor.monitoring import active
from skilld_monitor.policy import BlockedError
from skilld_monitor.policy.cache import keep_policy, read_own, read_policy
from skilld_monitor.policy.guard import before_call, before_tool
from skilld_monitor.policy.holder import holder_for
from skilld_monitor.policy.policies import PolicyError
from skilld_monitor.scanning import builtin, rules_as_json
from skilld_monitor.settings import Settings, SettingsError

KEY = "sk-ant-api03-" + "aB3dE5fG7h" * 4
RULES = rules_as_json(builtin())
JSON = dict[str, Any]


@dataclass(slots=True)
class Slotted:
    """A record that keeps its fields in slots."""

    text: str


class Block(BaseModel):
    """A block of content, as SDKs hand them out."""

    type: str = "text"
    text: str


class Plain:
    """An object that is more than the values under its names."""

    def __init__(self, text: str) -> None:
        self.text = text


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Monitoring:
    """Switched on, and nothing taken out of its queue."""
    monkeypatch.setattr("skilld_monitor.sender.Sender.start", lambda self: None)
    return enable_monitoring("shop")


class Odd(dict[str, object]):
    """A dict that cannot be read."""

    def items(self) -> Any:
        raise RuntimeError(KEY)


class Odder(tuple[str, ...]):
    """A tuple that cannot be made anew: nobody knows how its class is called."""


class Words(list[str]):
    """A list of a class of its own."""


class Point(NamedTuple):
    """A tuple with names."""

    x: str
    y: int


def asked(text: str) -> JSON:
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


def test_without_rules_a_call_costs_a_look_and_stays_the_same_object(made: Monitoring) -> None:
    kwargs = asked(KEY)
    assert before_call(made, kwargs) is kwargs
    made.policy.heard({"version": "v1", "mode": "observe", "rules": []})
    assert before_call(made, kwargs) is kwargs
    assert not made.policy.is_active


def test_a_blocked_call_says_the_rule_and_never_what_was_said(made: Monitoring) -> None:
    made.policy.heard(policy())
    with pytest.raises(BlockedError, match=r"secret\.anthropic-key") as caught:
        before_call(made, asked(f"my key is {KEY}"))
    assert isinstance(caught.value, ValueError)
    assert (caught.value.rule, caught.value.category) == ("secret.anthropic-key", "sensitive_data")
    assert KEY not in str(caught.value)
    (event,) = told(made)
    assert (event["name"], event["level"]) == ("LLM_call_blocked", "WARNING")
    assert event["data"]["security.rules"] == ["secret.anthropic-key"]
    assert KEY not in json.dumps(event)
    assert made.policy.counts["blocked"] == 1


def test_a_redacted_call_goes_out_as_a_copy_and_the_programs_own_stays(made: Monitoring) -> None:
    made.policy.heard(policy("redact"))
    part = {"type": "text", "text": f"key {KEY}"}
    fine = {"role": "user", "content": "hello"}
    kwargs: JSON = {"model": "m", "system": KEY, "messages": [fine, {"role": "user", "content": [part]}], "n": 3}
    before = json.dumps(kwargs)
    shown = before_call(made, kwargs)
    assert json.dumps(kwargs) == before
    assert KEY not in json.dumps(shown)
    assert isinstance(shown["messages"], list)
    assert shown["messages"][0] is fine
    assert shown["n"] == 3
    assert [event["name"] for event in told(made)] == ["LLM_call_redacted"]


def test_a_command_is_redacted_too_though_it_is_never_masked(made: Monitoring) -> None:
    made.policy.heard(policy("redact"))
    shown = before_call(made, asked("please run rm -rf / now"))
    assert "rm -rf" not in json.dumps(shown)


@pytest.mark.parametrize(
    "hide",
    [
        lambda text: [{"type": "image", "source": {"type": "url", "url": text}}],
        lambda text: [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": text}]}],
        lambda text: ({"type": "text", "text": text},),
        lambda text: {text: "as a name"},
        lambda text: [{"type": "base64", "note": text, "data": "aGVsbG8="}],
        lambda text: [{"type": "text", "tags": {text}}],
        lambda text: [{"type": "text", "tags": frozenset({text})}],
        lambda text: deque([{"type": "text", "text": text}]),
        lambda text: {"a": text}.values(),
        lambda text: MappingProxyType({"type": "text", "text": text}),
        lambda text: [Slotted(text)],
        lambda text: [Block(text=text)],
    ],
)
def test_no_shape_of_content_hides_what_is_blocked(made: Monitoring, hide: Callable[[str], object]) -> None:
    made.policy.heard(policy())
    with pytest.raises(BlockedError):
        before_call(made, {"messages": [{"role": "user", "content": hide(KEY)}]})


def test_what_has_slots_is_copied_and_what_has_no_names_keeps_its_class(made: Monitoring) -> None:
    made.policy.heard(policy("redact"))
    block, tags = Slotted(f"key {KEY}"), {"a", KEY}
    shown: Any = before_call(made, {"messages": [{"role": "user", "content": [block], "tags": tags}]})
    message = shown["messages"][0]
    assert isinstance(message["content"][0], Slotted)
    assert KEY not in message["content"][0].text
    assert isinstance(message["tags"], set)
    assert KEY not in message["tags"]
    assert (block.text, KEY in tags) == (f"key {KEY}", True)


def test_the_bytes_of_an_image_are_not_read_as_text(made: Monitoring) -> None:
    made.policy.heard(policy())
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": KEY}}
    kwargs: JSON = {"messages": [{"role": "user", "content": [image]}]}
    assert before_call(made, kwargs) is kwargs


@pytest.mark.parametrize(
    "name",
    [
        *("documents", "extra_body", "functions", "instructions", "metadata", "output_config", "prediction"),
        *("response_format", "stop_sequences", "suffix", "text", "tools"),
    ],
)
def test_every_argument_with_text_for_a_model_is_looked_at(made: Monitoring, name: str) -> None:
    made.policy.heard(policy())
    with pytest.raises(BlockedError):
        before_call(made, {**asked("hello"), name: [{"description": KEY}]})


def test_objects_of_an_sdk_are_looked_into_and_copied(made: Monitoring) -> None:
    made.policy.heard(policy("redact"))
    block = Block(text=f"key {KEY}")
    shown: Any = before_call(made, {"messages": [{"role": "assistant", "content": [block]}]})
    copied = shown["messages"][0]["content"][0]
    assert isinstance(copied, Block)
    assert KEY not in copied.text
    assert KEY in block.text


@pytest.mark.parametrize("hide", [iter, lambda items: (item for item in items)])
def test_an_iterator_is_left_as_it_is_and_what_cannot_be_judged_is_told(
    made: Monitoring, hide: Callable[[list[str]], Any]
) -> None:
    made.policy.heard(policy())
    for nested in (False, True):
        words = hide([KEY, "hello"])
        kwargs: JSON = {"messages": [{"role": "user", "content": words}] if nested else words}
        assert before_call(made, kwargs) is kwargs
        assert list(words) == [KEY, "hello"]
    assert made.policy.counts["unjudged"] == 2
    assert made.policy.problem == (
        "a call was not judged: its argument 'messages' cannot be judged:"
        " there is an iterator, which can be read only once"
    )
    made.policy.heard(policy(fail="closed"))
    words = hide([KEY])
    with pytest.raises(BlockedError, match="argument 'messages' cannot be judged: there is an iterator"):
        before_call(made, {"messages": words})
    assert list(words) == [KEY]


def test_an_iterator_that_never_ends_holds_nothing_up(made: Monitoring) -> None:
    made.policy.heard(policy())
    endless = iter(queue.Queue[str]().get, None)
    assert before_tool(made, "read", {"lines": endless}) == {"lines": endless}


def test_what_cannot_be_judged_takes_nothing_from_the_rest(made: Monitoring) -> None:
    made.policy.heard(policy("redact", modes={"command.recursive-remove": "block"}))
    words = iter(["hello"])
    shown = before_call(made, {"messages": words, "system": f"key {KEY}"})
    assert shown["messages"] is words
    assert KEY not in str(shown["system"])
    assert (made.policy.counts["unjudged"], made.policy.counts["redacted"]) == (1, 1)
    with pytest.raises(BlockedError, match="recursive-remove"):
        before_call(made, {"messages": Odd(a=1), "system": "rm -rf /"})


def test_an_object_that_is_no_record_is_not_looked_into_and_a_model_gets_none_unjudged(made: Monitoring) -> None:
    made.policy.heard(policy())
    block = Plain(KEY)
    kwargs: JSON = {"messages": [{"role": "user", "content": [block]}]}
    assert before_call(made, kwargs) is kwargs
    assert made.policy.counts["unjudged"] == 1
    made.policy.heard(policy(fail="closed"))
    with pytest.raises(BlockedError, match="'messages' cannot be judged: there is an object of the class Plain"):
        before_call(made, kwargs)
    arguments = {"shop": block}
    assert before_tool(made, "buy", arguments) is arguments, "a tool is free to get any"
    for harmless in (object(), SimpleNamespace(timeout=3.5), Fraction(1, 3), len, Plain):
        assert before_call(made, {"messages": "hello", "text": harmless})


@pytest.mark.parametrize(
    "given",
    [
        OrderedDict(a=KEY),
        defaultdict(str, a=KEY),
        Counter({KEY: 2}),
        Words(["a", KEY]),
        Point(KEY, 2),
        deque([KEY], maxlen=3),
        {"a": KEY}.values(),
        {KEY: 1}.keys(),
        {"a": KEY}.items(),
        MappingProxyType({"a": KEY}),
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_is_redacted_stays_of_its_kind(made: Monitoring, given: Any) -> None:
    made.policy.heard(policy("redact"))
    before = repr(given)
    shown: Any = before_tool(made, "post", {"body": given})
    body = shown["body"]
    assert type(body) is type(given)
    assert getattr(body, "maxlen", None) == getattr(given, "maxlen", None)
    assert KEY not in repr(body)
    assert repr(given) == before


def test_what_has_no_copy_of_its_kind_goes_on_as_it_is_and_is_told(made: Monitoring) -> None:
    made.policy.heard(policy("redact"))
    kwargs: JSON = {"messages": Odder((KEY,))}
    assert before_call(made, kwargs) is kwargs
    assert "a Odder, which cannot be replaced" in made.policy.problem
    assert [event["name"] for event in told(made)] == ["LLM_call_unjudged"], "nothing was redacted"
    made.policy.heard(policy("redact", fail="closed"))
    with pytest.raises(BlockedError, match="cannot be replaced"):
        before_call(made, kwargs)


@pytest.mark.alone
def test_circles_and_depths_end(made: Monitoring) -> None:
    @dataclass(eq=False)
    class Node:
        text: str = "fine"
        others: list[Node] = field(default_factory=list)

    made.policy.heard(policy(fail="closed"))
    nodes = [Node() for _ in range(30)]
    for node in nodes:
        node.others = nodes
    kwargs: JSON = {"messages": nodes}
    assert before_call(made, kwargs) is kwargs
    nodes[17].text = KEY
    with pytest.raises(BlockedError, match="anthropic"):
        before_call(made, kwargs)
    deep: object = "x"
    for _ in range(100):
        deep = [deep]
    with pytest.raises(BlockedError, match="too many levels"):
        before_call(made, {"messages": deep})


def test_what_a_program_passes_may_raise_and_its_words_are_told_nowhere(made: Monitoring) -> None:
    made.policy.heard(policy(fail="closed"))
    with pytest.raises(BlockedError, match="RuntimeError") as caught:
        before_call(made, {"messages": [Odd(a=1)]})
    assert KEY not in str(caught.value) + made.policy.problem + json.dumps(told(made))


def test_what_is_in_a_body_of_the_programs_own_goes_by_what_it_is(made: Monitoring) -> None:
    rule = {**RULES[0], "id": "own.word", "kind": "words", "match": ["teapot"], "starts": [], "directions": ["system"]}
    made.policy.heard(policy("redact", rules=[rule]))
    body = {"system": "a teapot", "messages": [{"role": "user", "content": "a teapot"}], "top_k": 3}
    shown: Any = before_call(made, {**asked("hello"), "extra_body": body})
    assert "teapot" not in shown["extra_body"]["system"]
    assert shown["extra_body"]["messages"] is body["messages"]
    assert body["system"] == "a teapot"


def test_headers_and_the_clients_own_key_are_none_of_its_business(made: Monitoring) -> None:
    made.policy.heard(policy())
    kwargs = {**asked("hello"), "extra_headers": {"x-api-key": KEY}}
    assert before_call(made, kwargs) is kwargs


def test_a_rule_may_do_something_else_than_the_mode_says(made: Monitoring) -> None:
    made.policy.heard(policy("block", modes={"secret.anthropic-key": "redact", "personal.email": "observe"}))
    assert KEY not in json.dumps(before_call(made, asked(KEY)))
    kwargs = asked("write to ada.lovelace@engine.org")
    assert before_call(made, kwargs) is kwargs
    with pytest.raises(BlockedError):
        before_call(made, asked("rm -rf /"))


def test_a_dry_run_changes_nothing_and_is_counted(made: Monitoring) -> None:
    made.policy.heard(policy("block", dry_run=True, modes={"personal.email": "redact"}))
    kwargs = asked(f"{KEY} of ada.lovelace@engine.org")
    assert before_call(made, kwargs) is kwargs
    counts = made.policy.counts
    assert (counts["would_block"], counts["would_redact"], counts["blocked"]) == (1, 1, 0)
    assert [event["name"] for event in told(made)] == ["LLM_call_would_block", "LLM_call_would_redact"]


def test_tools_are_guarded_by_their_arguments(made: Monitoring) -> None:
    made.policy.heard(policy("redact", modes={"command.recursive-remove": "block"}))
    assert before_tool(made, "ls", {"path": "/tmp"}) == {"path": "/tmp"}
    assert KEY not in str(before_tool(made, "post", {"body": KEY}))
    with pytest.raises(BlockedError, match=r"command\.recursive-remove"):
        before_tool(made, "bash", {"command": "rm -rf /"})
    assert told(made)[-1]["data"]["gen_ai.tool.name"] == "bash"


def test_a_policy_that_is_none_lets_calls_pass_unless_it_fails_closed(made: Monitoring) -> None:
    broken = policy(rules=[{"id": "x"}])
    made.policy.heard(broken)
    kwargs = asked(KEY)
    assert before_call(made, kwargs) is kwargs
    assert made.policy.counts["unjudged"] == 1
    assert "category" in made.policy.problem
    made.policy.heard({**broken, "fail": "closed"})
    with pytest.raises(BlockedError, match="fails closed"):
        before_call(made, kwargs)
    assert told(made)[-1]["name"] == "LLM_call_blocked"


def test_a_policy_whose_rules_are_no_list_cannot_be_used_and_says_so(made: Monitoring) -> None:
    made.policy.heard({**policy(), "rules": 7})
    kwargs = asked("hello")
    assert before_call(made, kwargs) is kwargs
    assert "rules" in made.policy.problem
    made.policy.heard({**policy(fail="closed"), "rules": 7})
    with pytest.raises(BlockedError, match="rules"):
        before_call(made, kwargs)


@pytest.mark.parametrize(
    "raw", [b"[" * 200_000, b'{"a":' * 100_000, b"\0" * 100, b'{"a": "\xff"}', b'{"version": ' + b"9" * 5_000 + b"}"]
)
def test_a_cache_that_is_no_policy_is_none(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "policy.json"
    path.write_bytes(raw)
    path.chmod(0o600)
    assert read_policy(str(path)) is None
    with pytest.raises(PolicyError):
        read_own(str(path))


def test_a_pipe_in_the_caches_place_holds_nothing_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "policy.json", 0o600)
    assert read_policy(str(tmp_path / "policy.json")) is None


def test_what_a_killed_process_left_does_not_keep_the_next_of_its_number_from_keeping_a_policy(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    (tmp_path / f"policy.json.{os.getpid()}").write_text("half of")
    keep_policy(str(path), policy())
    assert read_policy(str(path)) == policy()
    assert list(tmp_path.iterdir()) == [path]


def test_a_policy_that_cannot_be_written_as_json_is_held_to_all_the_same(tmp_path: Path) -> None:
    deep: object = "x"
    for _ in range(5_000):
        deep = [deep]
    settings = Settings({**_DEFAULT_SETTINGS, "spool_dir": str(tmp_path), "agent_id": "shop"})
    holder = holder_for(settings)
    holder.heard({**policy(), "more": deep})
    assert (holder.is_active, "cannot be kept" in holder.problem) == (True, True)


def test_a_prompt_that_takes_too_long_passes_or_is_blocked_as_the_policy_says(
    made: Monitoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skilld_monitor.policy.judging._BUDGET_S", -1.0)
    made.policy.heard(policy())
    kwargs = asked(KEY)
    assert before_call(made, kwargs) is kwargs
    made.policy.heard(policy(fail="closed"))
    with pytest.raises(BlockedError, match="too long"):
        before_call(made, kwargs)


def test_without_a_daemon_a_program_that_fails_closed_makes_no_call_and_says_why(tmp_path: Path) -> None:
    made = enable_monitoring("shop", policy_fail="closed")
    with pytest.raises(BlockedError, match=r"has not said what it is: .*No such file"):
        before_call(made, asked("hello"))


def test_a_file_of_the_programs_own_adds_rules_and_takes_none_away(tmp_path: Path) -> None:
    own = {
        "mode": "block",
        "rules": [{**RULES[0], "id": "own.word", "kind": "words", "match": ["teapot"], "starts": []}],
    }
    (tmp_path / "policy.json").write_text(json.dumps(own))
    made = enable_monitoring("shop", policy_file=str(tmp_path / "policy.json"))
    with pytest.raises(BlockedError, match=r"own\.word"):
        before_call(made, asked("a teapot"))
    made.policy.heard(policy(modes={rule["id"]: "block" for rule in RULES}))
    for text in ("a teapot", KEY):
        with pytest.raises(BlockedError):
            before_call(made, asked(text))


def own_policy(folder: Path, **more: Any) -> str:
    """A file with a policy that blocks one word."""
    rule = {**RULES[0], "id": "own.word", "kind": "words", "match": ["teapot"], "starts": []}
    path = folder / "policy.json"
    path.write_text(json.dumps({"mode": "block", "rules": [rule], **more}))
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize("wrong", ["missing", "open to others", "no rule"])
def test_a_file_that_cannot_be_used_is_told_at_once_and_takes_none_of_the_daemons_rules_away(
    tmp_path: Path, wrong: str
) -> None:
    path = own_policy(tmp_path, **({"rules": [{"id": "x"}]} if wrong == "no rule" else {}))
    if wrong == "missing":
        os.unlink(path)
    elif wrong == "open to others":
        os.chmod(path, 0o666)
    with pytest.raises(SettingsError, match=f"policy_file {path}: "):
        enable_monitoring("shop", policy_file=path, strict=True)
    assert active() is None
    made = enable_monitoring("shop", policy_file=path)
    assert f"policy_file {path}: " in made.problem
    made.policy.heard(policy())
    with pytest.raises(BlockedError, match="anthropic"):
        before_call(made, asked(KEY))
    kwargs = asked("a teapot")
    assert before_call(made, kwargs) is kwargs
    assert made.policy.counts["unjudged"] == 1
    assert f"policy_file {path}: " in made.policy.problem


def test_a_policy_of_the_daemons_that_is_none_takes_nothing_from_the_programs_own(tmp_path: Path) -> None:
    made = enable_monitoring("shop", policy_file=own_policy(tmp_path))
    made.policy.heard(policy(rules=[{"id": "x"}]))
    with pytest.raises(BlockedError, match=r"own\.word"):
        before_call(made, asked("a teapot"))


def test_a_file_is_found_from_where_the_program_was_when_it_switched_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_policy(tmp_path)
    monkeypatch.chdir(tmp_path)
    made = enable_monitoring("shop", policy_file="policy.json")
    monkeypatch.chdir("/")
    with pytest.raises(BlockedError, match=r"own\.word"):
        before_call(made, asked("a teapot"))


@pytest.mark.parametrize("broken", [False, True])
def test_a_file_may_say_that_what_cannot_be_judged_is_blocked(tmp_path: Path, broken: bool) -> None:
    more = {"rules": [{"id": "x"}]} if broken else {}
    made = enable_monitoring("shop", policy_file=own_policy(tmp_path, fail="closed", **more))
    made.policy.heard(policy())
    with pytest.raises(BlockedError, match="fails closed"):
        before_call(made, asked("hello") if broken else {"messages": iter(["hello"])})


def test_a_file_that_fails_closed_waits_for_no_daemon(tmp_path: Path) -> None:
    made = enable_monitoring("shop", policy_file=own_policy(tmp_path, fail="closed"))
    kwargs = asked("hello")
    assert before_call(made, kwargs) is kwargs


def test_a_policy_is_kept_for_the_next_program_where_its_user_alone_may_write(tmp_path: Path) -> None:
    settings = Settings({**_DEFAULT_SETTINGS, "spool_dir": str(tmp_path / "s"), "agent_id": "shop"})
    holder_for(settings).heard(policy(fail="closed"))
    (file,) = (tmp_path / "s").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = holder_for(settings)
    assert (again.is_active, again.version, again.fail_closed, again.is_known) == (True, "v1", True, True)
    other = holder_for(Settings({**_DEFAULT_SETTINGS, "spool_dir": str(tmp_path / "s"), "agent_id": "other"}))
    assert not other.is_known
    file.chmod(0o622)
    assert not holder_for(settings).is_known
    file.unlink()
    file.symlink_to("/etc/hostname")
    assert read_policy(str(file)) is None
    file.unlink()
    file.write_text("[]")
    assert read_policy(str(file)) is None
    keep_policy(str(file), policy())
    holder_for(settings).heard({"version": "v2", "mode": "observe", "rules": []})
    assert list((tmp_path / "s").iterdir()) == []


_DEFAULT_SETTINGS: JSON = {}


@pytest.fixture(autouse=True)
def _defaults() -> None:
    from skilld_monitor import settings

    _DEFAULT_SETTINGS.update(settings._DEFAULTS)


def test_a_short_program_is_held_to_what_the_last_one_was_told(tmp_path: Path) -> None:
    program = (
        "import skilld_monitor, sys\n"
        "from skilld_monitor.policy.guard import before_call\n"
        "made = skilld_monitor.enable_monitoring('shop')\n"
        f"try:\n    before_call(made, {{'messages': [{{'role': 'user', 'content': '{KEY}'}}]}})\n"
        "except ValueError as error:\n    print(type(error).__name__)\n"
    )
    settings = Settings(
        {
            **_DEFAULT_SETTINGS,
            "spool_dir": str(tmp_path / "spool"),
            "agent_id": "shop",
            "socket": str(tmp_path / "monitor.sock"),
        }
    )
    assert run_program(program, tmp_path).stdout == ""
    holder_for(settings).heard(policy())
    done = run_program(program, tmp_path)
    assert (done.stdout, done.stderr) == ("BlockedError\n", "")


@pytest.mark.alone
def test_judging_an_ordinary_prompt_takes_milliseconds(made: Monitoring) -> None:
    """Compiled and seen once, a call costs a digest of its text; it fails at ten times the figure."""
    made.policy.heard(policy())
    before_call(made, asked("warm"))
    took_s = []
    for number in range(20):
        kwargs = asked(f"{number} please summarise the report on the harvest " * 5)
        began_s = time.process_time()
        before_call(made, kwargs)
        took_s.append(time.process_time() - began_s)
    assert sorted(took_s)[10] < 0.01
