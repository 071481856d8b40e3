"""What an operator says of the `codex` program, and what single conversations may say. Pure but for `checked`'s paths.

A conversation gets no option that names a file, a program or a key of the program's own configuration: each of those
would let it run what it likes outside of its sandbox.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from skill_actors.backends.base import BackendUnavailable, OptionRefused
from skill_actors.models.prices import PriceTable

__all__ = ["EFFORTS", "KEY_VARIABLE", "NAME", "SANDBOXES", "CodexOptions", "SessionChoice", "checked", "chosen"]

NAME: Final = "codex_cli"
KEY_VARIABLE: Final = "SKILLD_CODEX_KEY"  # what the program finds its API key in
FULL_ACCESS: Final = "danger-full-access"
SANDBOXES: Final = ("read-only", "workspace-write", FULL_ACCESS)
ASKS: Final = "untrusted"
APPROVALS: Final = ("never", "on-request", ASKS)
EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh")
SEARCHES: Final = ("disabled", "cached", "live")

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")
_FEATURE: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_OURS: Final = frozenset({"CODEX_HOME", "HOME", "TMPDIR", KEY_VARIABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class CodexOptions:
    """How the `codex` program is run, and what conversations may choose.

    Args:
        program: its path, or a name that is looked for in `path`. Of an npm installation the native program is started
            rather than the script in front of it.
        path: PATH of the program and of the commands it runs.
        folder: where it keeps its threads; a folder of the daemon's own by default. Not of anybody else.
        api_key_file: file with the API key; read at the start of each program.
        api_key: the key itself, for whoever has it in memory; the file has precedence.
        base_url: of the Responses API that the key is for; with no key the program logs in by itself, with what
            `codex login` has put into `folder`.
        environment: added to the program's; its commands inherit it.
        model: of conversations that name none; "" for the program's own choice.
        sandbox: of conversations that choose none.
        approval: of conversations that choose none; see `SessionChoice`.
        unasked: conversations may choose to be asked less than that.
        bypass: conversations may have their commands run without any sandbox.
        network: conversations may give the network to commands in the workspace-write sandbox.
        web_search: conversations may let the model search the web, which the provider bills apart from tokens.
        features: the program's own feature flags that conversations may switch.
        warm: a busy conversation keeps its program between turns. Otherwise each turn starts one, without deltas,
            without figures of tokens before the turn's end, and without questions: `approval` has to be "never".
        max_processes: programs at once; further turns wait.
        idle_close_s: seconds after which an idle program is ended.
        memory_bytes: what one program and all its commands may have in use; 0 for no limit.
        retries: how often the program asks its model again after an error, by request and by stream.
        start_s: seconds for a program to be ready.
        prices: what models cost; put in by the program around it, not by the operator. None for the built-in table.

    """

    program: str = "codex"
    path: str = _PATH
    folder: Path | None = None
    api_key_file: Path | None = None
    api_key: str = field(default="", repr=False)
    base_url: str = "https://api.openai.com/v1"
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    model: str = ""
    sandbox: str = "workspace-write"
    approval: str = ASKS
    unasked: bool = False
    bypass: bool = False
    network: bool = False
    web_search: bool = False
    features: Sequence[str] = ()
    warm: bool = True
    max_processes: int = 8
    idle_close_s: float = 300.0
    memory_bytes: int = 0
    retries: int = 4
    start_s: float = 30.0
    prices: PriceTable | None = None

    @property
    def has_key(self) -> bool:
        """Whether we give the key; otherwise the program is logged in by itself."""
        return self.api_key_file is not None or bool(self.api_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionChoice:
    """What a conversation may choose.

    Args:
        model: by name; "" for the operator's.
        effort: how much the model thinks; "" for its default.
        sandbox: what commands may do: one of `SANDBOXES`; "" for the operator's.
        approval: when the program asks before it runs something: "untrusted" (always, but for commands that are known
            only to read; what is permitted and then stopped by the sandbox is run again without it), "on-request" (the
            model asks for what is to be run without the sandbox), "never" (nothing leaves the sandbox). "" for the
            operator's.
        network: commands in the workspace-write sandbox have the network.
        web_search: whether the model may search the web.
        features: the program's own flags, on or off.

    """

    model: str = ""
    effort: str = ""
    sandbox: str = ""
    approval: str = ""
    network: bool = False
    web_search: str = "disabled"
    features: Mapping[str, bool] = field(default_factory=dict)


def checked(options: Mapping[str, Any]) -> CodexOptions:
    """The operator's options, if they make sense.

    Raises:
        BackendUnavailable: naming the option, the value and what is allowed.

    """
    try:
        made = CodexOptions(**_typed(CodexOptions, options))
        _check(made)
    except OptionRefused as error:
        raise BackendUnavailable(str(error)) from error
    return made


def chosen(options: Mapping[str, Any], operator: CodexOptions) -> SessionChoice:
    """A conversation's options, if they make sense and the operator permits them. Raises OptionRefused."""
    made = SessionChoice(**_typed(SessionChoice, options))
    _among("sandbox", made.sandbox, ("", *SANDBOXES))
    _among("approval", made.approval, ("", *APPROVALS))
    _among("effort", made.effort, ("", *EFFORTS))
    _among("web_search", made.web_search, SEARCHES)
    if made.model and not _MODEL.fullmatch(made.model):
        raise _refused("model", made.model, "a model's name has letters, digits and ._:/@+- only")
    full = made.sandbox == FULL_ACCESS and operator.sandbox != FULL_ACCESS
    _permit("sandbox", made.sandbox, "bypass", operator.bypass or not full)
    asked = made.approval in ("", ASKS, operator.approval)
    _permit("approval", made.approval, "unasked", operator.unasked or asked)
    _permit("network", made.network, "network", operator.network or not made.network)
    _permit("web_search", made.web_search, "web_search", operator.web_search or made.web_search == "disabled")
    if not operator.warm and made.approval not in ("", "never"):
        raise _refused("approval", made.approval, f"backends.{NAME}.warm is false: single turns cannot ask")
    for name in made.features:
        if name not in operator.features:
            allowed = ", ".join(operator.features) or "nothing"
            raise _refused("features", name, f"backends.{NAME}.features permits {allowed}")
    return made


