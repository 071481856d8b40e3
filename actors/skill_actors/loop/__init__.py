"""The tool loop as a library: model calls that you make, tool calls that run here, until the model has finished."""

from .backends import TURN_BACKENDS, Backend, BackendSession, ToolBackend, TurnFailed, chat, find_backend
from .callers import CallModel, model_caller
from .context import ExecutionContext, create_context
from .conversation import Loop, LoopResult, run_loop
from .definitions import tool_definitions
from .execution import execute
from .hosted import AskRequest, HostedBackend, HostedMemory
from .responses import Processed, Response, ResponseError, parse_response, process_response

__all__ = [
    "TURN_BACKENDS",
    "AskRequest",
    "Backend",
    "BackendSession",
    "CallModel",
    "ExecutionContext",
    "HostedBackend",
    "HostedMemory",
    "Loop",
    "LoopResult",
    "Processed",
    "Response",
    "ResponseError",
    "ToolBackend",
    "TurnFailed",
    "chat",
    "create_context",
    "execute",
    "find_backend",
    "model_caller",
    "parse_response",
    "process_response",
    "run_loop",
    "tool_definitions",
]
