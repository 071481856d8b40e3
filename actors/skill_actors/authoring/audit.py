"""The audit: what in a skill deserves a look before it is trusted. Reads, runs nothing, needs no network.

It finds what is written plainly or hidden by common tricks. It proves nothing: a skill without findings may still do
harm, and many a finding is harmless where the skill's task is just that (a downloader uses the network).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Final

from skill_actors.authoring.audit_rules import PATTERNS, PHRASES, SECRETS, Pattern
from skill_actors.authoring.audit_text import Hiding, SearchedText, decoded, hides, is_utf8
from skill_actors.authoring.findings import Finding, Severity, in_order
from skill_actors.authoring.folder import MAX_TEXT_BYTES, SkillFolder, is_binary

__all__ = ["audit"]

_PROSE: Final = frozenset({".md", ".txt", ".rst", ".adoc", ".html", ".htm"})
_PROGRAMS: Final[Mapping[bytes, str]] = {
    b"\x7fELF": "a Linux program",
    b"MZ": "a Windows program",
    b"\xfe\xed\xfa\xce": "a macOS program",
    b"\xcf\xfa\xed\xfe": "a macOS program",
    b"\xca\xfe\xba\xbe": "a Java class or macOS program",
    b"\x00asm": "a WebAssembly program",
}
_ARCHIVES: Final[Mapping[bytes, str]] = {
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\0": "an xz archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"Rar!\x1a\x07": "a rar archive",
}
_TAR_MARK: Final = slice(257, 262)
_HARMLESS_ENV: Final = frozenset({".env.example", ".env.sample", ".env.template", ".env.dist"})
_LEFT_OUT: Final[Mapping[str, Severity]] = {"link_leaves_root": "high", "not_regular": "medium"}
_LONG_CODED: Final = re.compile(
    r"[A-Za-z0-9+/_-]{400,}={0,2}|(?:\\x[0-9a-fA-F]{2}){60,}"
    r"|(?:^[ \t\"'#]{0,40}(?=[a-z+/]{0,99}[A-Z0-9])[A-Za-z0-9+/]{56,100}={0,2}[\"',\\]{0,4}\r?\n){6,}",  # in lines
    re.MULTILINE,
)
_COMMENT_SHOWN_CHARS: Final = 200
_PLACEHOLDER: Final = re.compile(
    r"(?i)example|placeholder|your|change|dummy|sample|redacted|xxxx|\*\*\*|test|fake|foobar|123456"
)


def audit(folder: SkillFolder) -> tuple[Finding, ...]:
    """Look at every file of the skill; the findings, the worst first. Blocks.

    Raises:
        NoSkill: if a file changed while it was read.

    """
    return in_order(_findings(folder))


def _findings(folder: SkillFolder) -> Iterator[Finding]:
    for path, left_out in folder.inventory.left_out.items():
        severity = _LEFT_OUT.get(left_out.code, "low")
        yield Finding(
            code=left_out.code, severity=severity, message=left_out.message, path=path, remedy=left_out.remedy
        )
    if folder.failure is not None:
        first = folder.failure.diagnostics[0]
        message = f"the skill cannot be loaded: {first.message}"
        yield Finding(code=first.code, severity="medium", message=message, line=first.line, remedy=first.remedy)
    yield from _grants(folder)
    for path in folder.inventory.files:
        yield from _of_file(folder, path)


def _grants(folder: SkillFolder) -> Iterator[Finding]:
    tools = folder.skill.allowed_tools if folder.skill is not None else ()
    wide = [tool for tool in tools if tool in ("Bash", "bash_tool", "*", "Bash(*)", "Bash(*:*)")]
    if wide:
        message = f"allowed-tools asks that every command may run without approval ({', '.join(wide)})"
        remedy = "Narrow it to the commands it needs, such as Bash(git:*)."
        yield Finding(code="wide_grant", severity="low", message=message, remedy=remedy)


def _of_file(folder: SkillFolder, path: str) -> Iterator[Finding]:
    yield from _of_name(path)
    data = folder.content(path)
    if data is None:
        message = f"has more than {MAX_TEXT_BYTES} bytes and was not looked into"
        yield Finding(code="not_read", severity="medium", message=message, path=path)
        return
    kind = _kind(path, data)
    if kind is not None:
        yield kind
        return
    is_script = folder.is_script(path)
    if is_script:
        yield Finding(code="executable", severity="info", message="is a program of the skill", path=path)
    if is_binary(data) and not is_script and not is_utf8(data):
        message = "is no text, and was not looked into"
        yield Finding(code="binary", severity="info", message=message, path=path)
        return
    yield from _of_text(path, SearchedText(decoded(data)))


def _of_name(path: str) -> Iterator[Finding]:
    hidden = [character for character in path if hides(character) is not None]
    if hidden:
        message = f"its name holds characters that do not show: {_codes(hidden)}"
        yield Finding(code="hidden_characters", severity="high", message=message, path=path, remedy="Rename it.")
    name = PurePosixPath(path).name
    if name == ".env" or (name.startswith(".env.") and name not in _HARMLESS_ENV):
        yield Finding(code="secret_file", severity="medium", message="is a file of settings and secrets", path=path)
    spoken = SearchedText(path)
    for pattern in PHRASES:
        for finding in _matches(pattern, spoken, path):
            yield replace(finding, line=None, message=f"its name {finding.message}")


def _kind(path: str, data: bytes) -> Finding | None:
    """What the file is, if it is a program or an archive: nobody can read it, and nothing in it is searched."""
    for magic, what in _PROGRAMS.items():
        if data.startswith(magic) and is_binary(data):
            message = f"is {what}, which nobody can read"
            remedy = "Ship the source instead, or say where the program comes from."
            return Finding(code="binary", severity="high", message=message, path=path, remedy=remedy)
    archive = next((what for magic, what in _ARCHIVES.items() if data.startswith(magic)), None)
    if data[_TAR_MARK] == b"ustar":
        archive = "a tar archive"
    if archive is None or (is_utf8(data) and not is_binary(data)):
        return None
    message = f"is {archive}; what is inside was not looked at"
    return Finding(code="archive", severity="low", message=message, path=path)


def _of_text(path: str, text: SearchedText) -> Iterator[Finding]:
    prose = PurePosixPath(path).suffix.lower() in _PROSE
    for pattern in PATTERNS:
        if pattern.scope == "all" or not prose:
            yield from _matches(pattern, text, path)
    for pattern in PHRASES:
        yield from _matches(pattern, text, path)
    yield from _secrets(path, text)
    yield from _hidden(path, text.written)
    yield from _coded(path, text)
    if prose:
        yield from _comments(path, text)


def _matches(pattern: Pattern, text: SearchedText, path: str) -> Iterator[Finding]:
    lines: set[int] = set()
    for match in pattern.expression.finditer(text.read):
        line = text.line_read(match.start() + _indent(match[0]))
        if line not in lines:
            lines.add(line)
            message = f"{pattern.message}: {_quoted(match[0])}"
            yield Finding(
                code=pattern.code,
                severity=pattern.severity,
                message=message,
                path=path,
                line=line,
                remedy=pattern.remedy,
            )


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip())


def _quoted(text: str) -> str:
    """What was found, on one line, cut, with everything that does not show as an escape and no credential in it."""
    for pattern in SECRETS:
        text = pattern.expression.sub("***", text)
    line = " ".join(text.split())
    shown = line if line.isprintable() else ascii(line)[1:-1]
    return repr(shown if len(shown) <= 80 else f"{shown[:77]}...")


def _secrets(path: str, text: SearchedText) -> Iterator[Finding]:
    for pattern in SECRETS:
        for match in pattern.expression.finditer(text.written):
            value = match.groupdict().get("value") or match[0]
            if _PLACEHOLDER.search(value) and not value.startswith("-----BEGIN"):
                continue
            yield Finding(
                code=pattern.code,
                severity=pattern.severity,
                message=f"{pattern.message} ({len(value)} characters)",
                path=path,
                line=text.line(match.start()),
                remedy=pattern.remedy,
            )


def _hidden(path: str, text: str) -> Iterator[Finding]:
    if text.isascii() and text.isprintable():
        return
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if line.isprintable():
            continue
        by_kind: dict[Hiding, list[str]] = {}
        for character in line:
            hiding = hides(character)
            if hiding is not None:
                by_kind.setdefault(hiding, []).append(character)
        for hiding, characters in by_kind.items():
            message = f"{len(characters)} characters {hiding.what}: {_codes(characters)}"
            yield Finding(
                code="hidden_characters",
                severity=hiding.severity,
                message=message,
                path=path,
                line=number,
                remedy="Remove them.",
            )


def _codes(characters: Iterable[str]) -> str:
    kinds = sorted({f"U+{ord(character):04X}" for character in characters})
    return ", ".join(kinds[:5]) + (" and others" if len(kinds) > 5 else "")


def _coded(path: str, text: SearchedText) -> Iterator[Finding]:
    for match in _LONG_CODED.finditer(text.written):
        message = f"{len(match[0])} characters of coded data, which nobody can read"
        yield Finding(code="coded_data", severity="low", message=message, path=path, line=text.line(match.start()))


def _comments(path: str, text: SearchedText) -> Iterator[Finding]:
    """HTML's; one that is not closed goes to the end of the page."""
    start = text.written.find("<!--")
    while start >= 0:
        end = text.written.find("-->", start)
        end = len(text.written) if end < 0 else end
        shown = _quoted(text.written[start + 4 : min(end, start + 4 + _COMMENT_SHOWN_CHARS)])
        message = f"a comment that a reader of the page does not see, and a model does: {shown}"
        yield Finding(code="hidden_comment", severity="low", message=message, path=path, line=text.line(start))
        start = text.written.find("<!--", end)
