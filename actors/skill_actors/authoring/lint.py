"""The linter: what an author would want to know before others use the skill. Reads, runs nothing."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Container, Iterator
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import quote, unquote

from skill_actors.authoring.findings import Finding, Lines, in_order
from skill_actors.authoring.folder import SkillFolder
from skill_actors.authoring.template import PLACEHOLDER, UNWRITTEN_SCRIPT
from skill_actors.authoring.trial_file import BadTrial, read_trials, trial_files
from skill_actors.skills.base import Diagnostic, Skill
from skill_actors.skills.requirements import requirements_of

__all__ = ["lint"]

MIN_DESCRIPTION_CHARS: Final = 40
MAX_BODY_CHARS: Final = 20_000  # about 5,000 tokens
MIN_BODY_CHARS: Final = 20
LARGE_FOLDER_BYTES: Final = 10 * 1024 * 1024

_WHEN: Final = re.compile(
    r"(?i)\b(?:when(?:ever)?|if|before|after|while|for|on|upon|during|trigger(?:s|ed)?|asks?|asked|wants?|needs?|mentions?)\b"
)
_PERSON: Final = re.compile(r"(?i)\s*(?:I|I'm|we|you|your|my|our)\b(?! ?/)")
_VAGUE: Final = re.compile(
    r"(?i)\s*(?:helps?(?: with| you)?|does (?:things|stuff)|a (?:useful |helpful )?(?:skill|tool|helper))\b"
)
# As the template has it, or as authors mark a gap; a skill may be about TODO lists.
_UNWRITTEN: Final = re.compile(
    rf"\b{PLACEHOLDER}(?: say\b|[ \t]{{0,9}}(?::|$))|^{PLACEHOLDER}\b(?! (?:lists?|comments?|items?)\b)", re.MULTILINE
)
_FENCE: Final = re.compile(r" {0,3}(?P<mark>`{3,}|~{3,})(?P<rest>.*)")
_LINK: Final = re.compile(r"!?\[[^\]\n]{0,200}\]\(\s*<?(?P<target>[^()\[\]>\s]{1,500})>?(?:\s[^)\n]{0,200})?\)")
_MENTION: Final = re.compile(r"(?<![\w./$~-])(?P<target>(?:scripts|references|assets)/[\w./-]{0,300}\w)")
_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//|#")
_HELP: Final = re.compile(
    r"--help\b|-h\)|\bargparse\b|\bclick\b|\btyper\b|\bdocopt\b|\boptparse\b|\bfire\.Fire\b|\bcommander\b|\byargs\b|"
    r"\bparseArgs\b|\bparam\(|\bFlagSet\b"
)
_ASKS_SHELL: Final = re.compile(
    r"^[^#\n]{0,200}\b(?:read[ \t]{1,9}(?:-\w{1,9}[ \t]{1,9}){0,5}-\w{0,5}p\b|select[ \t][^\n]{1,100}[ \t]in\b)",
    re.MULTILINE,
)
_NO_PROGRAM: Final = frozenset({".md", ".txt", ".json", ".toml", ".yaml", ".yml", ".csv", ".cfg", ".ini", ".xml"})


def lint(folder: SkillFolder) -> tuple[Finding, ...]:
    """Everything that could be better. What keeps the skill from being used is `high`. Blocks.

    Raises:
        NoSkill: if a file changed while it was read.

    """
    return in_order(_findings(folder))


def _findings(folder: SkillFolder) -> Iterator[Finding]:
    skill = folder.skill
    if skill is None:
        assert folder.failure is not None
        yield from map(_of_diagnostic, folder.failure.diagnostics)
        return
    yield from map(_of_diagnostic, skill.diagnostics)
    yield from map(_of_diagnostic, requirements_of(skill).malformed)
    yield from _description(skill.description)
    yield from _body(skill)
    yield from _size(folder)
    yield from _links(folder)
    for path in folder.inventory.files:
        yield from _script(folder, path)
    yield from _unused(folder, skill)
    yield from _tests(folder)


def _of_diagnostic(found: Diagnostic) -> Finding:
    return Finding(
        code=found.code,
        severity="high" if found.severity == "error" else "medium",
        message=found.message,
        line=found.line,
        remedy=found.remedy,
    )


def _description(text: str) -> Iterator[Finding]:
    def finding(code: str, message: str, remedy: str) -> Finding:
        return Finding(code=code, severity="medium", message=message, remedy=remedy)

    if _UNWRITTEN.search(text):
        yield finding("description_placeholder", f"the description still says {PLACEHOLDER}", "Write it.")
        return
    if len(text) < MIN_DESCRIPTION_CHARS:
        message = f"the description has {len(text)} characters; the model chooses by it alone"
        yield finding("description_short", message, "Say what the skill does, with what, and when to use it.")
    if not _WHEN.search(text):
        message = "the description does not say when to use the skill"
        yield finding("description_no_when", message, "Add: Use it when the user asks to ...")
    if _PERSON.match(text):
        message = "the description speaks in the first or second person"
        yield finding("description_person", message, "Begin with a verb in the third person, such as Extracts.")
    if _VAGUE.match(text):
        yield finding("description_vague", "the description begins vaguely", "Begin with what is done to what.")
    if "<" in text or ">" in text:
        message = "the description holds < or >, which the Skills API refuses as a tag"
        yield finding("description_tags", message, "Write it without.")


def _body(skill: Skill) -> Iterator[Finding]:
    if len(skill.body.strip()) < MIN_BODY_CHARS:
        message = "the body says next to nothing"
        yield Finding(code="body_empty", severity="medium", message=message, remedy="Say how to go about the task.")
    if len(skill.body) > MAX_BODY_CHARS:
        message = (
            f"the body has about {len(skill.body) // 4:,} tokens, all of them read at every use; 5,000 are advised"
        )
        yield Finding(code="body_large", severity="medium", message=message, remedy="Move details into references/.")
    if _UNWRITTEN.search(skill.body):
        yield Finding(code="body_placeholder", severity="low", message=f"the body still says {PLACEHOLDER}")


def _size(folder: SkillFolder) -> Iterator[Finding]:
    if folder.size_bytes > LARGE_FOLDER_BYTES:
        message = f"the folder has {folder.size_bytes / (1 << 20):.1f} MiB; each version of it is copied"
        remedy = "Leave out what can be made or fetched; the Skills API takes 30 MB."
        yield Finding(code="folder_large", severity="medium", message=message, path=".", remedy=remedy)


# Links


def _links(folder: SkillFolder) -> Iterator[Finding]:
    places = _places(folder)
    for path in folder.inventory.files:
        if not path.endswith(".md"):
            continue
        text = folder.text(path)
        if text is None:
            continue
        prose = _without_code(text)
        lines = Lines(prose)
        for match in _LINK.finditer(prose):
            yield from _link(places, path, match["target"], lines.of(match.start()))
        if path == "SKILL.md":
            yield from _mentions(places, _LINK.sub(lambda match: "\n" * match[0].count("\n"), text))


def _without_code(text: str) -> str:
    """The text with the lines of fenced blocks left empty; a block that is never closed is none."""
    lines = text.split("\n")
    begun: int | None = None
    mark = ""
    for number, line in enumerate(lines):
        match = _FENCE.fullmatch(line)
        if match is None:
            continue
        if begun is None:
            begun, mark = number, match["mark"]
        elif match["mark"].startswith(mark) and not match["rest"].strip():
            lines[begun : number + 1] = [""] * (number + 1 - begun)
            begun = None
    return "\n".join(lines)


def _link(places: Container[str], path: str, target: str, line: int) -> Iterator[Finding]:
    if _SCHEME.match(target):
        return
    if target.startswith("/"):
        message = f"links to {target!a}, which is on your machine only"
        yield Finding(code="absolute_link", severity="medium", message=message, path=path, line=line)
        return
    named = unquote(target.partition("#")[0].partition("?")[0])
    found = _resolved(PurePosixPath(path).parent / named)
    if found is None:
        message = f"links to {target!a}, outside of the skill"
        remedy = "Copy what is needed into the skill."
        yield Finding(code="link_leaves_root", severity="medium", message=message, path=path, line=line, remedy=remedy)
    elif found not in places:
        message = f"links to {target!a}, which is not there"
        yield Finding(code="dead_link", severity="medium", message=message, path=path, line=line)


def _mentions(places: Container[str], text: str) -> Iterator[Finding]:
    lines = Lines(text)
    for match in _MENTION.finditer(text):
        if match["target"] not in places:
            message = f"names {match['target']!a}, which is not there"
            yield Finding(code="dead_link", severity="medium", message=message, line=lines.of(match.start()))


def _resolved(path: PurePosixPath) -> str | None:
    """The path without `.` and `..`; None if it leaves the skill."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            if not parts:
                return None
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def _places(folder: SkillFolder) -> set[str]:
    """What a link can lead to: the files, and the folders they are in; "" is the skill's own."""
    folders = {str(parent) for path in folder.inventory.files for parent in PurePosixPath(path).parents}
    return {"", *folder.inventory.files, *folders}


