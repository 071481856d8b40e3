"""Becomes another program, confined: run as `python3 -I -S -E confined_exec.py JSON PROGRAM ARGUMENT...`.

JSON is {"confine": what `confinement.confine` takes, or null, "scoped": whether `confinement.scope_sockets` is called}.
What cannot be done is said on stderr, and nothing is started then.
"""

from __future__ import annotations

import json
import os
import sys

__all__ = ["main"]


def main(wanted: str, argv: list[str]) -> int:
    """Does not return if it can be done; else the status to exit with."""
    import importlib

    package = sys.modules["skilld_box"] = type(sys)("skilld_box")
    package.__path__ = [os.path.dirname(os.path.abspath(__file__))]
    confinement = importlib.import_module("skilld_box.confinement")
    given = json.loads(wanted)
    try:
        if given["confine"] is not None:
            confinement.confine(**given["confine"])
        if given["scoped"]:
            confinement.scope_sockets()
        os.execvpe(argv[0], argv, dict(os.environ))
    except OSError as error:
        print(f"{argv[0]} cannot be started: {error.strerror}", file=sys.stderr)
    return 127


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2:]))
