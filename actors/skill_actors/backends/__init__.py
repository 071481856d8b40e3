"""Backends: where tool calls run. The contract is in `base`, the names in `registry`."""

from .base import (
    BackendUnavailable,
    Capabilities,
    Executor,
    OutputChunk,
    ToolCall,
    ToolContext,
    ToolResult,
    Workspace,
    WorkspaceSpec,
)
from .link import Limits
from .local import LocalOptions, open_local
from .registry import factory, known

__all__ = [
    "BackendUnavailable",
    "Capabilities",
    "Executor",
    "Limits",
    "LocalOptions",
    "OutputChunk",
    "ToolCall",
    "ToolContext",
    "ToolResult",
    "Workspace",
    "WorkspaceSpec",
    "factory",
    "known",
    "open_local",
]
