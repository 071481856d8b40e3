"""Backends: where tool calls run. The contract is in `base`, the names in `registry`."""

from .base import (
    BackendUnavailable,
    Capabilities,
    Claim,
    Executor,
    Image,
    OutputChunk,
    ToolCall,
    ToolContext,
    ToolResult,
    Workspace,
    WorkspaceSpec,
)
from .link import Limits
from .local import LocalOptions, open_local
from .native import NativeExecutor, NativeRoom, NativeTools, open_native
from .native_processes import NativeProcesses
from .registry import factory, known
from .workers import Host, Workers, WorkersRef, failed_result

__all__ = [
    "BackendUnavailable",
    "Capabilities",
    "Claim",
    "Executor",
    "Host",
    "Image",
    "Limits",
    "LocalOptions",
    "NativeExecutor",
    "NativeProcesses",
    "NativeRoom",
    "NativeTools",
    "OutputChunk",
    "ToolCall",
    "ToolContext",
    "ToolResult",
    "Workers",
    "WorkersRef",
    "Workspace",
    "WorkspaceSpec",
    "factory",
    "failed_result",
    "known",
    "open_local",
    "open_native",
]
