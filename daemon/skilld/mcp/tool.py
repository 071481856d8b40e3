"""What a tool is: its name, its parameters, and what it does with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

if TYPE_CHECKING:
    from skilld.mcp.desk import Desk

__all__ = ["NoParameters", "Parameters", "Tool", "ToolFailure", "tool"]


class ToolFailure(Exception):
    """A tool did not do what it was called for. The message names the thing and the way out."""


class Parameters(BaseModel):
    """What a tool is given. A parameter that it does not know is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class NoParameters(Parameters):
    """Nothing."""


P = TypeVar("P", bound=Parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool.

    Args:
        reads: it changes nothing.
        run: does it, and returns the text of the answer. Raises ToolFailure, SkilldError or NotAName.

    """

    name: str
    description: str
    parameters: type[Parameters]
    reads: bool
    run: Callable[[Desk, Any], Awaitable[str]]

    def schema(self) -> dict[str, Any]:
        """The JSON schema of its parameters."""
        schema: dict[str, Any] = _untitled(self.parameters.model_json_schema())
        schema.setdefault("properties", {})
        schema.pop("description", None)
        return schema

    async def call(self, desk: Desk, arguments: Mapping[str, Any]) -> str:
        """Check the arguments, and do it.

        Raises:
            ToolFailure: also where the arguments do not fit; SkilldError and NotAName as `run`.

        """
        try:
            given = self.parameters.model_validate(dict(arguments))
        except ValidationError as error:
            raise ToolFailure(self._misfit(error)) from error
        return await self.run(desk, given)

    def _misfit(self, error: ValidationError) -> str:
        known = list(self.schema()["properties"])
        faults = []
        for fault in error.errors(include_url=False, include_context=False, include_input=False)[:5]:
            place = ".".join(str(part) for part in fault["loc"])[:60]
            if fault["type"] == "extra_forbidden":
                near = get_close_matches(place, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
                faults.append(f"unknown parameter {place!r}; {hint}")
            else:
                faults.append(f"{place}: {fault['msg']}")
        return f"{self.name}: " + "; ".join(faults)


def tool(
    name: str, parameters: type[P], description: str, *, reads: bool = False
) -> Callable[[Callable[[Desk, P], Awaitable[str]]], Tool]:
    """Make a tool of a function."""

    def made(run: Callable[[Desk, P], Awaitable[str]]) -> Tool:
        return Tool(name=name, description=description, parameters=parameters, reads=reads, run=run)

    return made


def _untitled(schema: Any) -> Any:
    """Without the titles that pydantic makes of names: they say nothing, and every model reads them."""
    if isinstance(schema, dict):
        return {key: _untitled(value) for key, value in schema.items() if key != "title" or not isinstance(value, str)}
    return [_untitled(value) for value in schema] if isinstance(schema, list) else schema