def _typed(kind: type[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The values as the dataclass has them. Raises OptionRefused for a name or a type that it has not."""
    entries = {entry.name: entry for entry in dataclasses.fields(kind)}
    made = {}
    for name, value in options.items():
        if name not in entries:
            raise _refused(name, value, f"there is none such; there are {', '.join(sorted(entries))}")
        made[name] = _CONVERT[str(entries[name].type)](name, value)
    return made


def _text(name: str, value: Any) -> str:
    if isinstance(value, str) and "\0" not in value and "\n" not in value:
        return value
    raise _refused(name, "***" if name == "api_key" else value, "it has to be a text of one line")


def _bool(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _refused(name, value, "it has to be true or false")


def _count(name: str, value: Any) -> int:
    if type(value) is int and value >= 0:
        return value
    raise _refused(name, value, "it has to be a whole number of at least 0")


def _seconds(name: str, value: Any) -> float:
    if type(value) in (int, float) and 0 < value < float("inf"):
        return float(value)
    raise _refused(name, value, "it has to be a number of seconds above 0")


def _path(name: str, value: Any) -> Path | None:
    if value is None or value == "":
        return None
    if isinstance(value, str | Path) and Path(value).is_absolute() and "\0" not in str(value):
        return Path(value)
    raise _refused(name, value, "it has to be an absolute path")


def _variables(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise _refused(name, type(value).__name__, "it has to be a table of texts")
    for key, text in value.items():
        if not isinstance(key, str) or not _VARIABLE.fullmatch(key) or key in _OURS:
            raise _refused(name, key, f"names are of letters, digits and _, and none of {', '.join(sorted(_OURS))}")
        if not isinstance(text, str) or "\0" in text:
            raise _refused(name, key, "each value has to be a text")
    return dict(value)


def _names(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, Sequence) and not isinstance(value, str) and all(_is_feature(entry) for entry in value):
        return tuple(value)
    raise _refused(name, value, "it has to be a list of names")


def _flags(name: str, value: Any) -> dict[str, bool]:
    if isinstance(value, Mapping) and all(_is_feature(key) and isinstance(on, bool) for key, on in value.items()):
        return dict(sorted(value.items()))
    raise _refused(name, value, "it has to be a table of names, each true or false")


def _prices(name: str, value: Any) -> PriceTable | None:
    if value is None or isinstance(value, PriceTable):
        return value
    raise _refused(name, value, "prices are set by the key model.price_file")


def _is_feature(value: Any) -> bool:
    return isinstance(value, str) and _FEATURE.fullmatch(value) is not None


_CONVERT: Final[Mapping[str, Any]] = {
    "str": _text,
    "bool": _bool,
    "int": _count,
    "float": _seconds,
    "Path | None": _path,
    "Mapping[str, str]": _variables,
    "Sequence[str]": _names,
    "Mapping[str, bool]": _flags,
    "PriceTable | None": _prices,
}


def _check(options: CodexOptions) -> None:
    if not options.program:
        raise _refused("program", options.program, "it has to name a program")
    address = urlsplit(options.base_url)
    if address.scheme not in ("http", "https") or not address.hostname or address.username or address.password:
        raise _refused("base_url", options.base_url, "it has to be an http or https address, without a user")
    _among("approval", options.approval, APPROVALS)
    if not options.warm and options.approval != "never":
        raise _refused("warm", False, 'single turns cannot ask, so that approval has to be "never" as well')
    _among("sandbox", options.sandbox, SANDBOXES)
    if options.max_processes < 1:
        raise _refused("max_processes", options.max_processes, "it has to be at least 1")
    if options.model and not _MODEL.fullmatch(options.model):
        raise _refused("model", options.model, "a model's name has letters, digits and ._:/@+- only")


def _among(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise _refused(name, value, f"it has to be one of {', '.join(word for word in allowed if word)}")


def _permit(name: str, value: object, key: str, permitted: bool) -> None:
    if not permitted:
        raise _refused(name, value, f"the operator has not set backends.{NAME}.{key}")


def _refused(option: str, value: object, allowed: str) -> OptionRefused:
    return OptionRefused(NAME, option, value, allowed)
