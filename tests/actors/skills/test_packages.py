"""`.skill` packages: what is taken, what is refused, and packages among the skills of a source."""

import io
import os
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from package_kit import SKILL, Entry, packed, tides
from skill_actors.skills import Library, SkillCopies, SkillSnapshot, Source
from skill_actors.skills.package import PackageError, PackageLimits, unpack
from skill_actors.skills.packages import PackageCache

EMPTY = SkillSnapshot()

Make = Callable[..., Path]


def of_kind(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (kind | 0o755) << 16
    return info


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def refusal(raw: bytes, folder: Path, limits: PackageLimits | None = None) -> str:
    """The code with which these bytes are refused; nothing may lie outside of the target then."""
    target = folder / "in/target"
    target.mkdir(parents=True)
    with pytest.raises(PackageError) as caught:
        unpack(raw, target, limits=limits)
    assert caught.value.remedy
    assert names(folder) == [f"in/target/{name}" for name in names(target)]
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    return caught.value.code


def test_folder_of_the_package_is_the_skill(tmp_path: Path) -> None:
    script = of_kind("tides/scripts/run.sh", stat.S_IFREG)
    raw = tides((script, "#!/bin/sh\n"), ("tides/references/", ""), ("tides/references/a.md", "A"))
    root = unpack(raw, tmp_path)
    assert root == tmp_path / "tides"
    assert names(root) == ["SKILL.md", "references/a.md", "scripts/run.sh"]
    assert os.access(root / "scripts/run.sh", os.X_OK)
    assert stat.S_IMODE((root / "SKILL.md").stat().st_mode) == 0o644


def test_package_without_a_folder_gets_one_of_its_own_name(tmp_path: Path) -> None:
    raw = packed(("SKILL.md", SKILL), ("scripts/run.sh", "x"))
    assert unpack(raw, tmp_path, stem="tides") == tmp_path / "tides"
    for stem in ("..", ".", "", "a/b", "a\0b"):
        assert unpack(raw, _fresh(tmp_path), stem=stem).name == "skill"


def _fresh(folder: Path) -> Path:
    place = folder / f"fresh-{len(list(folder.iterdir()))}"
    place.mkdir()
    return place


def test_what_archivers_and_interpreters_leave_is_passed_over(tmp_path: Path) -> None:
    raw = tides(("__MACOSX/tides/._SKILL.md", "x"), ("tides/__pycache__/a.pyc", "x"), ("tides/.DS_Store", "x"))
    assert names(unpack(raw, tmp_path)) == ["SKILL.md"]


@pytest.mark.parametrize(
    "name",
    ["../evil", "tides/../../evil", "/etc/evil", "tides//evil", "./evil", "C:/evil", "tides\\..\\evil", "tides/a\x1bb"],
)
def test_path_that_is_not_plain_refuses_the_package(tmp_path: Path, name: str) -> None:
    info = zipfile.ZipInfo("x")
    info.filename = info.orig_filename = name
    assert refusal(tides((info, "x")), tmp_path) == "package_unsafe"


def test_name_with_a_nul_refuses_the_package(tmp_path: Path) -> None:
    raw = tides(("tides/aXb", "x")).replace(b"tides/aXb", b"tides/a\0b")
    assert refusal(raw, tmp_path) == "package_unsafe"


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, stat.S_IFDIR])
def test_links_and_devices_refuse_the_package(tmp_path: Path, kind: int) -> None:
    assert refusal(tides((of_kind("tides/odd", kind), "/etc/passwd")), tmp_path) == "package_unsafe"


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "more",
    [
        [("tides/a", "1"), ("tides/a", "2")],
        [("tides/a", "1"), ("tides/a/b", "2")],
        [("tides/a/b", "2"), ("tides/a", "1")],
    ],
)
def test_two_entries_in_one_place_refuse_the_package(tmp_path: Path, more: list[Entry]) -> None:
    assert refusal(tides(*more), tmp_path) == "package_unsafe"


