"""The table of routes as an OpenAPI 3.1 document."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from skill_actors.errors import ERROR_CODES
from skilld.http.route import Route

__all__ = ["openapi", "plain_path"]

_PLAIN: Final = re.compile(r"{(\w+):\w+}")  # the kind of a parameter is between us and the router
_REF: Final = "#/components/schemas/{model}"


def plain_path(path: str) -> str:
    """A route's path as it is shown, without the kinds of its parameters."""
    return _PLAIN.sub(r"{\1}", path)


def openapi(routes: Sequence[Route], version: str) -> bytes:
    """The document as JSON."""
    models = sorted({route.body for route in routes if route.body is not None}, key=lambda model: model.__name__)
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(plain_path(route.path), {})[route.method.lower()] = _operation(route)
    document = {
        "openapi": "3.1.0",
        "info": {"title": "skilld", "version": version},
        "paths": paths,
        "components": {"schemas": {**schemas.get("$defs", {}), "Error": _error_schema()}},
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _operation_id(route),
        "x-permission": route.permission,
        "responses": {
            str(route.status): {"description": "Done", "content": {media: {} for media in route.media}},
            "default": {
                "description": "Refused",
                "content": {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}},
            },
        },
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)[:}]", route.path)
    ]
    parameters += [
        {"name": item.name, "in": item.where, "description": item.summary, "schema": {"type": "string"}}
        for item in route.parameters
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        schema = {"$ref": _REF.format(model=route.body.__name__)}
        operation["requestBody"] = {
            "required": not route.optional_body,
            "content": {"application/json": {"schema": schema}},
        }
    if (media := route.raw_body or route.streamed_body) is not None:
        operation["requestBody"] = {"required": True, "content": {media: {}}}
    return operation


def _operation_id(route: Route) -> str:
    path = plain_path(route.path).lower().removeprefix("/v1/").replace("{id}", "one")
    words = re.sub(r"[^a-z0-9]+", "_", path).strip("_")
    return f"{route.method.lower()}_{words}"


def _error_schema() -> dict[str, Any]:
    properties = {
        "code": {"type": "string", "enum": sorted(ERROR_CODES)},
        "message": {"type": "string"},
        "retryable": {"type": "boolean"},
        "details": {"type": "object"},
    }
    error = {"type": "object", "required": sorted(properties), "properties": properties}
    return {"type": "object", "required": ["error"], "properties": {"error": error}}
