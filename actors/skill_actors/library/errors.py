"""What goes wrong in a program's own conversations: one class, by stable code.

    SkillError          code, message, details, retryable, session, and the cause as `__cause__`

Callers decide by `code`; `KINDS` is the whole list, with what `details` holds and whether the same may succeed later.
`wrap` makes one of whatever the parts below raised. What is not known has the code `unknown`, and says no more than the
kind of exception: its text may be about this program's insides, and the cause has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from skill_actors.backends import BackendUnavailable
from skill_actors.backends.anthropic import HostedError
from skill_actors.backends.base import OptionRefused
from skill_actors.errors import ERROR_CODES, Refused
from skill_actors.files.storage import StorageError
from skill_actors.loop import ResponseError, TurnFailed
from skill_actors.models.base import ModelError
from skill_actors.native import BadSkill
from skill_actors.skills import SkillFailure, UnknownSkill

__all__ = ["KINDS", "Kind", "SkillError", "load_error", "wrap"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of error: what its details hold at least, and whether the same may succeed later by itself."""

    details: tuple[str, ...] = ()
    retryable: bool = False


KINDS: Final[Mapping[str, Kind]] = {
    # skills
    "skill_not_found": Kind(("name",)),
    "invalid_frontmatter": Kind(("path", "reason")),
    "invalid_skill_structure": Kind(("path", "reason")),
    "zip_error": Kind(("path", "reason")),
    # files
    "file_not_found": Kind(("path",)),
    "permission_denied": Kind(("path",)),
    "path_not_allowed": Kind(("path", "allowed_paths")),
    "too_large": Kind(("path", "size", "max")),
    # running
    "execution_failed": Kind(("command", "exit_code", "output")),
    "execution_timeout": Kind(("command", "timeout_ms")),
    "backend_unavailable": Kind(("backend", "reason"), retryable=True),
    "docker_unavailable": Kind(("reason",), retryable=True),
    "container_error": Kind(("operation", "reason"), retryable=True),
    "invalid_option": Kind(("reason",)),
    # a turn
    "missing_api_callback": Kind(),
    "anthropic_api_error": Kind(("status", "api_message")),
    "model_call_failed": Kind(("reason",)),
    "invalid_response": Kind(("reason",)),
    "schema_mismatch": Kind(("reason", "text")),
    "max_iterations_reached": Kind(("max_iterations",)),
    "pause_turn_max_exceeded": Kind(("iterations", "max")),
    "turn_timeout": Kind(("timeout_ms",), retryable=True),
    "session_busy": Kind(retryable=True),
    "session_closed": Kind(),
    # hosted
    "invalid_skill_spec": Kind(("spec",)),
    "skills_limit_exceeded": Kind(("count", "max")),
    "skill_upload_failed": Kind(("path", "reason")),
    "file_upload_failed": Kind(("path", "reason")),
    "file_download_failed": Kind(("file_id", "reason")),
    "container_not_found": Kind(("container_id",)),
    # native
    "not_a_native_skill": Kind(("module",)),
    "native_callback_missing": Kind(("module", "callback")),
    "native_execution_failed": Kind(("module", "callback", "reason")),
    # storage
    "storage_init_failed": Kind(("reason",)),
    "storage_cleanup_failed": Kind(("reason",)),
    "storage_write_failed": Kind(("path", "reason")),
    "storage_read_failed": Kind(("path", "reason")),
    "unknown": Kind(("reason",)),
}

# How the codes of the loader's findings begin, where they are about the front matter or a package.
_OF_FRONT_MATTER: Final = ("front_matter", "no_front_matter", "description", "name_", "yaml")
_OF_PACKAGE: Final = "package_"


