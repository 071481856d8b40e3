"""A server of tools on its standard streams, for tests: its one tool says what TOKEN in its environment is."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

TOOL = {"name": "reveal", "description": "Says what it was given.", "inputSchema": {"type": "object"}}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    match method:
        case "initialize":
            about = {"protocolVersion": params["protocolVersion"], "serverInfo": {"name": "test", "version": "1"}}
            return {**about, "capabilities": {"tools": {}}}
        case "tools/list":
            return {"tools": [TOOL]}
        case "tools/call":
            return {"content": [{"type": "text", "text": f"the token is {os.environ.get('TOKEN')}"}]}
        case _:
            return {}


if __name__ == "__main__":
    for line in sys.stdin:
        heard = json.loads(line)
        if "id" in heard:
            result = answer(heard.get("method", ""), heard.get("params") or {})
            print(json.dumps({"jsonrpc": "2.0", "id": heard["id"], "result": result}), flush=True)