@pytest.mark.parametrize(
    "more",
    [
        [("tides/a", "1"), ("tides/A", "2")],
        [("tides/x/a", "1"), ("tides/X/b", "2")],
        [("tides/\u00e9", "1"), ("tides/e\u0301", "2")],
        [("tides/\u00df", "1"), ("tides/SS", "2")],
        [("tides/skill.md", SKILL)],
        [("Tides/a", "1")],
    ],
)
def test_names_that_differ_in_case_or_spelling_only_refuse_the_package(tmp_path: Path, more: list[Entry]) -> None:
    assert refusal(tides(*more), tmp_path) == "package_unsafe"
    assert names(tmp_path) == []


def test_letter_that_stands_for_a_slash_hides_no_other_spelling(tmp_path: Path) -> None:
    raw = tides(("tides/d/\u2100", "1"), ("tides/D/x", "2"))  # the letter stands for a/c
    assert refusal(raw, tmp_path) == "package_unsafe"


def test_names_that_fold_to_much_more_than_they_are_refuse_the_package(tmp_path: Path) -> None:
    long = "\ufdfa" * 80  # 240 bytes, which stand for 1,440 letters
    assert refusal(tides((f"tides/{long}", "x")), tmp_path) == "package_unsafe"
    assert names(unpack(tides((f"tides/{long[:9]}", "x")), _fresh(tmp_path))) == [long[:9], "SKILL.md"][::-1]


@pytest.mark.parametrize("name", ["tides/" + "a" * 256, "tides/" + "\u00e9" * 128, "tides/" + "abcdefghi/" * 110 + "x"])
def test_name_that_no_file_system_takes_refuses_the_package(tmp_path: Path, name: str) -> None:
    limits = PackageLimits(max_depth=1_000)
    assert refusal(tides((name, "x")), tmp_path, limits) == "package_unsafe"
    assert names(unpack(tides((f"tides/{'a' * 255}", "x")), _fresh(tmp_path))) == ["SKILL.md", "a" * 255]


def test_dots_and_blanks_in_names_stay_as_they_are_and_lead_nowhere(tmp_path: Path) -> None:
    odd = ["...", ".. ", " ..", "a.", "a", "a ", "nul", "x:y"]
    raw = tides(*((f"tides/{name}/f", "x") for name in odd))
    assert names(unpack(raw, tmp_path)) == sorted(["SKILL.md", *(f"{name}/f" for name in odd)])


def test_streamed_and_prefixed_packages_are_read_by_their_directory(tmp_path: Path) -> None:
    out = Unseekable()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tides/SKILL.md", SKILL)  # sizes follow the content
    assert out.getvalue()[6] & 0x08
    assert names(unpack(out.getvalue(), _fresh(tmp_path))) == ["SKILL.md"]
    assert names(unpack(b"#!/bin/sh\n" + tides(), _fresh(tmp_path))) == ["SKILL.md"]


class Unseekable(io.BytesIO):
    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise OSError

    def seek(self, *_: int) -> int:
        raise OSError


def test_entry_that_has_another_name_where_it_lies_refuses_the_package(tmp_path: Path) -> None:
    raw = tides(("tides/a", "1")).replace(b"tides/a", b"../../a", 1)  # the directory at the end says tides/a
    assert refusal(raw, tmp_path) == "package_damaged"