# Scripts


def _script(folder: SkillFolder, path: str) -> Iterator[Finding]:
    if not path.startswith("scripts/") or PurePosixPath(path).suffix in _NO_PROGRAM:
        return
    text = folder.text(path)
    if text is None:
        return
    runs = folder.inventory.files[path].executable
    begins = text.startswith("#!")
    if begins and not runs:
        message = "begins with #! but has no run bit"
        yield Finding(code="no_run_bit", severity="medium", message=message, path=path, remedy=f"chmod +x {path}")
    if runs and not begins:
        message = "has a run bit, but its first line does not say what runs it"
        remedy = "Begin it with #!/usr/bin/env and the interpreter."
        yield Finding(code="no_shebang", severity="medium", message=message, path=path, remedy=remedy)
    if "\r\n" in text.partition("\n")[0] + "\n" and begins:
        message = "its first line ends in CR LF, so that Linux does not find the interpreter"
        yield Finding(code="crlf_shebang", severity="high", message=message, path=path, remedy="Save it with LF ends.")
    if UNWRITTEN_SCRIPT in text:
        yield Finding(code="script_placeholder", severity="medium", message="is still that of the template", path=path)
    yield from _python(path, text)
    if folder.is_script(path):
        yield from _manners(path, text)


def _python(path: str, text: str) -> Iterator[Finding]:
    if not path.endswith(".py"):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        message = f"is no Python: {error.msg if isinstance(error, SyntaxError) else 'it is nested too deeply'}"
        yield Finding(code="script_syntax", severity="high", message=message, path=path, line=line)
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "input":
            yield _asks(path, node.lineno)


