"""The tool loop as a library: model calls that you make, tool calls that run here, until the model has finished."""

from .callers import CallModel, model_caller
from .context import ExecutionContext, create_context
from .conversation import Loop, LoopResult, run_loop
from .definitions import tool_definitions
from .execution import execute
from .responses import Processed, Response, ResponseError, parse_response, process_response

__all__ = [
    "CallModel",
    "ExecutionContext",
    "Loop",
    "LoopResult",
    "Processed",
    "Response",
    "ResponseError",
    "create_context",
    "execute",
    "model_caller",
    "parse_response",
    "process_response",
    "run_loop",
    "tool_definitions",
]
