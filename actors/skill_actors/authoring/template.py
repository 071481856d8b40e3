"""A new skill's folder: it passes validation and its own tests from the first moment.

What its author has to write is marked; lint names what is still marked.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from skill_actors.skills._clean import clean_text
from skill_actors.skills.fields import MAX_DESCRIPTION_CHARS
from skill_actors.skills.names import name_faults, normal_name

__all__ = ["PLACEHOLDER", "UNWRITTEN_SCRIPT", "BadTemplate", "Script", "make_skill"]

Script = Literal["python", "bash", "none"]

PLACEHOLDER: Final = "TODO"  # lint tells the author who left it in
UNWRITTEN_SCRIPT: Final = "TODO: do what the skill is for."
_PLAIN_YAML: Final = re.compile(r"[A-Za-z][A-Za-z0-9 ,.;()'/_-]*")  # what needs no quotes anywhere
_YAML_WORDS: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})

_PYTHON: Final = '''\
#!/usr/bin/env python3
"""Print each word on a line of its own. TODO: do what the skill is for."""

from __future__ import annotations

import argparse
import sys


def main() -> int:
    """Data goes to stdout, what went wrong to stderr. 0 done, 1 failed, 2 usage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="+", metavar="WORD")
    options = parser.parse_args()
    for word in options.words:
        print(word)
    return 0


if __name__ == "__main__":
    sys.exit(main())
'''
_BASH: Final = """\
#!/usr/bin/env bash
# Print each word on a line of its own. TODO: do what the skill is for.
# Data goes to stdout, what went wrong to stderr. 0 done, 1 failed, 2 usage.
set -euo pipefail

usage="usage: main.sh WORD..."

if [[ "${1:-}" == "--help" ]]; then
  echo "$usage"
  exit 0
fi
if [[ $# -eq 0 ]]; then
  echo "$usage" >&2
  exit 2
fi
printf '%s\\n' "$@"
"""
_TESTS: Final = """\
# Run by: skillctl skills test . What may stand here: docs/skills.md

[[case]]
name = "each word stands on a line of its own"
arguments = ["first", "second word"]
stdout = "first\\nsecond word\\n"

[[case]]
name = "without words it is a usage error"
exit_code = 2
stderr_contains = ["usage"]

[[case]]
name = "it explains itself"
arguments = ["--help"]
stdout_contains = ["WORD"]
"""


class BadTemplate(Exception):
    """The skill cannot be made; the message says why and what is allowed."""


def make_skill(
    parent: Path,
    name: str,
    *,
    description: str | None = None,
    license_name: str | None = None,
    script: Script = "python",
    tests: bool = True,
) -> Path:
    """Make the folder `parent/name` with all that a skill needs, whole or not at all; returns it. Blocks.

    Args:
        parent: made if it is missing.
        name: of the skill, and of its folder.
        description: what it does and when to use it; None leaves a text to be replaced.
        license_name: such as "Apache-2.0"; None leaves it out.
        script: the entry command to begin with.
        tests: whether to add tests of the script.

    Raises:
        BadTemplate: if the name or the description cannot be those of a skill, or the folder exists.
        OSError: if it cannot be written.

    """
    _check_name(name)
    summary = _checked_description(name, description)
    files = _files(name, summary, license_name, script, tests)
    target = parent / name
    if os.path.lexists(target):
        raise BadTemplate(f"{target} exists; choose another name, or another folder with --dir")
    parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".new-skill-", dir=parent))
    try:
        _write(building, files)
        building.chmod(0o755)
        building.rename(target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        raise BadTemplate(f"{target} was made by somebody else meanwhile") from None
    finally:
        if building.exists():
            shutil.rmtree(building)
    return target


def _check_name(name: str) -> None:
    if not name or normal_name(name) != name:
        raise BadTemplate(f"{name[:80]!a} cannot be a skill's name: use lower-case letters, digits and single hyphens")
    for fault in name_faults(name, name):
        raise BadTemplate(f"{fault.message}: {fault.remedy}")


def _checked_description(name: str, description: str | None) -> str:
    if description is None:
        return f"{PLACEHOLDER} say what {name} does. Use it when {PLACEHOLDER} say in which words users ask for it."
    text = " ".join(clean_text(description).split())
    if not text or len(text) > MAX_DESCRIPTION_CHARS:
        raise BadTemplate(f"the description has {len(text)} characters; 1 to {MAX_DESCRIPTION_CHARS} are allowed")
    return text


def _files(
    name: str, description: str, license_name: str | None, script: Script, tests: bool
) -> Mapping[str, tuple[str, int]]:
    place = {"python": "scripts/main.py", "bash": "scripts/main.sh"}.get(script)
    files = {"SKILL.md": (_skill_file(name, description, license_name, place), 0o644)}
    if place is not None:
        files[place] = (_PYTHON if script == "python" else _BASH, 0o755)
        if tests:
            files["tests/main.toml"] = (_TESTS, 0o644)
    return files


def _skill_file(name: str, description: str, license_name: str | None, script: str | None) -> str:
    lines = ["---", f"name: {_scalar(name)}", f"description: {_scalar(description)}"]
    if license_name:
        lines.append(f"license: {_scalar(' '.join(clean_text(license_name).split()))}")
    if script is not None:
        lines += ["metadata:", f"  skilld-entry: {script}"]
    lines += ["---", "", f"# {name}", ""]
    if script is None:
        lines += [f"{PLACEHOLDER} say step by step what to do, and what the answer has to hold."]
    else:
        runner = "python3" if script.endswith(".py") else "bash"
        lines += [
            f"Run `{runner} {script} WORD...` from this folder. It prints each word on a line of its own.",
            "",
            "Exit codes: 0 done, 1 failed (stderr says why), 2 usage.",
        ]
    return "\n".join(lines) + "\n"


def _scalar(text: str) -> str:
    """The text as one YAML scalar that every reader takes for text."""
    if _PLAIN_YAML.fullmatch(text) and text.strip() == text and text.lower() not in _YAML_WORDS:
        return text
    return json.dumps(text, ensure_ascii=False)


def _write(folder: Path, files: Mapping[str, tuple[str, int]]) -> None:
    for path, (content, mode) in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
        target.chmod(mode)
