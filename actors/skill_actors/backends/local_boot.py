"""Starts `local_runner` in a process of its own: run as `python3 -I -S -E local_boot.py`.

The modules of the runner import each other as parts of a package, and the one they lie in would load all of the
daemon's; so here they are parts of one that is nothing but this folder.
"""

from __future__ import annotations

import importlib
import os
import sys

__all__ = ["main"]

_PACKAGE = "skilld_box"


def main() -> None:
    """Serve until stdin ends."""
    package = sys.modules[_PACKAGE] = type(sys)(_PACKAGE)
    package.__path__ = [os.path.dirname(os.path.abspath(__file__))]
    importlib.import_module(f"{_PACKAGE}.local_runner").main()


if __name__ == "__main__":
    main()
