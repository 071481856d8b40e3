"""The tools that a model is offered, all or some of them. Pure."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from skill_actors.backends.tools import TOOLS

__all__ = ["tool_definitions"]


def tool_definitions(
    *,
    only: Collection[str] | None = None,
    except_: Collection[str] = (),
    tools: Sequence[Mapping[str, Any]] = TOOLS,
) -> list[dict[str, Any]]:
    """Definitions for the model: name, description, input_schema. The list and all in it is the caller's to change.

    This filters what is offered. `create_context` takes the same `only` and `except_`, and there they are enforced.

    Args:
        only: names of the tools that are offered; None for all.
        except_: names of those that are not, whatever `only` says.
        tools: to choose from: those of an executor, by default the four that every executor has.

    Raises:
        ValueError: if a name is that of no tool: a typing error must not offer what was meant to be kept back.

    """
    known = [str(tool["name"]) for tool in tools]
    unknown = sorted({*(only or ()), *except_} - set(known))
    if unknown:
        raise ValueError(f"there is no tool {', '.join(map(repr, unknown))}; there are {', '.join(known)}")
    return [
        copy.deepcopy(dict(tool))
        for tool in tools
        if (only is None or tool["name"] in only) and tool["name"] not in except_
    ]
