"""Backends: where tool calls run. The contract is in `base`, the names in `registry`."""

from .base import (
    BackendUnavailable,
    Capabilities,
    Claim,
    Executor,
    Image,
    OptionRefused,
    OutputChunk,
    TakesOptions,
    ToolCall,
    ToolContext,
    ToolResult,
    Workspace,
    WorkspaceSpec,
    options_for,
)
from .link import Limits
from .local import LocalOptions, open_local
from .native import NativeCalls, NativeRoom, NativeTools
from .native_executor import NativeExecutor, open_native
from .native_inline import InlineNatives
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
    "InlineNatives",
    "Limits",
    "LocalOptions",
    "NativeCalls",
    "NativeExecutor",
    "NativeProcesses",
    "NativeRoom",
    "NativeTools",
    "OptionRefused",
    "OutputChunk",
    "TakesOptions",
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
    "options_for",
]
