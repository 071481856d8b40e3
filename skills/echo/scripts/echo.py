#!/usr/bin/env python3
"""Print the arguments, joined by single spaces."""

from __future__ import annotations

import argparse
import sys

PREFIX = "echo: "


def main() -> int:
    """Print the words given on the command line; 0, or 2 for a usage error."""
    parser = argparse.ArgumentParser(description="Print the given words, joined by single spaces.")
    parser.add_argument("words", nargs="+", metavar="WORD", help="what to print; put -- before words that begin with -")
    words = parser.parse_args().words
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    print(PREFIX + " ".join(words))
    return 0


if __name__ == "__main__":
    sys.exit(main())
