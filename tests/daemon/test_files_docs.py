"""What docs/files.md claims, against the program."""

from __future__ import annotations

import re
from pathlib import Path

from skill_actors.files.artifacts.errors import CODES as ARTIFACT_CODES
from skill_actors.files.artifacts.registry import ArtifactLimits
from skill_actors.files.quota import DEFAULT_QUOTA_BYTES
from skill_actors.files.ref import FileRef
from skill_actors.files.snapshot import ScanLimits
from skill_actors.files.storage.errors import CODES as STORAGE_CODES
from skill_actors.files.storage.options import S3Options

PAGE = (Path(__file__).parents[2] / "docs/files.md").read_text()


def rows(before: str) -> set[str]:
    """First cells of the table behind a text."""
    _, _, rest = PAGE.partition(before)
    table = re.search(r"(?:^\|.*\n)+", rest, re.MULTILINE)
    assert table is not None
    return {line.split("`")[1] for line in table[0].splitlines()[2:]}


def test_every_code_is_explained() -> None:
    assert rows("Failures are `StorageError`:") == STORAGE_CODES
    assert rows("with the code in `details.artifact_error`:") == set(ARTIFACT_CODES)


def test_every_field_of_a_file_is_named() -> None:
    for field in FileRef(path="a", size=1).to_dict():
        assert f"`{field}`" in PAGE, field


def test_the_figures_are_those_of_the_program() -> None:
    limits = ArtifactLimits()
    options = S3Options(bucket="b", cache=Path())
    assert (limits.file_bytes, limits.fetching.max_bytes, limits.fetching.timeout_s) == (50 << 20, 10 << 20, 30)
    assert (limits.inline_bytes, limits.lifetime_s, limits.cache_s, limits.fetching.redirects) == (
        1 << 20,
        3600,
        900,
        5,
    )
    assert (options.part_bytes, options.attempts) == (8 << 20, 4)
    assert (DEFAULT_QUOTA_BYTES, ScanLimits().entries) == (1 << 30, 100_000)