def test_sizes_of_the_64_bit_form_are_counted_as_what_they_say(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("tides/a")
    raw = bytearray(tides((info, "x")))
    at = raw.rindex(b"PK\1\2")
    extra = struct.pack("<HHQ", 1, 8, 1 << 40)
    struct.pack_into("<L", raw, at + 24, 0xFFFF_FFFF)
    struct.pack_into("<H", raw, at + 30, len(extra))
    end = len(raw) - 22
    raw[end:end] = extra
    struct.pack_into("<L", raw, len(raw) - 10, end + len(extra) - raw.index(b"PK\1\2"))
    assert refusal(bytes(raw), tmp_path) == "package_too_large"


def test_package_of_very_many_entries_is_refused_before_it_is_read(tmp_path: Path) -> None:
    raw = tides(*((f"tides/{number:x}", b"") for number in range(5_001)))
    assert refusal(raw, tmp_path / "told") == "package_too_large"
    hidden = bytearray(raw)
    struct.pack_into("<HH", hidden, len(raw) - 14, 3, 3)  # the end says: three
    assert refusal(bytes(hidden), tmp_path / "hidden") == "package_too_large"


def test_package_within_a_package_is_a_file_like_any_other(tmp_path: Path) -> None:
    inner = tides(("tides/zeros", b"\0" * (8 << 20)))
    root = unpack(tides(("tides/inner.skill", inner)), tmp_path)
    assert names(root) == ["SKILL.md", "inner.skill"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compression_refuses_the_package(tmp_path: Path, method: int) -> None:
    assert refusal(packed(("tides/SKILL.md", SKILL), method=method), tmp_path) == "package_unsafe"


def test_encrypted_entry_refuses_the_package(tmp_path: Path) -> None:
    raw = bytearray(tides())
    raw[raw.index(b"PK\1\2") + 8] |= 1
    assert refusal(bytes(raw), tmp_path) == "package_unsafe"


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [("README.md", "x")],
        [("a/SKILL.md", SKILL), ("b/SKILL.md", SKILL)],
        [("a/SKILL.md", SKILL), ("b/x", "x")],
        [("a/b/SKILL.md", SKILL)],
    ],
)
def test_package_without_one_skill_is_refused(tmp_path: Path, entries: Iterable[Entry]) -> None:
    assert refusal(packed(*entries), tmp_path) == "package_layout"


@pytest.mark.parametrize(
    "limits",
    [
        PackageLimits(max_package_bytes=100),
        PackageLimits(max_files=2),
        PackageLimits(max_depth=2),
        PackageLimits(max_total_bytes=1000),
    ],
)
def test_package_over_a_limit_is_refused(tmp_path: Path, limits: PackageLimits) -> None:
    raw = tides(("tides/a/b", "x" * 2000), ("tides/c", "x"))
    assert refusal(raw, tmp_path, limits) == "package_too_large"


def test_bomb_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    assert refusal(tides(("tides/zeros", b"\0" * (8 << 20))), tmp_path) == "package_too_large"
    assert names(tmp_path) == []


def test_more_bytes_than_announced_are_never_written(tmp_path: Path) -> None:
    raw = bytearray(tides(("tides/zeros", b"\0" * 100_000)))
    struct.pack_into("<L", raw, raw.rindex(b"PK\1\2") + 24, 10)
    assert refusal(bytes(raw), tmp_path) == "package_damaged"
    assert sum((tmp_path / name).stat().st_size for name in names(tmp_path)) < 1000


def test_entries_that_share_their_bytes_refuse_the_package(tmp_path: Path) -> None:
    raw = bytearray(packed(("tides/SKILL.md", SKILL), ("tides/a", os.urandom(500)), method=zipfile.ZIP_STORED))
    for size_at in (20, 24):
        struct.pack_into("<L", raw, raw.index(b"PK\1\2") + size_at, len(raw) - 100)
    assert refusal(bytes(raw), tmp_path) in ("package_unsafe", "package_damaged")


@pytest.mark.parametrize("cut", [0, 1, 21, 22, 50, 90])
def test_cut_package_is_refused(tmp_path: Path, cut: int) -> None:
    raw = tides()
    assert refusal(raw[:cut] if cut < 50 else raw[:-cut], tmp_path) == "package_damaged"


def test_zip_of_another_form_is_refused(tmp_path: Path) -> None:
    raw = tides()
    assert refusal(raw[:-2] + b"\1\0x", tmp_path / "comment") == "package_damaged"
    locator = b"PK\6\7" + b"\0" * 16
    assert refusal(raw[:-22] + locator + raw[-22:], tmp_path / "zip64") == "package_damaged"


