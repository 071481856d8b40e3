"""Presets: lists of rules under a name, written as anybody could write them. docs/policy.md shows them as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["PRESETS", "READING"]

READING: Final = (
    *("cat **", "tac **", "head **", "tail **", "wc **", "nl **", "cut **", "tr **", "rev **", "paste **", "join **"),
    *("fold **", "expand **", "unexpand **", "column **", "comm **", "cmp **", "diff **", "uniq **", "sort **"),
    *("grep **", "egrep **", "fgrep **", "strings **", "hexdump **", "od **", "sed **", "jq **", "find **", "ls **"),
    *("stat **", "du **", "df **", "basename **", "dirname **", "realpath **", "readlink **", "pwd **", "which **"),
    *("cd **", "echo **", "printf **", "test **", "[ **", "true **", "false **", "seq **", "sleep **", "type **"),
    *("md5sum **", "sha1sum **", "sha256sum **", "sha512sum **", "b2sum **", "cksum **", "base64 **"),
    *("id", "whoami", "groups", "uname **", "nproc", "uptime", "free **", "date", "date +*"),
)
"""Commands that only read, in any form in which `analysis` finds nothing else in them."""

_LOOKING: Final[Sequence[Mapping[str, Any]]] = (
    {"effect": "allow", "tool": ["view", "load_skill"]},
    {"effect": "allow", "tool": "*_read", "backend": "native"},
    {"effect": "allow", "backend": "mcp_read"},
    {"effect": "allow", "tool": "bash_tool", "command": list(READING)},
)

_TOOL_SERVERS: Final[Mapping[str, Any]] = {
    "effect": "ask",
    "backend": "mcp",
    "reason": "only the operator can say of a tool server's tool that it does no harm",
}

PRESETS: Final[Mapping[str, Sequence[Mapping[str, Any]]]] = {
    "read-only": (
        *_LOOKING,
        {"effect": "deny", "reason": "only reading is permitted"},
    ),
    "guarded": (
        *_LOOKING,
        {"effect": "allow", "tool": ["create_file", "str_replace"], "path": "**"},
        {"effect": "ask", "reason": "it may do more than read, or write files in the workspace"},
    ),
    "workspace": (
        {
            "effect": "ask",
            "tool": "hand_over",
            "backend": "anthropic",
            "reason": "the file would leave this host",
        },
        {"effect": "ask", "backend": "native", "confined": False, "reason": "native tools are not confined"},
        _TOOL_SERVERS,
        {
            "effect": "ask",
            "tool": "bash_tool",
            "confined": False,
            "reason": "commands are not confined here",
        },
        {"effect": "allow"},
    ),
    "full": (_TOOL_SERVERS, {"effect": "allow"}),
}
