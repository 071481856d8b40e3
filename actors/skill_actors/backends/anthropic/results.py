"""What hosted tools left behind, in the blocks of an answer: files, errors, calls that have no result yet. Pure.

Only result blocks of the API's own tools are looked into. An id that a text or the output of a command names is not a
file: whoever writes the input of a model could put it there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = [
    "CreatedFile",
    "ToolFailure",
    "blocks_of",
    "created_files",
    "extract_file_ids",
    "extract_text",
    "pending_calls",
    "tool_failures",
    "without_pending",
]

# The block of a result -> kinds of its content that can hold files, and the kinds of what they hold.
_RESULTS: Final[Mapping[str, frozenset[str]]] = {
    "bash_code_execution_tool_result": frozenset({"bash_code_execution_result"}),
    "code_execution_tool_result": frozenset({"code_execution_result", "encrypted_code_execution_result"}),
}
_OUTPUTS: Final = frozenset({"bash_code_execution_output", "code_execution_output"})
_ERROR: Final = "_tool_result_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedFile:
    """A file that a call made. Its name, size and kind are the Files API's to tell."""

    file_id: str
    tool_use_id: str = ""
    source: str = "anthropic"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFailure:
    """A call that the API's tool could not make, with the API's code, such as "execution_time_exceeded"."""

    error_code: str
    tool_use_id: str = ""


def blocks_of(content: object) -> list[Mapping[str, Any]]:
    """The blocks of an answer, of its content, or of the SDK's objects for either; nothing else is in the list."""
    value = _plain(content)
    if isinstance(value, Mapping):
        value = _plain(value.get("content"))
    if isinstance(value, str) or not isinstance(value, Sequence):
        return []
    return [block for block in map(_plain, value) if isinstance(block, Mapping)]


def created_files(content: object) -> tuple[CreatedFile, ...]:
    """The files that the calls in this answer made, each once, in their order."""
    found: dict[str, CreatedFile] = {}
    for block in blocks_of(content):
        for file in _files(block):
            found.setdefault(file.file_id, file)
    return tuple(found.values())


def extract_file_ids(content: object) -> list[str]:
    """The ids of `created_files`."""
    return [file.file_id for file in created_files(content)]


def tool_failures(content: object) -> tuple[ToolFailure, ...]:
    """The calls in this answer that the API's tools could not make. A command that ended badly is none of them."""
    return tuple(
        ToolFailure(error_code=str(inner.get("error_code") or "unavailable"), tool_use_id=str(block.get("tool_use_id")))
        for block in blocks_of(content)
        if isinstance(inner := block.get("content"), Mapping) and str(inner.get("type")).endswith(_ERROR)
    )


def extract_text(content: object, *, separator: str = "") -> str:
    """What the answer says, its text blocks joined as they came."""
    return separator.join(str(block.get("text") or "") for block in blocks_of(content) if block.get("type") == "text")


def pending_calls(content: object) -> tuple[str, ...]:
    """Ids of calls of the API's own tools without a result in this answer: after a pause the API goes on with them."""
    blocks = blocks_of(content)
    done = {str(block.get("tool_use_id")) for block in blocks if str(block.get("type")).endswith("_tool_result")}
    calls = [str(block.get("id")) for block in blocks if block.get("type") == "server_tool_use"]
    return tuple(id for id in calls if id not in done)


def without_pending(content: object) -> list[dict[str, Any]]:
    """The blocks of an answer without calls that will have no result any more: their container is gone."""
    gone = set(pending_calls(content))
    return [
        dict(block)
        for block in blocks_of(content)
        if not (block.get("type") == "server_tool_use" and str(block.get("id")) in gone)
    ]


def _files(block: Mapping[str, Any]) -> Iterator[CreatedFile]:
    kinds = _RESULTS.get(str(block.get("type")))
    result = _plain(block.get("content"))
    if kinds is None or not isinstance(result, Mapping) or result.get("type") not in kinds:
        return
    outputs = result.get("content")
    for each in outputs if isinstance(outputs, list | tuple) else ():
        output = _plain(each)
        file_id = output.get("file_id") if isinstance(output, Mapping) else None
        if isinstance(file_id, str) and file_id and output.get("type") in _OUTPUTS:
            yield CreatedFile(file_id=file_id, tool_use_id=str(block.get("tool_use_id") or ""))


def _plain(value: object) -> Any:
    """JSON-ready, of an object of the SDK."""
    dump = getattr(value, "model_dump", None)
    return dump(mode="json", exclude_none=True, warnings=False) if callable(dump) else value
