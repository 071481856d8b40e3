"""Puts issues of GitHub on the board, each once, waits for what becomes of them, and says so on the issue.

Needs the program gh, which is logged in and knows the repository. What an issue says is handed on as material: gh is
called without a shell, and nothing of an issue becomes a word of a command. An item whose end was said on its issue
has the label `said`; what was broken off before that is made up for by the next call.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from skilld.client import Client, SkilldError

LABEL = "ready"
ENDED = ("done", "failed", "cancelled")


def gh(*words: str, text: str = "") -> str:
    """What gh prints. Raises CalledProcessError where it fails."""
    done = subprocess.run(["gh", *words], input=text, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def issues() -> list[dict[str, Any]]:
    """The open issues with the label: number, title, body."""
    found: list[dict[str, Any]] = json.loads(gh("issue", "list", "--label", LABEL, "--json", "number,title,body"))
    return found


def take(client: Client, issue: dict[str, Any]) -> bool:
    """Put an issue on the board; whether it was not there yet."""
    number = int(issue["number"])
    try:
        client.add_item(
            str(issue["title"])[:200],
            id=f"gh_{number}",
            type="triage",
            spec=str(issue["body"])[:60_000],
            labels={"issue": str(number)},
        )
    except SkilldError as error:
        if error.code != "conflict":
            raise
        return False
    return True


def ended(client: Client, number: int, until: float) -> dict[str, Any]:
    """The item of an issue, when nobody works on it any more or it is later than `until` (monotonic seconds)."""
    while (item := client.item(f"gh_{number}"))["status"] not in ENDED and time.monotonic() < until:
        time.sleep(0.2)
    return item


def tell(client: Client, item: dict[str, Any], number: int) -> str:
    """Say on the issue what became of its item, once; in a word what was done."""
    if "said" in item["labels"]:
        return "taken before"
    if item["status"] not in ENDED:
        return f"{item['status']}, ask again later"
    said = item["result"] if item["status"] == "done" else item["error"]
    gh("issue", "comment", str(number), "--body-file", "-", text=f"{item['status']}: {said or 'no reason was given'}\n")
    client.edit_item(item["id"], labels={**item["labels"], "said": "yes"})
    return str(item["status"])


def main(timeout_s: float = 600.0) -> int:
    with Client() as client:
        try:
            found = issues()
            for issue in found:
                take(client, issue)
            until = time.monotonic() + timeout_s
            for number in (int(issue["number"]) for issue in found):
                print(f"issue {number}: {tell(client, ended(client, number, until), number)}", flush=True)
        except FileNotFoundError:
            print("sync.py: there is no program gh here; https://cli.github.com has it", file=sys.stderr)
            return 1
        except SkilldError as error:
            print(f"sync.py: {error}", file=sys.stderr)
            return 1
        except subprocess.CalledProcessError as error:
            print(f"sync.py: {' '.join(error.cmd[:3])} ended with {error.returncode}: {error.stderr}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
