"""What an installation puts where, and that nothing of its operator's is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skilld.config import load_config
from skilld.installation import (
    PROFILES,
    InstallError,
    Layout,
    Record,
    apply,
    packaged,
    plan_install,
    plan_removal,
    read_record,
    system,
    unit_files,
    user,
    write_record,
)

ROOT = Path(__file__).parents[2]
SYSTEMD, ETC = ROOT / "systemd", ROOT / "etc"
BIN = Path("/opt/skilld/bin")


def layout(folder: Path) -> Layout:
    """That of the system, below a folder."""
    return Layout(units=folder / "units", config=folder / "etc/skilld", sysusers=folder / "sysusers")


def install(place: Layout, files: dict[Path, bytes], *, force: bool = False, profile: str = "none") -> dict[str, str]:
    """As `skillctl install` does; what became of each file, by its name."""
    record = read_record(place.record)
    changes = plan_install(files, record, force=force)
    apply(changes, lambda line: None)
    write_record(place.record, changes, profile, record)
    return {change.path.name: change.verdict for change in changes}


def shipped(place: Layout, profile: str = "none") -> dict[Path, bytes]:
    return unit_files(place, SYSTEMD, ETC, BIN, profile)


def test_everything_is_created_once_and_left_alone_afterwards(tmp_path: Path) -> None:
    place = layout(tmp_path)
    files = shipped(place)
    assert set(install(place, files).values()) == {"create"}
    assert {path.name for path in files} == {"skilld.service", "skilld.socket", "skilld.conf", "skilld.toml"}
    assert all(path.read_bytes() == content and path.stat().st_mode & 0o777 == 0o644 for path, content in files.items())
    assert set(install(place, files).values()) == {"same"}


def test_units_name_the_programs_where_they_are(tmp_path: Path) -> None:
    unit = shipped(layout(tmp_path))[tmp_path / "units/skilld.service"].decode()
    assert "\nExecStart=/opt/skilld/bin/skilld --config" in unit
    assert "\nExecReload=+/opt/skilld/bin/skillctl --socket" in unit
    assert "/usr/bin/env" not in unit


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "none"])
def test_a_profile_is_a_drop_in_and_goes_when_another_is_chosen(tmp_path: Path, profile: str) -> None:
    place = layout(tmp_path)
    drop_in = tmp_path / "units/skilld.service.d/50-profile.conf"
    install(place, shipped(place, profile), profile=profile)
    assert drop_in.read_bytes() == (SYSTEMD / "profiles" / f"{profile}.conf").read_bytes()
    assert read_record(place.record).profile == profile
    assert install(place, shipped(place))["50-profile.conf"] == "remove"
    assert not drop_in.parent.exists()


def test_what_an_earlier_version_installed_is_brought_up_to_date(tmp_path: Path) -> None:
    place = layout(tmp_path)
    old = dict.fromkeys(shipped(place), b"old\n")
    install(place, old)
    assert set(install(place, shipped(place)).values()) == {"update"}


def test_an_edited_file_is_kept_and_only_replaced_when_asked(tmp_path: Path) -> None:
    place = layout(tmp_path)
    install(place, shipped(place))
    config = tmp_path / "etc/skilld/skilld.toml"
    config.write_text("[limits]\niterations = 3\n")
    assert install(place, shipped(place))["skilld.toml"] == "keep"
    assert install(place, shipped(place))["skilld.toml"] == "keep", "it is not taken for ours the second time either"
    assert config.read_text() == "[limits]\niterations = 3\n"
    assert install(place, shipped(place), force=True)["skilld.toml"] == "replace"
    assert config.read_bytes() == place_config()
    assert config.with_name("skilld.toml.old").read_text() == "[limits]\niterations = 3\n"


def test_a_file_that_was_there_before_is_somebodys(tmp_path: Path) -> None:
    place = layout(tmp_path)
    (tmp_path / "units").mkdir()
    (tmp_path / "units/skilld.service").write_text("[Service]\nExecStart=/bin/true\n")
    assert install(place, shipped(place))["skilld.service"] == "keep"
    assert [c.verdict for c in plan_removal(read_record(place.record)) if c.path.name == "skilld.service"] == []


def test_a_masked_unit_stays_masked(tmp_path: Path) -> None:
    place = layout(tmp_path)
    (tmp_path / "units").mkdir()
    (tmp_path / "units/skilld.service").symlink_to("/dev/null")
    assert install(place, shipped(place))["skilld.service"] == "keep"
    assert (tmp_path / "units/skilld.service").is_symlink()


def test_a_link_in_the_way_is_replaced_and_not_followed(tmp_path: Path) -> None:
    place = layout(tmp_path)
    target = tmp_path / "elsewhere"
    target.write_text("precious")
    (tmp_path / "units").mkdir()
    (tmp_path / "units/skilld.service").symlink_to(target)
    assert install(place, shipped(place), force=True)["skilld.service"] == "replace"
    assert target.read_text() == "precious"
    assert not (tmp_path / "units/skilld.service").is_symlink()


def test_removal_takes_what_was_installed_and_leaves_what_was_edited(tmp_path: Path) -> None:
    place = layout(tmp_path)
    install(place, shipped(place, "tools"), profile="tools")
    config = tmp_path / "etc/skilld/skilld.toml"
    config.write_text("# mine\n")
    (tmp_path / "units/skilld.socket").unlink()
    changes = plan_removal(read_record(place.record))
    apply(changes, lambda line: None)
    write_record(place.record, changes, "none", Record())
    assert {c.path.name: c.verdict for c in changes} == {
        "skilld.service": "remove",
        "skilld.socket": "gone",
        "50-profile.conf": "remove",
        "skilld.conf": "remove",
        "skilld.toml": "keep",
    }
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert left == [config]


def test_a_removal_leaves_no_folder_of_ours(tmp_path: Path) -> None:
    place = layout(tmp_path)
    install(place, shipped(place))
    changes = plan_removal(read_record(place.record))
    apply(changes, lambda line: None)
    write_record(place.record, changes, "none", Record())
    assert not (tmp_path / "etc/skilld").exists()


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"files": 3}', '{"files": {"/x": null}, "profile": "root"}', "[" * 9999]
)
def test_a_record_that_is_none_is_an_empty_one(tmp_path: Path, content: str) -> None:
    (tmp_path / "record").write_text(content)
    record = read_record(tmp_path / "record")
    assert record.profile == "none"
    assert set(record.files) <= {"/x"}
    if record.files:
        assert plan_removal(record)[0].verdict == "gone"


def test_an_interrupted_installation_is_finished_by_the_next(tmp_path: Path) -> None:
    place = layout(tmp_path)
    files = shipped(place)
    apply(plan_install(files, Record())[:2], lambda line: None)  # and no record
    assert sorted(install(place, files).values()) == ["create", "create", "same", "same"]
    assert json.loads(place.record.read_text())["files"].keys() == {str(path) for path in files}


@pytest.mark.parametrize("place", ["/root/venv/bin", "/home/a/bin", "/tmp/venv/bin"])
def test_the_system_service_is_not_installed_from_where_it_cannot_see_its_program(tmp_path: Path, place: str) -> None:
    with pytest.raises(InstallError, match="sees no home"):
        unit_files(layout(tmp_path), SYSTEMD, ETC, Path(place), "none")


@pytest.mark.parametrize(
    "place", ["bin", "/opt/my skilld/bin", "/opt/100%/bin", "/opt/$x/bin", '/opt/"/bin', "/opt/a\nb"]
)
def test_a_path_that_a_unit_would_read_otherwise_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(InstallError, match="absolute path without"):
        unit_files(layout(tmp_path), SYSTEMD, ETC, Path(place), "none")


def test_a_users_service_may_be_in_a_home_and_has_no_account_and_no_profile(tmp_path: Path) -> None:
    place = user(tmp_path / ".config")
    files = unit_files(place, SYSTEMD, ETC, Path("/home/a/venv/bin"), "none")
    assert {str(path.relative_to(tmp_path)) for path in files} == {
        ".config/systemd/user/skilld.service",
        ".config/systemd/user/skilld.socket",
        ".config/skilld/skilld.toml",
    }
    with pytest.raises(InstallError, match="profiles are for the system"):
        unit_files(place, SYSTEMD, ETC, Path("/home/a/venv/bin"), "docker")


def test_man_and_shells_look_where_the_pages_and_completions_are() -> None:
    assert system().share == Path("/usr/local/share")
    assert packaged(Path("/x")).share == Path("/x/usr/share")
    assert user(Path("/x")).share is None


def place_config() -> bytes:
    """The shipped configuration as the system's service gets it."""
    text = (ETC / "skilld.toml").read_bytes()
    return text.replace(b'# mode = "development"\n', b'mode = "production"\n')


def test_the_systems_service_is_in_production_and_a_users_is_not(tmp_path: Path) -> None:
    for made, expected in ((layout(tmp_path), "production"), (user(tmp_path), "development")):
        files = unit_files(made, SYSTEMD, ETC, BIN, "none")
        config = tmp_path / expected / "skilld.toml"
        config.parent.mkdir()
        config.write_bytes(files[made.config / "skilld.toml"])
        env = {"SKILLD_BACKENDS": "local", "SKILLD_SANDBOX": "landlock"}  # as the unit has them
        loaded = load_config(config, env, uid=1000)
        assert (loaded.daemon.mode, loaded.backends.default) == (expected, ("local",))


def test_a_package_has_the_vendors_folders(tmp_path: Path) -> None:
    files = unit_files(packaged(tmp_path), SYSTEMD, ETC, Path("/usr/lib/skilld/bin"), "none")
    assert {str(path.relative_to(tmp_path)) for path in files} == {
        "usr/lib/systemd/system/skilld.service",
        "usr/lib/systemd/system/skilld.socket",
        "usr/lib/sysusers.d/skilld.conf",
        "etc/skilld/skilld.toml",
    }
