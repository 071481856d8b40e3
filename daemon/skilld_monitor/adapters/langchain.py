"""LangChain and LangGraph, by LangChain's callbacks: a handler that LangChain itself gives to every run, as it does
with its own tracers. No class is changed, and nothing of either is imported before the program does.

A call of a model is one span, whoever sees it: what the model's SDK says of it is put onto LangChain's.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar

from skilld_monitor.adapters.langchain_facts import name_of
from skilld_monitor.adapters.langchain_run import Beginning
from skilld_monitor.adapters.langchain_runs import Runs
from skilld_monitor.monitoring import active
from skilld_monitor.policy.errors import BlockedError
from skilld_monitor.trace import follow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType
    from typing import Any

    from skilld_monitor.monitoring import Monitoring
    from skilld_monitor.trace import Place

__all__ = ["WATCHED", "get_callback_handler"]

_BASE = "langchain_core.callbacks.base"
_CONFIG = "langchain_core.runnables.config"

_runs = Runs()
_handlers: dict[type, Any] = {}


def get_callback_handler() -> Any:
    """The handler that reports LangChain's runs, for programs that pass their handlers themselves. They need not: while
    monitoring is on every run has it, and none has it twice.

    Raises:
        ImportError: without LangChain.

    """
    from importlib import import_module

    return _handler_of(import_module(_BASE))


def _handler_of(base_module: ModuleType) -> Any:
    base = base_module.BaseCallbackHandler
    if base not in _handlers:
        kind: Any = type("ToolMonitorCallbackHandler", (_Methods, base), {"__module__": __name__})
        _handlers[base] = kind()
    return _handlers[base]


def __getattr__(name: str) -> Any:
    """`ToolMonitorCallbackHandler`, which is made of LangChain's class when it is asked for."""
    if name != "ToolMonitorCallbackHandler":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return type(get_callback_handler())


def _note(work: Callable[[Monitoring], None]) -> None:
    """What cannot be understood of a run is not the program's trouble."""
    on = active()
    if on is None:
        return
    try:
        work(on)
    except BlockedError:
        raise
    except Exception as error:
        on.problem = f"a run of langchain could not be reported: {type(error).__name__}: {error}"


class _Methods:
    """What LangChain calls. In the thread or task where the run is, so that what is open there can be seen."""

    run_inline = True
    raise_error = True  # for a tool that a policy forbids: nothing else gets out

    def __deepcopy__(self, memo: Any) -> Any:
        return self  # it has no state: a configuration that is copied keeps it once

    def on_chat_model_start(
        self, serialized: Any, messages: Any, *, run_id: Any, parent_run_id: Any = None, **said: Any
    ) -> None:
        _note(lambda on: _runs.begin_model(on, _beginning(serialized, run_id, parent_run_id, said), messages[0], said))

    def on_llm_start(
        self, serialized: Any, prompts: Any, *, run_id: Any, parent_run_id: Any = None, **said: Any
    ) -> None:
        _note(lambda on: _runs.begin_model(on, _beginning(serialized, run_id, parent_run_id, said), prompts, said))

    def on_llm_new_token(self, token: Any, *, run_id: Any, **_said: Any) -> None:
        _note(lambda _on: _runs.first_piece(run_id))

    def on_stream_event(self, event: Any, *, run_id: Any, **_said: Any) -> None:
        _note(lambda _on: _runs.first_piece(run_id))

    def on_llm_end(self, response: Any, *, run_id: Any, **_said: Any) -> None:
        _note(lambda on: _runs.end_model(on, run_id, response, None))

    def on_llm_error(self, error: BaseException, *, run_id: Any, **said: Any) -> None:
        _note(lambda on: _runs.end_model(on, run_id, said.get("response"), error))

    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: Any, parent_run_id: Any = None, **said: Any
    ) -> None:
        _note(lambda on: _runs.begin_chain(on, _beginning(serialized, run_id, parent_run_id, said), inputs))

    def on_chain_end(self, outputs: Any, *, run_id: Any, **_said: Any) -> None:
        _note(lambda on: _runs.end_chain(on, run_id, outputs))

    def on_chain_error(self, error: BaseException, *, run_id: Any, **_said: Any) -> None:
        _note(lambda on: _runs.fail(on, run_id, error))

    def on_tool_start(
        self, serialized: Any, input_str: Any, *, run_id: Any, parent_run_id: Any = None, **said: Any
    ) -> None:
        arguments = said.get("inputs")
        arguments = input_str if arguments is None else arguments
        call_id = said.get("tool_call_id")
        _note(lambda on: _runs.begin_tool(on, _beginning(serialized, run_id, parent_run_id, said), arguments, call_id))

    def on_tool_end(self, output: Any, *, run_id: Any, **_said: Any) -> None:
        _note(lambda on: _runs.end_tool(on, run_id, output))

    def on_tool_error(self, error: BaseException, *, run_id: Any, **_said: Any) -> None:
        _note(lambda on: _runs.fail(on, run_id, error))

    def on_retriever_start(
        self, serialized: Any, query: Any, *, run_id: Any, parent_run_id: Any = None, **said: Any
    ) -> None:
        _note(lambda on: _runs.begin_retriever(on, _beginning(serialized, run_id, parent_run_id, said), query))

    def on_retriever_end(self, documents: Any, *, run_id: Any, **_said: Any) -> None:
        _note(lambda on: _runs.end_retriever(on, run_id, documents))

    def on_retriever_error(self, error: BaseException, *, run_id: Any, **_said: Any) -> None:
        _note(lambda on: _runs.fail(on, run_id, error))


def _beginning(serialized: Any, run_id: Any, parent_run_id: Any, said: Mapping[str, Any]) -> Beginning:
    name = name_of(serialized, said.get("name"))
    return Beginning(run_id, parent_run_id, name, said.get("tags"), said.get("metadata"), serialized)


def _open_here(mine: Place | None) -> Place | None:
    """The run that LangChain has under way in this thread or task, if it is inside of what the program has open."""
    module = sys.modules.get(_CONFIG)
    if module is None or not len(_runs):
        return mine
    try:
        config = module.var_child_runnable_config.get()
        return (
            mine if config is None else _runs.innermost(getattr(config.get("callbacks"), "parent_run_id", None), mine)
        )
    except Exception:  # half loaded, or another version's: the program's own spans remain
        return mine


def _watch(module: ModuleType, made: Monitoring) -> None:
    """Give the handler to every run, in every thread: a context variable that nobody sets has its default there."""
    handler = _handler_of(sys.modules[_BASE])
    everywhere: ContextVar[Any] = ContextVar("skilld_monitor_langchain", default=handler)
    module.register_configure_hook(everywhere, True, type(handler))

    def forget() -> None:
        module._configure_hooks[:] = [hook for hook in module._configure_hooks if hook[0] is not everywhere]
        _runs.forget_all()

    made.patches.on_restore(forget)
    made.patches.on_restore(follow(_open_here))


WATCHED: Mapping[str, Callable[[ModuleType, Monitoring], None]] = {"langchain_core.tracers.context": _watch}
