"""Before a call goes out: what the policies say of its text.

Called in the program's own thread, where a model's or a tool's call begins. The program's objects are never changed: a
redacted call gets copies. What a policy means to do and cannot, for lack of time or of sense, lets the call pass,
unless the policy is to fail closed.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from skilld_monitor.monitoring import Monitoring
    from skilld_monitor.scanning import Direction

__all__ = ["FIELDS", "before_call", "before_function", "before_tool", "every_field"]

# By argument of a model's call, which way its text goes. What is in messages goes by its role and type.
FIELDS: Mapping[str, Direction] = {
    "messages": "input",
    "system": "system",
    "prompt": "input",
    "input": "input",
    "instructions": "system",
    "contents": "input",
    "tools": "system",
    "functions": "system",
    "prediction": "input",
    "suffix": "input",
    "requests": "input",
    "documents": "input",
    "extra_body": "input",
    "metadata": "input",
    "output_config": "system",
    "output_format": "system",
    "response_format": "system",
    "stop": "input",
    "stop_sequences": "input",
    "text": "system",
}
# Of a client that no adapter knows, what is no text for a model: the client's own keys would be found in it.
_NO_TEXT = ("api_key", "auth", "extra_headers", "headers")


def every_field(arguments: Mapping[str, object]) -> Mapping[str, Direction]:
    """As `FIELDS`, of a client whose arguments nobody knows: any may have text for a model."""
    return {name: FIELDS.get(name, "input") for name in arguments if name not in _NO_TEXT}


def before_call(
    on: Monitoring,
    kwargs: dict[str, object],
    fields: Mapping[str, Direction] | None = None,
    *,
    can_change: bool = True,
) -> dict[str, object]:
    """The arguments that a model's call goes out with: the same dict where nothing applies, else a redacted copy.

    Args:
        kwargs: arguments by name. Those of a call by position may be handed over under any names that `fields` has.
        fields: which arguments are looked at, and as which direction; `FIELDS` for those that are known.
        can_change: as in `before_tool`.

    Raises:
        BlockedError: if a rule forbids the call, or it cannot be judged and the policy fails closed.

    """
    if not on.policy.is_active:
        return kwargs
    from skilld_monitor.policy.judging import judge

    return judge(on, "LLM_call", kwargs, FIELDS if fields is None else fields, can_change=can_change)


def before_tool(on: Monitoring, name: str, arguments: object, *, can_change: bool = True) -> object:
    """The arguments that a tool is called with, the same object where nothing applies. Raises as `before_call`.

    Args:
        can_change: whether what is returned is what the tool gets. Where a framework does not let it, a call that
            would be redacted is one that cannot be judged.

    """
    if not on.policy.is_active:
        return arguments
    from skilld_monitor.policy.judging import judge

    return judge(on, "tool_call", {"": arguments}, {"": "tool_arguments"}, tool=name, can_change=can_change)[""]


def before_function(on: Monitoring, name: str, arguments: dict[str, object]) -> dict[str, object]:
    """As `before_tool`, of a function's arguments by name: the names are its own, and stay."""
    if not on.policy.is_active:
        return arguments
    from skilld_monitor.policy.judging import judge

    return judge(on, "tool_call", arguments, dict.fromkeys(arguments, "tool_arguments"), tool=name)