def test_every_changed_byte_is_taken_or_refused_and_nothing_else(tmp_path: Path) -> None:
    raw = tides(("tides/a", "some text " * 20))
    for position in range(len(raw)):
        target = tmp_path / str(position) / "target"
        target.mkdir(parents=True)
        changed = bytearray(raw)
        changed[position] ^= 0xFF
        try:
            root = unpack(bytes(changed), target)
        except PackageError:
            continue
        assert root.parent == target
        assert names(tmp_path / str(position)) == [f"target/{name}" for name in names(target)]


# among the skills of a source


def library(folder: Path) -> Library:
    return Library([Source(path=folder / "source")], packages=PackageCache(folder / "cache"))


def put(folder: Path, raw: bytes, name: str = "tides.skill") -> Path:
    (folder / "source").mkdir(exist_ok=True)
    path = folder / "source" / name
    (folder / "new").write_bytes(raw)
    (folder / "new").rename(path)
    return path


def codes(snapshot: SkillSnapshot) -> list[tuple[str, str, str | None]]:
    return [(failure.path.name, failure.diagnostics[0].code, failure.kept) for failure in snapshot.failures]


def test_packages_are_found_beside_and_below_skills_but_not_in_them(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "source/moon/phases")
    (tmp_path / "source/deep/er").mkdir(parents=True)
    path = put(tmp_path, tides(), "deep/er/any.skill")
    put(tmp_path, tides(), "moon/phases/asset.skill")
    put(tmp_path, tides(), ".hidden.skill")
    snapshot = library(tmp_path).load(EMPTY)
    assert list(snapshot.skills) == ["phases", "tides"]
    skill = snapshot.skills["tides"]
    assert (skill.package, skill.root.name, skill.diagnostics) == (path, "tides", ())
    assert skill.root.is_relative_to(tmp_path / "cache")


def test_source_may_be_a_package(tmp_path: Path) -> None:
    path = put(tmp_path, tides())
    loader = Library([Source(path=path)], packages=PackageCache(tmp_path / "cache"))
    assert list(loader.load(EMPTY).skills) == ["tides"]


def test_package_and_folder_of_one_name_are_resolved_by_path(tmp_path: Path, make_skill: Make) -> None:
    folder = make_skill(tmp_path / "source/tides")
    put(tmp_path, tides())
    snapshot = library(tmp_path).load(EMPTY)
    assert snapshot.skills["tides"].root == folder
    assert codes(snapshot) == [("tides.skill", "duplicate_name", None)]


def test_replaced_package_is_used_and_a_broken_one_keeps_the_last_good_version(tmp_path: Path) -> None:
    path = put(tmp_path, tides())
    loader = library(tmp_path)
    first = loader.load(EMPTY)
    assert loader.load(first) is first
    put(tmp_path, tides(description="Another"))
    second = loader.load(first, [path])
    assert second.skills["tides"].description == "Another"
    assert (first.skills["tides"].root / "SKILL.md").read_text() == SKILL
    put(tmp_path, tides()[:100])
    third = loader.load(second, [path])
    assert third.skills == second.skills
    assert codes(third) == [("tides.skill", "package_damaged", "tides")]
    path.unlink()
    assert list(loader.load(third, [path]).skills) == []


def test_broken_package_keeps_its_last_good_version_over_a_restart_of_the_registry(tmp_path: Path) -> None:
    put(tmp_path, tides())
    good = library(tmp_path).load(EMPTY)
    put(tmp_path, b"half")
    again = Library([Source(path=tmp_path / "source")], last=good, packages=PackageCache(tmp_path / "cache"))
    assert again.load(good).skills == good.skills


