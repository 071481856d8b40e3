"""Which tools are listed and may be called. What is not allowed by name, or reads, is as if there were no such tool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from skilld.mcp.tool import Tool

__all__ = ["Scope"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The tools of a bridge, by name.

    Args:
        agent: the agent that is served, if any: it makes claims under its name, and waits for nobody but others.

    """

    tools: Mapping[str, Tool]
    agent: str | None = None

    @classmethod
    def of(
        cls, tools: Sequence[Tool], *, allow: Sequence[str] = (), read_only: bool = False, agent: str | None = None
    ) -> Scope:
        """Narrow the tools.

        Args:
            allow: only these; all if empty.
            read_only: of those, only the ones that change nothing.

        Raises:
            ValueError: for a name that no tool has, or where no tool is left.

        """
        known = {each.name: each for each in tools}
        for name in allow:
            if name not in known:
                raise ValueError(f"there is no tool {name!r}{_near(name, known)}")
        left = {
            name: each for name, each in known.items() if (not allow or name in allow) and (each.reads or not read_only)
        }
        if not left:
            raise ValueError(f"no tool is left: {', '.join(allow)} change something, and only reading is allowed")
        return cls(tools=left, agent=agent)

    def find(self, name: str) -> Tool | None:
        """The tool of this name, where it may be called."""
        return self.tools.get(name)

    def unknown(self, name: str) -> str:
        """What to say of a tool that there is not."""
        return f"there is no tool {name[:60]!r} here{_near(name, self.tools)}"


def _near(name: str, known: Mapping[str, Tool]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(sorted(known))}"
