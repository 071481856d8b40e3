"""The agent backend `claude_cli`: the `claude` program, kept warm, resumed by id, asked before its tools run."""

from .backend import ClaudeBackend, open_claude
from .options import ClaudeOptions

__all__ = ["ClaudeBackend", "ClaudeOptions", "open_claude"]
