"""How an operator describes a program that is to be an agent. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from skill_actors.backends.agents.command.answer import OUTPUTS, is_pointer
from skill_actors.backends.base import BackendUnavailable, OptionRefused

__all__ = ["CommandOptions", "argv_of", "command_options", "takes"]

PLACEHOLDERS: Final = ("folder", "model", "prompt_file", "session", "system_file")

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PLACEHOLDER: Final = re.compile(r"\{([a-z_]*)\}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LEAST: Final[Mapping[str, float]] = {"timeout_s": 0, "max_processes": 1, "memory_bytes": 0, "output_bytes": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandOptions:
    """A program that performs a turn and ends.

    Args:
        argv: the program and its arguments, without a shell. `{prompt_file}` becomes the path of a file with the
            prompt; where it is not there the prompt is on stdin. `{system_file}`: of one with the system prompt, which
            stands before the prompt otherwise. `{model}`: the model's name. `{folder}`: where the agent works, which is
            the current folder as well.
        resume: the same for a session that goes on, with `{session}` for its id. Empty: the program remembers nothing,
            and is told with each message what was said before.
        output: "text": all that it prints is the answer, and is shown as it comes. "json": one JSON value. "lines": the
            last line is one.
        result: where in the JSON value the answer is, as a JSON pointer such as "/result".
        session: where the id of the session is, which `resume` needs; "" for nowhere.
        cost: where the turn's cost in US dollars is; "" for nowhere: then it is unknown.
        failed: where something is that is true if the turn failed; "" for nowhere.
        model: where a session names none.
        environment: added to the clean environment of the program.
        path: PATH of the program.
        timeout_s: of one turn, besides the turn's own; 0 for none.
        max_processes: that run at the same time; further turns wait in order.
        memory_bytes: of the program with all that it has started; 0 for no limit.
        output_bytes: of what it prints; a program that prints more is ended.

    """

    argv: Sequence[str] = ()
    resume: Sequence[str] = ()
    output: str = "text"
    result: str = "/result"
    session: str = ""
    cost: str = ""
    failed: str = ""
    model: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    path: str = _PATH
    timeout_s: float = 0.0
    max_processes: int = 8
    memory_bytes: int = 0
    output_bytes: int = 4 << 20


def command_options(name: str, options: Mapping[str, Any]) -> CommandOptions:
    """The options as a configuration file has them. Raises BackendUnavailable, from OptionRefused.

    Args:
        name: of the backend, for messages.

    """
    try:
        return _checked(name, options)
    except OptionRefused as refused:
        raise BackendUnavailable(str(refused)) from refused


def takes(options: CommandOptions, placeholder: str) -> bool:
    """Whether the program is given this by its arguments."""
    return any(f"{{{placeholder}}}" in word for word in options.argv)


def argv_of(words: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """The words with what stands for their placeholders. What is put in is no placeholder again."""
    return [_PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), word) for word in words]


def _checked(name: str, options: Mapping[str, Any]) -> CommandOptions:
    kinds = {entry.name: getattr(CommandOptions(), entry.name) for entry in dataclasses.fields(CommandOptions)}
    for option, value in options.items():
        if option not in kinds:
            raise OptionRefused(name, option, value, f"there is none such; there are {', '.join(sorted(kinds))}")
        if problem := _problem(option, value, kinds[option]):
            raise OptionRefused(name, option, value, problem)
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    made = CommandOptions(**values)
    if not made.argv:
        raise OptionRefused(name, "argv", list(made.argv), "it must be the program and its arguments")
    if bool(made.resume) != bool(made.session):
        raise OptionRefused(name, "resume", list(made.resume), "it goes with session, which says where the id is")
    if made.session and made.output == "text":
        raise OptionRefused(name, "session", made.session, 'it needs output = "json" or "lines"')
    return made


def _problem(option: str, value: Any, like: Any) -> str | None:
    """What is wrong with a value that should be like the default, in words; None if nothing."""
    match like:
        case int() | float():
            kind = int if isinstance(like, int) else int | float
            fits = isinstance(value, kind) and not isinstance(value, bool) and value >= _LEAST[option]
            return None if fits else f"it must be a number of at least {_LEAST[option]:g}"
        case str():
            return _text_problem(option, value)
        case Mapping():
            return None if isinstance(value, Mapping) and _are_variables(value) else "it must have variables by name"
        case _:
            return _words_problem(option, value)


def _text_problem(option: str, value: Any) -> str | None:
    if not isinstance(value, str) or "\0" in value:
        return "it must be text"
    if option == "output" and value not in OUTPUTS:
        return f"it must be one of {', '.join(OUTPUTS)}"
    if option in ("result", "session", "cost", "failed") and value and not is_pointer(value):
        return 'it must be a JSON pointer, such as "/result"'
    return None


def _words_problem(option: str, value: Any) -> str | None:
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) and "\0" not in word for word in value):
        return "it must be a list of texts"
    for word in value:
        for found in _PLACEHOLDER.findall(word):
            if found not in PLACEHOLDERS or (found == "session" and option != "resume"):
                return f"{{{found}}} is no placeholder there; there are {', '.join(PLACEHOLDERS)}"
    if value and "{" in value[0]:
        return "the program itself must not be a placeholder"
    return None


def _are_variables(value: Mapping[Any, Any]) -> bool:
    return all(
        isinstance(name, str) and _VARIABLE.fullmatch(name) and isinstance(text, str) and "\0" not in text
        for name, text in value.items()
    )
