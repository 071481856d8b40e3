"""Requests and answers of the fake API's endpoints beside Messages: JSON pages, errors, forms with files. Pure."""

from __future__ import annotations

import email.parser
import email.policy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

__all__ = ["Call", "Form", "Part", "Refusal", "Sent", "page_of", "parse_form"]

_PAGE: Final = "page_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, taken apart. `path` has no query, and its segments are decoded."""

    method: str
    path: Sequence[str]
    query: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]
    content: bytes = field(repr=False)

    @classmethod
    def of(cls, method: str, target: str, headers: Mapping[str, str], content: bytes) -> Call:
        path, _, query = target.partition("?")
        values: dict[str, list[str]] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            values.setdefault(name.removesuffix("[]"), []).append(value)
        segments = [unquote(segment) for segment in path.strip("/").split("/")]
        return cls(method=method, path=segments, query=values, headers=headers, content=content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """An answer: JSON, or bytes of `content_type`."""

    body: Any = None
    content: bytes | None = None
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def bytes(self) -> bytes:
        return self.content if self.content is not None else json.dumps(self.body).encode()


class Refusal(Exception):
    """The endpoint refuses; `error_code` is the detail that some errors of the API carry."""

    def __init__(self, status: int, message: str, *, type: str | None = None, error_code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.error_code = error_code


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a form."""

    name: str
    filename: str
    content_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart form: its fields, and its files in order."""

    fields: Mapping[str, str]
    files: Sequence[Part]

    def summary(self) -> dict[str, Any]:
        """What a record of the request keeps."""
        return {"fields": dict(self.fields), "files": [[part.name, part.filename] for part in self.files]}


def parse_form(headers: Mapping[str, str], content: bytes) -> Form:
    """The multipart form in a request. Raises Refusal if it holds none."""
    kind = headers.get("content-type", "")
    if not kind.startswith("multipart/form-data"):
        raise Refusal(400, "Content-Type must be multipart/form-data")
    head = f"content-type: {kind}\r\n\r\n".encode("latin-1")
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + content)
    if not message.is_multipart():
        raise Refusal(400, "The multipart body is malformed")
    fields: dict[str, str] = {}
    files: list[Part] = []
    for part in message.iter_parts():
        name = str(part.get_param("name", "", header="content-disposition"))
        payload = part.get_payload(decode=True)
        content = payload if isinstance(payload, bytes) else b""
        filename = part.get_filename()
        if filename is None:
            fields[name] = content.decode("utf-8", "replace")
        else:
            files.append(Part(name, filename, part.get_content_type(), content))
    return Form(fields, files)


def page_of(call: Call, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The part of a list that `limit` and `page` ask for. Raises Refusal for what the API does not take."""
    limit = _limit(call)
    token = next(iter(call.query.get("page", ())), "")
    start = _start(token) if token else 0
    shown = list(items[start : start + limit])
    more = start + limit < len(items)
    return {"data": shown, "next_page": f"{_PAGE}{start + limit}" if more else None}


def _limit(call: Call) -> int:
    text = next(iter(call.query.get("limit", ())), "20")
    limit = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= limit <= 1000:
        raise Refusal(400, "limit: Input should be between 1 and 1000")
    return limit


def _start(token: str) -> int:
    number = token.removeprefix(_PAGE)
    if not token.startswith(_PAGE) or not (number.isascii() and number.isdigit()):
        raise Refusal(400, "page: Invalid page token")
    return int(number)
