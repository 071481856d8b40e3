"""Command lines of the program, and its environment. Pure.

A prompt never stands in one: it would be bounded in length, and every user of the host could read it. Options come
before the word `resume`, which knows few of them itself; they are repeated each time, as the program forgets them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skill_actors.backends.agents.codex.configuration import value
from skill_actors.backends.agents.codex.options import KEY_VARIABLE, CodexOptions

__all__ = ["environment", "exec_arguments", "server_arguments"]


def exec_arguments(
    program: str,
    *,
    profile: str,
    folder: Path,
    sandbox: str,
    model: str = "",
    schema: Path | None = None,
    images: Sequence[Path] = (),
    resume: str | None = None,
    fork: bool = False,
) -> list[str]:
    """One turn: the prompt comes by stdin, which is then closed; events go to stdout, one a line.

    Args:
        profile: name of the file in CODEX_HOME that has the rest.
        resume: the thread to go on with; with `fork` a copy of it.

    """
    argv = [program, "exec", "--json", "--skip-git-repo-check", "--color", "never", "--profile", profile]
    argv += ["--sandbox", sandbox, "--cd", str(folder)]
    argv += ["--model", model] if model else []
    argv += ["--output-schema", str(schema)] if schema is not None else []
    for image in images:
        argv += [f"--image={image}"]  # it takes several words, and would take the next ones too
    if resume is not None:
        argv += ["fork" if fork else "resume", resume]
    return [*argv, "-"]


def server_arguments(program: str, common: Mapping[str, Any]) -> list[str]:
    """The long-lived form, which speaks JSON messages over its stdin and stdout. `common` holds no secret."""
    argv = [program, "app-server"]
    for name, entry in _flat(common):
        argv += ["-c", f"{name}={value(entry)}"]
    return argv


def environment(operator: CodexOptions, *, home: Path, temporary: Path, key: str | None) -> dict[str, str]:
    """All that the program has: nothing is taken from whoever started the daemon."""
    made = {"PATH": operator.path, "LANG": "C.UTF-8", **operator.environment}
    # Folders of its own: it makes helpers in the first, which it refuses to do below TMPDIR.
    made |= {"CODEX_HOME": str(home / "codex"), "HOME": str(home / "home"), "TMPDIR": str(temporary)}
    return made if key is None else {**made, KEY_VARIABLE: key}


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """The entries by dotted names; a model provider stays whole, since the program wants all of it at once."""
    found: list[tuple[str, Any]] = []
    for name, entry in table.items():
        if isinstance(entry, Mapping) and not prefix:
            found += _flat(entry, f"{name}.")
        else:
            found.append((f"{prefix}{name}", entry))
    return found
