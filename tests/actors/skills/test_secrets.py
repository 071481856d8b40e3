"""Secrets of skills: who gets them, how they are read, and that they never show."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from skill_actors.skills import Skill
from skill_actors.skills.secrets import SecretSource, SecretUnavailable, SkillSecrets

VALUE = "s3cr3t-token-1"


def skill(name: str = "weather", *, trusted: bool = True) -> Skill:
    return Skill(name=name, description="d", root=Path("/s") / name, digest="0", trusted=trusted)


def secrets(path: Path, content: bytes | None = VALUE.encode() + b"\n") -> SkillSecrets:
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    return SkillSecrets({"weather": {"TOKEN": SecretSource(path=path)}})


def test_skill_gets_its_own_and_no_other_gets_any(tmp_path: Path) -> None:
    kept = secrets(tmp_path / "t")
    assert kept.of(skill()) == {"TOKEN": VALUE}
    assert kept.of(skill("other")) == {}
    assert (kept.has(skill()), kept.has(skill("other"))) == (True, False)
    assert (kept.concern(skill(trusted=False)), kept.concern(skill("other"))) == (True, False)


def test_skill_of_that_name_from_elsewhere_gets_none(tmp_path: Path) -> None:
    assert secrets(tmp_path / "t").of(skill(trusted=False)) == {}
    meant = SkillSecrets({"weather": {"TOKEN": SecretSource(path=tmp_path / "t")}}, lambda skill: False)
    assert meant.of(skill()) == {}
    assert meant.given(skill())[1]["TOKEN"].startswith("weather is not the one")


def test_replaced_file_counts_at_once_and_what_was_read_before_stays_hidden(tmp_path: Path) -> None:
    kept = secrets(tmp_path / "t")
    assert kept.of(skill()) == {"TOKEN": VALUE}
    (tmp_path / "t").write_text("s3cr3t-token-2")
    assert kept.of(skill()) == {"TOKEN": "s3cr3t-token-2"}
    (tmp_path / "t").unlink()
    assert kept.values([skill()]) == {VALUE, "s3cr3t-token-2"}


def test_values_are_hidden_also_where_a_skill_may_not_have_them(tmp_path: Path) -> None:
    assert secrets(tmp_path / "t").values([skill(trusted=False), skill("other")]) == {VALUE}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "fewer than 8"),
        (b"short\n", "fewer than 8"),
        (b"        \n", "fewer than 8"),
        (b"with\0nul-in-it", "NUL"),
        (b"\xff" * 20, "UTF-8"),
        (b"x" * 65_537, "65536 bytes"),
    ],
)
def test_content_that_is_no_secret_is_refused_without_showing_it(tmp_path: Path, content: bytes, says: str) -> None:
    kept = secrets(tmp_path / "t", content)
    with pytest.raises(SecretUnavailable) as caught:
        kept.of(skill())
    assert says in str(caught.value)
    assert "weather" in str(caught.value)
    assert "short" not in str(caught.value)
    assert "with" not in str(caught.value).replace("which", "")
    assert kept.values([skill()]) == set()


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    opened = len(os.listdir("/proc/self/fd"))
    for path, says in ((tmp_path / "fifo", "regular"), (tmp_path, "regular"), (tmp_path / "none", "No such file")):
        with pytest.raises(SecretUnavailable, match=says):
            secrets(path, None).of(skill())
    assert len(os.listdir("/proc/self/fd")) == opened
    nowhere = SkillSecrets({"weather": {"TOKEN": SecretSource(path=None, missing="no credential x was passed")}})
    assert nowhere.given(skill()) == (
        frozenset(),
        {"TOKEN": "the secret TOKEN of weather is not there: no credential x was passed"},
    )


def test_one_secret_that_is_missing_keeps_back_the_others(tmp_path: Path) -> None:
    (tmp_path / "t").write_text(VALUE)
    sources = {"TOKEN": SecretSource(path=tmp_path / "t"), "OTHER": SecretSource(path=tmp_path / "none")}
    kept = SkillSecrets({"weather": sources})
    with pytest.raises(SecretUnavailable, match="OTHER"):
        kept.of(skill())
    given, wrong = kept.given(skill())
    assert (given, list(wrong)) == (frozenset({"TOKEN"}), ["OTHER"])


def test_file_that_everybody_may_read_is_warned_about_once_and_nothing_shows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = secrets(tmp_path / "t")
    (tmp_path / "t").chmod(0o644)
    with caplog.at_level(logging.DEBUG):
        kept.of(skill())
        kept.of(skill())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert VALUE not in caplog.text + repr(kept)