class SkillError(Exception):
    """Something of a conversation failed or was refused. The exception below it is its `__cause__`.

    Args:
        code: a key of KINDS, or one of `skill_actors.errors.ERROR_CODES`.
        message: names the thing, the value and the way out.
        details: JSON-ready facts for programs; what its row names is always there, None where it is not known.
        retryable: whether the same may succeed later; None for what the table says.
        session: the conversation, which can go on; None if there is none.

    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        retryable: bool | None = None,
        session: Any = None,
    ) -> None:
        if code not in KINDS and code not in ERROR_CODES:
            raise ValueError(f"unknown error code {code!r}")
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        kind = KINDS.get(code) or Kind(retryable=ERROR_CODES[code][1])
        self.details: dict[str, Any] = {**dict.fromkeys(kind.details), **(details or {})}
        self.retryable = kind.retryable if retryable is None else retryable
        self.session = session

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies, and for other processes, where there is no session."""
        return _again, (self.code, self.message, self.details, self.retryable)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without session and cause."""
        return {"code": self.code, "message": self.message, "retryable": self.retryable, "details": self.details}


def _again(code: str, message: str, details: Mapping[str, Any], retryable: bool) -> SkillError:
    return SkillError(code, message, details=details, retryable=retryable)


def wrap(error: BaseException, *, backend: str = "", session: Any = None) -> SkillError:
    """This error as a SkillError, its cause set. One that is a SkillError already is given back, with the session.

    Args:
        error: what was raised.
        backend: whose it is, where that is known.
        session: the conversation it happened in.

    """
    if isinstance(error, SkillError):
        error.session = error.session if error.session is not None else session
        return error
    code, message, details, retryable = _described(error, backend)
    wrapped = SkillError(code, message, details=details, retryable=retryable, session=session)
    wrapped.__cause__ = error
    return wrapped


def load_error(failure: SkillFailure) -> SkillError:
    """Why a skill could not be loaded."""
    found = next((each for each in failure.diagnostics if each.severity == "error"), failure.diagnostics[0])
    path = str(failure.path)
    if found.code == "source_missing":
        return SkillError("file_not_found", found.message, details={"path": path})
    if found.code.startswith(_OF_PACKAGE):
        code = "zip_error"
    else:
        code = "invalid_frontmatter" if found.code.startswith(_OF_FRONT_MATTER) else "invalid_skill_structure"
    details = {"path": path, "reason": found.message, "finding": found.code, "line": found.line}
    return SkillError(code, f"{path}: {found.message}", details=details)


_Told = tuple[str, str, dict[str, Any], bool | None]


def _described(error: BaseException, backend: str) -> _Told:
    text = str(error)
    match error:
        case HostedError():
            return error.code, error.message, dict(error.details), error.retryable
        case StorageError():
            reason = {"reason": error.message, "path": "", **error.details}
            return error.code, error.message, reason, error.retryable
        case Refused():
            return error.code, error.message, dict(error.details), error.retryable
        case OptionRefused():
            return "invalid_option", text, {"reason": text, "option": error.option}, None
        case BackendUnavailable(__cause__=OptionRefused() as refused):
            return "invalid_option", text, {"reason": text, "option": refused.option}, None
        case BackendUnavailable() if backend == "docker":
            return "docker_unavailable", text, {"reason": text}, None
        case BackendUnavailable():
            return "backend_unavailable", text, {"backend": backend, "reason": text}, None
        case UnknownSkill():
            return "skill_not_found", text, {"name": ""}, None
        case BadSkill():
            return _bad_skill(error)
        case ModelError():
            details = {"status": error.status, "api_message": text, "kind": error.code}
            return "anthropic_api_error", text, details, error.retryable
        case ResponseError(code="api_error"):
            return "anthropic_api_error", text, {"status": None, "api_message": error.message}, None
        case ResponseError():
            return "invalid_response", text, {"reason": error.message}, None
        case TurnFailed():
            return _of_a_backend(error)
        case FileNotFoundError():
            return "file_not_found", text, {"path": str(error.filename or "")}, None
        case PermissionError():
            return "permission_denied", text, {"path": str(error.filename or "")}, None
        case _:
            return _foreign(error)


def _bad_skill(error: BadSkill) -> _Told:
    named, _, rest = error.message.partition("class ")
    module = rest.partition(" ")[0] if not named else None  # two classes together are none
    if error.code == "native_missing_callback":
        callback = error.message.partition(" declares ")[2].partition(" in ")[0]
        return "native_callback_missing", str(error), {"module": module, "callback": callback}, None
    return "not_a_native_skill", str(error), {"module": module, "reason": error.code}, None


def _of_a_backend(error: TurnFailed) -> _Told:
    if error.code in KINDS:
        return error.code, str(error), {"reason": error.code, **error.details}, error.retryable
    if isinstance(error.__cause__, Exception):
        return _described(error.__cause__, error.session.backend)
    return "unknown", str(error), {"reason": error.code, **error.details}, error.retryable


def _foreign(error: BaseException) -> _Told:
    """An exception of nobody here: of an SDK, if it has a status, else the program's own."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        body = getattr(error, "body", None)
        details = {**(body if isinstance(body, Mapping) else {}), "status": status, "api_message": str(error)}
        return "anthropic_api_error", str(error), details, status in (408, 409, 429) or status >= 500
    kind = type(error).__name__
    return "unknown", f"{kind} was raised; its text is in the cause", {"reason": kind}, None
