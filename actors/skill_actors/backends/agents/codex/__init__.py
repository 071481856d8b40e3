"""OpenAI's `codex` program as an agent backend."""

from .backend import CodexBackend, open_codex
from .options import CodexOptions

__all__ = ["CodexBackend", "CodexOptions", "open_codex"]