def test_fifo_in_the_place_of_a_package_is_never_opened_for_long(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    os.mkfifo(tmp_path / "source/tides.skill")
    assert library(tmp_path).load(EMPTY).skills == {}


def test_packages_are_reported_where_there_is_nowhere_to_unpack_them(tmp_path: Path) -> None:
    put(tmp_path, tides())
    assert codes(Library([Source(path=tmp_path / "source")]).load(EMPTY)) == [("tides.skill", "package_ignored", None)]


def test_copies_are_made_of_what_was_unpacked(tmp_path: Path) -> None:
    put(tmp_path, tides())
    copies = SkillCopies(tmp_path / "copies")
    loader = Library([Source(path=tmp_path / "source")], copies=copies, packages=PackageCache(tmp_path / "cache"))
    skill = loader.load(EMPTY).skills["tides"]
    assert (copies.materialise(skill) / "SKILL.md").read_text() == SKILL


def test_folder_of_an_earlier_process_is_made_again_before_its_first_use(tmp_path: Path) -> None:
    path = put(tmp_path, tides())
    root = PackageCache(tmp_path / "cache").unpack_file(path)
    (root / "SKILL.md").write_text("")
    assert PackageCache(tmp_path / "cache").unpack_file(path) == root
    assert (root / "SKILL.md").read_text() == SKILL


@pytest.mark.parametrize("how", ["emptied", "changed", "more", "gone", "a file"])
def test_folder_that_holds_something_else_by_now_is_made_again(tmp_path: Path, how: str) -> None:
    path = put(tmp_path, tides())
    os.utime(path)
    cache = PackageCache(tmp_path / "cache")
    root = cache.unpack_file(path)
    if how in ("emptied", "changed"):
        (root / "SKILL.md").write_text("" if how == "emptied" else SKILL.replace("Body", "Eval"))
    elif how == "more":
        (root / "more.sh").write_text("x")
    else:
        shutil.rmtree(root.parent)
        if how == "a file":
            root.parent.write_text("x")
    for _ in range(2):
        assert cache.unpack_file(path) == root
        assert names(root) == ["SKILL.md"]
        assert (root / "SKILL.md").read_text() == SKILL


def test_refused_package_is_judged_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skill_actors.skills.packages._SETTLED_NS", -(10**12))
    judged: list[int] = []

    def counting(raw: bytes, target: Path, *, stem: str, limits: PackageLimits) -> Path:
        judged.append(len(raw))
        return unpack(raw, target, stem=stem, limits=limits)

    monkeypatch.setattr("skill_actors.skills.packages.unpack", counting)
    path = put(tmp_path, tides(("../b", "2")))
    cache = PackageCache(tmp_path / "cache")
    for _ in range(3):
        with pytest.raises(PackageError, match="leads out"):
            cache.unpack_file(path)
    assert len(judged) == 1
    put(tmp_path, tides())
    assert cache.unpack_file(path).is_dir()
    assert len(judged) == 2


def test_package_that_could_not_be_loaded_is_refused_with_the_reason(tmp_path: Path) -> None:
    folders = [(f"tides/{number}/x", "x") for number in range(1_001)]
    with pytest.raises(PackageError) as caught:
        PackageCache(tmp_path / "cache").unpack_bytes(tides(*folders), "tides")
    assert caught.value.code == "folder_too_large"
    assert list((tmp_path / "cache").iterdir()) == []


def test_refused_package_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(PackageError):
        PackageCache(tmp_path / "cache").unpack_bytes(tides(("tides/a", "1"), ("../b", "2")), "tides")
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_nobody_uses_is_removed(tmp_path: Path) -> None:
    cache = PackageCache(tmp_path / "cache")
    old, new = (cache.unpack_bytes(tides(description=text), "tides") for text in ("old", "new"))
    (tmp_path / "cache/.building-x").mkdir()
    (tmp_path / "cache/stray").write_text("x")
    (tmp_path / "cache/link").symlink_to(new)
    assert cache.collect([new], age_s=3600) == 3
    assert old.is_dir()
    assert cache.collect([new], age_s=0) == 1
    assert (old.exists(), new.is_dir()) == (False, True)
    assert cache.unpack_bytes(tides(description="old"), "tides").is_dir()
