"""Where the code of native skills runs, as the operator says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from skilld.config import ConfigError, NativeConfig, load_config


def configured(tmp_path: Path, text: str) -> NativeConfig:
    file = tmp_path / "skilld.toml"
    file.write_text(f"[backends.native]\n{text}\n")
    return load_config(file, {}).backends.native


@pytest.mark.parametrize(
    ("text", "inline"),
    [
        ("", set()),
        ('isolation = "process"', set()),
        ('isolation = "inline"', {"near", "near-by", "far"}),
        ('inline = ["near"]', {"near"}),
        ('inline = ["near*", "none"]', {"near", "near-by"}),
        ('isolation = "process"\ninline = ["*"]', {"near", "near-by", "far"}),
    ],
)
def test_skills_run_in_worker_processes_but_for_those_that_the_operator_names(
    tmp_path: Path, text: str, inline: set[str]
) -> None:
    config = configured(tmp_path, text)
    assert {name for name in ("near", "near-by", "far") if config.is_inline(name)} == inline
    assert config.expose == ()


@pytest.mark.parametrize("text", ['isolation = "thread"', 'inline = "near"', "expose = [1]", 'expos = ["x"]'])
def test_what_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"backends\.native"):
        configured(tmp_path, text)
