"""A server in each of the sandboxes that commands have: it works, in its folder, and sees nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mcp_kit import SERVER, in_trio, mcp_kit, script
from sandbox_kit import require_sandbox
from skill_actors.backends.base import ToolContext
from skill_actors.backends.sandbox import SandboxKind, make_fence

PROGRAM = """
def answer(id, result):
    print(json.dumps({"jsonrpc": "2.0", "id": id, "result": result}), flush=True)
def tried(path, mode):
    try:
        open(path, mode).close()
        return "yes"
    except OSError as error:
        return error.strerror
for line in sys.stdin:
    heard = json.loads(line)
    if heard.get("method") == "initialize":
        answer(heard["id"], {"protocolVersion": heard["params"]["protocolVersion"], "capabilities": {"tools": {}},
            "serverInfo": {"name": "x", "version": "1"}})
    elif heard.get("method") == "tools/call":
        given = heard["params"]["arguments"]
        answer(heard["id"], {"content": [{"type": "text", "text": tried(given["path"], given["mode"])}]})
"""


@pytest.mark.parametrize("kind", ["landlock", "bwrap"])
def test_it_writes_in_its_folder_and_reads_nothing_of_others(tmp_path: Path, kind: SandboxKind) -> None:
    require_sandbox(kind)
    (tmp_path / "secret").write_text("of others")
    readable = [sys.prefix, sys.base_prefix]

    @in_trio
    async def main() -> None:
        async with mcp_kit(tmp_path) as kit:
            fence = make_fence(kind, "none", readable, [tmp_path])
            options = kit.options(command=script(PROGRAM), sandbox=kind)
            source = kit.source(options, fence=fence)

            async def tried(path: Path, mode: str) -> str:
                given = {"path": str(path), "mode": mode}
                return (await source.call("try", given, ToolContext(timeout_s=20.0))).content

            assert await tried(tmp_path / "ses_a" / "own", "w") == "yes"
            assert await tried(tmp_path / "secret", "r") != "yes"
            assert await tried(SERVER, "r") != "yes"

    main()
