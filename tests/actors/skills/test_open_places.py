"""Who may write where: what everybody could change is trusted by nobody."""

from collections.abc import Callable
from pathlib import Path

import pytest

from package_kit import tides
from skill_actors.skills import Library, SkillSnapshot, Source
from skill_actors.skills.packages import PackageCache

EMPTY = SkillSnapshot()

Make = Callable[..., Path]


def failures(snapshot: SkillSnapshot) -> list[tuple[str, str]]:
    return [(failure.path.name, failure.diagnostics[0].code) for failure in snapshot.failures]


@pytest.mark.parametrize("mode", [0o777, 0o1777])
@pytest.mark.parametrize("place", ["source/deep", "source/deep/tides"])
def test_open_folder_on_the_way_to_a_skill_takes_the_trust_from_it_alone(
    tmp_path: Path, make_skill: Make, place: str, mode: int
) -> None:
    make_skill(tmp_path / "source/deep/tides")
    make_skill(tmp_path / "source/moon")
    loader = Library([Source(path=tmp_path / "source", trusted=True)])
    first = loader.load(EMPTY)
    (tmp_path / place).chmod(mode)
    second = loader.load(first, [tmp_path / place])
    assert {name: skill.trusted for name, skill in second.skills.items()} == {"moon": True, "tides": False}
    assert failures(second) == [(Path(place).name, "open_to_all")]
    (tmp_path / place).chmod(0o755)
    assert loader.load(second, [tmp_path / place]).skills == first.skills


@pytest.mark.parametrize("path", ["SKILL.md", "scripts/run.sh", "scripts", "link.sh"])
def test_open_file_or_folder_of_a_skill_takes_the_trust_from_it(
    tmp_path: Path, make_skill: Make, add_file: Make, path: str
) -> None:
    add_file(make_skill(tmp_path / "tides"), "scripts/run.sh")
    (tmp_path / "tides/link.sh").symlink_to("scripts/run.sh")
    make_skill(tmp_path / "moon")
    loader = Library([Source(path=tmp_path, trusted=True)])
    first = loader.load(EMPTY)
    (tmp_path / "tides" / path).chmod(0o777 if path == "scripts" else 0o646)
    second = loader.load(first, [tmp_path / "tides" / path])
    assert {name: skill.trusted for name, skill in second.skills.items()} == {"moon": True, "tides": False}
    assert [item.code for item in second.skills["tides"].diagnostics] == ["open_to_all"]
    assert loader.load(second) is second
    (tmp_path / "tides" / path).chmod(0o755 if path == "scripts" else 0o644)
    assert loader.load(second).skills == first.skills


def test_open_folder_above_a_source_takes_the_trust_unless_it_is_sticky(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "above/source/tides")
    trusted = {}
    for mode in (0o777, 0o1777, 0o755):
        (tmp_path / "above").chmod(mode)
        found = Library([Source(path=tmp_path / "above/source", trusted=True)]).load(EMPTY)
        trusted[mode] = found.skills["tides"].trusted
    assert trusted == {0o777: False, 0o1777: True, 0o755: True}


def test_link_leads_no_trust_to_where_everybody_may_write(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "shared/tides")
    (tmp_path / "source").mkdir()
    (tmp_path / "source/all").symlink_to(tmp_path / "shared")
    (tmp_path / "shared").chmod(0o1777)
    found = Library([Source(path=tmp_path / "source", trusted=True)]).load(EMPTY)
    assert not found.skills["tides"].trusted
    assert failures(found) == [("shared", "open_to_all")]


def test_package_that_everybody_may_write_to_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/tides.skill").write_bytes(tides())
    loader = Library([Source(path=tmp_path / "source", trusted=True)], packages=PackageCache(tmp_path / "cache"))
    first = loader.load(EMPTY)
    (tmp_path / "source/tides.skill").chmod(0o666)
    second = loader.load(first)
    assert [found.skills["tides"].trusted for found in (first, second)] == [True, False]
    assert failures(second) == [("tides.skill", "open_to_all")]


def test_last_good_version_gains_no_trust_while_the_new_one_is_broken(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "tides")
    (tmp_path / "tides").chmod(0o777)
    loader = Library([Source(path=tmp_path, trusted=True)])
    first = loader.load(EMPTY)
    (tmp_path / "tides/SKILL.md").write_text("broken")
    second = loader.load(first)
    (tmp_path / "tides").chmod(0o755)
    third = loader.load(second)
    assert [found.skills["tides"].trusted for found in (first, second, third)] == [False] * 3
    make_skill(tmp_path / "tides")
    assert loader.load(third).skills["tides"].trusted
