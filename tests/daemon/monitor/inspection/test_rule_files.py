"""Rule files change the rules that come along; what cannot be used says which file, rule and field it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skilld.monitor.inspection.rule_files import RuleFileError, layered, read_rule_file, rule_paths
from skilld_monitor.scanning import RuleSet, builtin

OWN = """
[[rule]]
id = "local.hosts"
category = "sensitive_data"
severity = "low"
kind = "words"
match = ["vault.corp"]
"""


def rules(folder: Path, **files: str) -> RuleSet:
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)
    return layered([read_rule_file(path) for path in rule_paths(folder)])


def ids(rules: RuleSet) -> set[str]:
    return {rule.id for rule in rules.rules}


def test_without_files_the_rules_are_those_that_come_along(tmp_path: Path) -> None:
    assert rules(tmp_path / "none").version == builtin().version
    (tmp_path / "notes.txt").write_text("no rules")
    (tmp_path / ".hidden.toml").write_text("no rules")
    assert rules(tmp_path).version == builtin().version


def test_a_rule_is_added_changed_and_removed_by_its_id(tmp_path: Path) -> None:
    first = builtin().rules[0].id
    changed = f'[[rule]]\nid = "local.hosts"\nseverity = "high"\n[[rule]]\nid = "{first}"\nconfidence = 0.125\n'
    made = rules(tmp_path, a=OWN, b=changed, c='disable = ["secret.aws-*", "personal.payment-card"]\n')
    assert "local.hosts" in ids(made)
    assert ids(builtin()) - ids(made) == {id for id in ids(builtin()) if id.startswith("secret.aws-")} | {
        "personal.payment-card"
    }
    (found,) = made.scan("is it vault.corp?", "input")
    assert (found.rule, found.severity) == ("local.hosts", "high")
    assert {rule.id: rule.confidence for rule in made.rules}[first] == 0.125


def test_all_that_comes_along_can_be_taken_away(tmp_path: Path) -> None:
    made = rules(tmp_path, a=f"builtins = false\n{OWN}")
    assert ids(made) == {"local.hosts"}
    assert not made.scan("rm -rf / AKIAQWERTYUIOPASDFGH", "input")


def test_word_lists_get_words_and_lose_them(tmp_path: Path) -> None:
    made = rules(tmp_path, a=OWN, b='[words."local.hosts"]\nadd = ["db.corp", "Vault.Corp"]\nremove = ["vault.corp"]\n')
    (rule,) = [rule for rule in made.rules if rule.id == "local.hosts"]
    assert rule.fields["match"] == ["db.corp", "Vault.Corp"]
    assert made.scan("ask DB.corp", "input")


def test_files_are_read_in_the_order_of_their_names_each_over_the_ones_before(tmp_path: Path) -> None:
    made = rules(tmp_path, **{"10": OWN, "20": '[[rule]]\nid = "local.hosts"\nmatch = ["other.corp"]\n'})
    assert not made.scan("vault.corp", "input")
    assert made.scan("other.corp", "input")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rule = 1", "rule: expected tables"),
        ("[[rule]]\nid = 1", "rule number 1: id: is missing, or no text"),
        (f"{OWN}{OWN}", "rule 'local.hosts': id: there are two rules of that name"),
        ('[[rule]]\nid = "x"', "rule 'x': category: is missing"),
        (OWN.replace("low", "grave"), "rule 'local.hosts': severity: 'grave' is not allowed; there are low, medium"),
        (OWN.replace("words", "pattern").replace('["vault.corp"]', '"("'), "rule 'local.hosts': match: no regular"),
        (f"{OWN}colour = 1", "rule 'local.hosts': colour: there is no such field; there are id, category"),
        (
            'disable = ["secret.aws-acces-key-id"]',
            "there is no rule 'secret.aws-acces-key-id'; did you mean 'secret.aws-",
        ),
        ("disable = 1", "disable: expected a list of texts"),
        ("builtins = 1", "builtins: expected true or false"),
        ("rules = []", "'rules': there is no such key; there are builtins, disable, rule, words"),
        ("[words.nothing]\nadd = ['x']", "words: there is no rule 'nothing' of the kind words"),
        (f"{OWN}\n[words.'local.hosts']\nremove = ['y']", "words.local.hosts.remove: the rule does not have 'y'"),
        (f"{OWN}\n[words.'local.hosts']\nsub = ['y']", "words.local.hosts: 'sub': there is no such key; add, remove"),
        ("a = [", "is no TOML"),
        ("a = " + "1" * 5_000, "is no TOML"),
        ("x" * 10, "is no TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(RuleFileError) as found:
        rules(tmp_path, local=text)
    assert str(found.value).startswith(f"{tmp_path}/local.toml: ")
    assert expected in str(found.value)


def test_hostile_files_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RuleFileError, match="is not UTF-8, at byte 0"):
        read_rule_file(path)
    path.write_text(f"{'[' * 5000}")
    with pytest.raises(RuleFileError, match="is no TOML"):
        read_rule_file(path)
    path.write_text(OWN)
    path.chmod(0o666)
    with pytest.raises(RuleFileError, match="chmod o-w"):
        read_rule_file(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(RuleFileError, match="is no file"):
        read_rule_file(path)
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(RuleFileError, match="No such file"):
        read_rule_file(path)
    path.unlink()
    with path.open("wb") as made:
        made.truncate(5 << 20)
    with pytest.raises(RuleFileError, match="at most"):
        read_rule_file(path)
    with pytest.raises(RuleFileError, match="Not a directory"):
        rule_paths(path)


def test_a_folder_with_too_many_files_is_refused(tmp_path: Path) -> None:
    for number in range(201):
        (tmp_path / f"{number}.toml").touch()
    with pytest.raises(RuleFileError, match="has 201 rule files; at most 200"):
        rule_paths(tmp_path)


def many(beginning: str, count: int) -> str:
    return "".join(OWN.replace("local.hosts", f"{beginning}-{n}") for n in range(count))


def test_files_that_have_too_many_rules_together_are_refused_by_the_name_of_the_last(tmp_path: Path) -> None:
    with pytest.raises(RuleFileError, match=r"b\.toml: with the rules of the files before it: .*more than 2000 rules"):
        rules(tmp_path, a=many("a", 1_000), b=many("b", 1_000))


def test_layers_do_not_change_what_comes_along(tmp_path: Path) -> None:
    before = builtin().version
    rules(tmp_path, a=f'[[rule]]\nid = "{builtin().rules[0].id}"\nconfidence = 0.125\n')
    assert layered([]).version == before
