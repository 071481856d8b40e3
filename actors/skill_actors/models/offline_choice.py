"""Choosing a skill without understanding language: words that a message shares with names and descriptions. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from skill_actors.models.base import SkillHint

__all__ = ["best_skill", "paths_named"]

_NAME_WEIGHT: Final = 3
_MIN_SCORE: Final = 2  # one shared word of a description is too little to run something
_MAX_PATHS: Final = 16

# fmt: off
_STOP_WORDS: Final = frozenset((
    "a", "about", "all", "also", "an", "and", "any", "are", "as", "at", "be", "by", "can", "could", "data", "did", "do",
    "does", "file", "files", "folder", "for", "from", "get", "give", "has", "have", "help", "how", "i", "if", "in",
    "into", "is", "it", "its", "just", "let", "make", "may", "me", "my", "need", "no", "not", "of", "on", "one", "or",
    "our", "out", "please", "show", "skill", "so", "some", "tell", "than", "that", "the", "their", "them", "then",
    "there", "these", "they", "this", "to", "up", "us", "use", "user", "using", "want", "was", "we", "were", "what",
    "when", "where", "which", "who", "why", "will", "with", "would", "you", "your",
))
# fmt: on
_SUFFIXES: Final = ("ing", "ers", "er", "ed", "es", "e", "s")
_WORD: Final = re.compile(r"[^\W_]+")
_TOKEN: Final = re.compile(r"""(?<!\S)"([^"\n]+)"|(?<!\S)'([^'\n]+)'|(\S+)""")
_BARE_FILE: Final = re.compile(
    r"[\w][\w.-]*\.(?:log|txt|md|json|jsonl|csv|tsv|gz|zip|tar|xml|html|ya?ml|toml|ini|conf|cfg|pdf|docx|xlsx|pptx|py|sh|sql)",
    re.IGNORECASE,
)
_NO_PATH: Final = re.compile(r"\d+(?:/\d+)+|/+|and/or|n/a|w/o", re.IGNORECASE)


def best_skill(message: str, skills: Iterable[SkillHint]) -> SkillHint | None:
    """The skill whose name and description fit best; None if none fits well. Ties go to the first by name.

    A word of the message counts 3 if the name has it, else 1 if the description has it. Words that stand only
    in paths count 1: `echo /var/log/syslog` is about echo.
    """
    paths = paths_named(message)
    path_words = _stems(" ".join(paths))
    for path in paths:
        message = message.replace(path, " ")
    words = _stems(message)
    ranked = sorted((-_score(words, path_words - words, skill), skill.name, skill) for skill in skills)
    return ranked[0][2] if ranked and -ranked[0][0] >= _MIN_SCORE else None


def paths_named(message: str) -> Sequence[str]:
    """The words of a message that look like paths of files, in order, each once, at most 16.

    That is: words with a slash, beginning with ~, or with a common file name extension. Quotes hold blanks
    together. Addresses and words that a program would take for an option are left out.
    """
    paths: dict[str, None] = {}
    for match in _TOKEN.finditer(message):
        token = match[1] or match[2] or match[3].lstrip("([<{\"'`").rstrip(")]>}\"'`.,;:!?")
        if _is_path(token):
            paths[token] = None
    return tuple(paths)[:_MAX_PATHS]


def _is_path(token: str) -> bool:
    if not token or token.startswith("-") or "://" in token or "\0" in token or _NO_PATH.fullmatch(token):
        return False
    return "/" in token or token.startswith("~") or _BARE_FILE.fullmatch(token) is not None


def _score(words: frozenset[str], path_words: frozenset[str], skill: SkillHint) -> int:
    name, description = _stems(skill.name), _stems(skill.description)
    strong = sum(_NAME_WEIGHT if word in name else word in description for word in words)
    return strong + len(path_words & (name | description))


def _stems(text: str) -> frozenset[str]:
    return frozenset(_stem(word) for word in _WORD.findall(text.casefold()) if word not in _STOP_WORDS)


def _stem(word: str) -> str:
    """A word without its commonest English endings; British and American spellings agree."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            word = word.removesuffix(suffix)
            break
    return word.replace("z", "s")
