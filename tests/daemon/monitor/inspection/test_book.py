"""The rules in force follow their files and the configuration; a file that is bad changes nothing, and is told."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from skilld.config import load_config
from skilld.monitor.inspection.book import RuleBook
from skilld.reload import reload_config
from skilld_monitor.scanning import builtin
from support import run
from tree_kit import open_tree

GOOD = 'disable = ["personal.payment-card"]\n'
BAD = 'disable = ["nothing-of-that-name"]\n'


def test_a_bad_file_leaves_the_last_good_set_in_force_and_says_why(tmp_path: Path) -> None:
    book, file = RuleBook(), tmp_path / "a.toml"
    assert book.rules.version == builtin().version, "before anything is read"
    file.write_text(GOOD)
    assert book.load(tmp_path)
    good = book.rules.version
    assert (good != builtin().version, book.fault) == (True, "")
    file.write_text(BAD)
    assert not book.load(tmp_path)
    assert book.rules.version == good
    assert "nothing-of-that-name" in book.fault
    file.unlink()
    assert book.load(tmp_path)
    assert (book.rules.version, book.fault) == (builtin().version, "")


def test_at_a_start_the_good_files_hold_and_the_bad_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(BAD)
    (tmp_path / "b.toml").write_text(GOOD)
    book = RuleBook()
    book.load(tmp_path)
    assert "personal.payment-card" not in {rule.id for rule in book.rules.rules}
    assert "a.toml" in book.fault


def test_of_files_that_have_too_many_rules_together_the_first_hold(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fields = 'category = "sensitive_data"\nseverity = "low"\nkind = "words"\nmatch = ["vault.corp"]\n'
        rules = "".join(f'[[rule]]\nid = "{name}-{number}"\n{fields}' for number in range(1_000))
        (tmp_path / f"{name}.toml").write_text(rules)
    book = RuleBook(lambda: tmp_path)
    run(book.wait)
    found = {rule.id for rule in book.rules.rules}
    assert {"a-0", "a-999"} <= found
    assert "b-0" not in found
    assert "b.toml" in book.fault


HASHED = """[[rule]]
id = "shop.customer-number"
category = "sensitive_data"
severity = "high"
kind = "pattern"
match = "customer C-[0-9]{6}"
mask = "hash"
"""


def test_a_mask_by_hash_tells_texts_apart_by_a_key_that_stays(tmp_path: Path) -> None:
    rules, key = tmp_path / "rules.d", tmp_path / "mask.key"
    rules.mkdir()
    (rules / "a.toml").write_text(HASHED)
    (tmp_path / ".building-mask.key").write_text("half")
    shown = [
        RuleBook(lambda: rules, key).rules.mask_text(f"of customer C-{number}")[0]
        for number in ("123456", "123456", "654321")
    ]
    assert shown[0] == shown[1] != shown[2]
    assert "[masked]" not in shown[0]
    assert "123456" not in shown[0]
    assert (stat.S_IMODE(key.stat().st_mode), key.stat().st_size) == (0o600, 32)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mask.key", "rules.d"]
    other = RuleBook(lambda: rules, tmp_path / "other.key").rules.mask_text("of customer C-123456")[0]
    assert other != shown[0]


def test_without_a_rule_that_needs_it_there_is_no_key_and_without_the_key_all_is_masked(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(GOOD)
    RuleBook(lambda: tmp_path, tmp_path / "mask.key").load(tmp_path)
    assert not (tmp_path / "mask.key").exists()
    (tmp_path / "a.toml").write_text(HASHED)
    book = RuleBook(lambda: tmp_path, tmp_path / "missing" / "mask.key")
    assert book.rules.mask_text("of customer C-123456")[0] == "of [masked]"
    assert "mask.key: No such file or directory; what is to be masked by hash" in book.fault


def test_a_key_that_could_not_be_made_is_tried_again_though_no_file_has_changed(tmp_path: Path) -> None:
    rules, key = tmp_path / "rules.d", tmp_path / "missing" / "mask.key"
    rules.mkdir()
    (rules / "a.toml").write_text(HASHED)
    book = RuleBook(lambda: rules, key)
    assert book.rules.mask_text("of customer C-123456")[0] == "of [masked]"
    found = book.rules
    book.load(rules)
    assert book.rules is found, "nothing is built anew for that"
    assert "mask.key" in book.fault
    key.parent.mkdir()
    book.load(rules)
    assert book.rules.mask_text("of customer C-123456")[0] not in ("of [masked]", "of customer C-123456")
    assert book.fault == ""
    assert key.stat().st_size == 32
    before = book.rules
    book.load(rules)
    assert book.rules is before, "and not after that"


def test_who_asks_before_they_were_read_gets_those_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(GOOD)
    book = RuleBook(lambda: tmp_path)
    assert "personal.payment-card" not in {rule.id for rule in book.rules.rules}

    async def main() -> None:
        late = RuleBook(lambda: tmp_path)
        await late.wait()
        assert (late.loaded, late.rules.version) == (1, book.rules.version)

    run(main)


def test_a_folder_that_is_as_before_is_not_read_again(tmp_path: Path) -> None:
    book = RuleBook()
    (tmp_path / "a.toml").write_text(GOOD)
    book.load(tmp_path)
    before = book.rules
    assert not book.load(tmp_path)
    assert book.rules is before


def test_files_and_reloads_are_followed_by_the_daemon(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (second / "b.toml").write_text("builtins = false\n")

    async def until(condition: Callable[[], bool]) -> None:
        with trio.fail_after(20):
            while not condition():  # noqa: ASYNC110 - files tell nobody
                await trio.sleep(0.01)

    async def main() -> None:
        flags: dict[str, Any] = {"monitor.scan.rules_dir": first}
        async with open_tree(tmp_path, **flags) as tree:
            book = tree.parts.rule_book
            assert len(book.rules) == len(builtin())
            (first / "a.toml").write_text(GOOD)
            await until(lambda: len(book.rules) == len(builtin()) - 1)
            (first / "a.toml").write_text(BAD)
            await until(lambda: "nothing-of-that-name" in book.fault)
            assert len(book.rules) == len(builtin()) - 1
            async with tree.http() as http:
                shown = (await http.get("/v1/monitor/rules")).json()
                assert "nothing-of-that-name" in shown["fault"]
                assert len(shown["rules"]) == len(book.rules)
            file = tmp_path / "other.toml"
            file.write_text(f"[monitor.scan]\nrules_dir = {json.dumps(str(second))}\n")
            now = tree.parts.config.daemon

            async def reread() -> object:
                return load_config(file, {}, {"daemon.socket": now.socket, "daemon.state_dir": now.state_dir})

            tree.parts.reread = reread  # type: ignore[assignment]
            await reload_config(tree.parts)
            await until(lambda: len(book.rules) == 0)

    run(main)