def _manners(path: str, text: str) -> Iterator[Finding]:
    if not _HELP.search(text):
        message = "does not seem to know --help"
        remedy = "Explain usage, options and exit codes with --help."
        yield Finding(code="script_no_help", severity="medium", message=message, path=path, remedy=remedy)
    if not path.endswith(".py"):
        lines = Lines(text)
        for match in _ASKS_SHELL.finditer(text):
            yield _asks(path, lines.of(match.start()))


def _asks(path: str, line: int) -> Finding:
    message = "asks a question, which nobody can answer"
    remedy = "Take everything as arguments."
    return Finding(code="script_asks", severity="medium", message=message, path=path, line=line, remedy=remedy)


# The rest


def _unused(folder: SkillFolder, skill: Skill) -> Iterator[Finding]:
    """Files beside the scripts that no text of the skill names: nobody will ever read them."""
    candidates = [path for path in skill.files if path.startswith(("references/", "assets/"))]
    if not candidates:
        return
    texts = [
        folder.text(path) or "" for path in folder.inventory.files if path not in candidates or path.endswith(".md")
    ]
    everything = "\n".join(texts)
    for path in candidates:
        parents = [str(parent) for parent in PurePosixPath(path).parents][:-1]
        names = (PurePosixPath(path).name, quote(PurePosixPath(path).name))
        if not any(name in everything for name in names) and not any(
            _is_named(parent, everything) for parent in parents
        ):
            message = "is named in no text of the skill, so nobody will look for it"
            yield Finding(code="unused_file", severity="low", message=message, path=path, remedy="Name it in SKILL.md.")


def _is_named(folder: str, text: str) -> bool:
    """Whether the text speaks of the folder as such, and not only of something in it."""
    return re.search(rf"{re.escape(folder)}/(?!\w)", text) is not None


def _tests(folder: SkillFolder) -> Iterator[Finding]:
    for path in trial_files(folder):
        try:
            read_trials(folder, path)
        except BadTrial as error:
            yield Finding(code="test_malformed", severity="high", message=str(error), path=path)
