"""How the runner comes into a container: its sources are the first thing that is written to its stdin.

So any image with python3 will do, and what runs is always what belongs to this version of the daemon.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Final

__all__ = ["COMMAND", "sources"]

_MODULES: Final = (
    "base",
    "tools",
    "paths",
    "bundles",
    "files",
    "images",
    "frames",
    "processes",
    "keeper",
    "call_output",
    "runner",
    "container_forward",
    "container_runner",
)  # in order of need

_PROGRAM: Final = """
import json, os, sys, types
def read(count):
    data = b""
    while len(data) < count:
        more = os.read(0, count - len(data))
        if not more:
            os._exit(0)
        data += more
    return data
if sys.version_info < (3, 11):
    sys.exit("python3 of the image is %d.%d; 3.11 is needed" % sys.version_info[:2])
package = sys.modules["skilld_box"] = types.ModuleType("skilld_box")
package.__path__ = []
for name, text in json.loads(read(int.from_bytes(read(4), "big"))):
    module = sys.modules["skilld_box." + name] = types.ModuleType("skilld_box." + name)
    module.__package__ = "skilld_box"
    setattr(package, name, module)
    exec(compile(text, name + ".py", "exec"), module.__dict__)
package.container_runner.main()
"""

COMMAND: Final = ("python3", "-I", "-S", "-E", "-B", "-c", _PROGRAM)


@functools.cache
def sources() -> bytes:
    """What COMMAND reads before it speaks the runner's protocol. Blocks."""
    folder = Path(__file__).parent
    modules = [[name, (folder / f"{name}.py").read_text(encoding="utf-8")] for name in _MODULES]
    data = json.dumps(modules).encode()
    return len(data).to_bytes(4, "big") + data
