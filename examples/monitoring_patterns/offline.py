"""What the examples of this folder run with: a client that needs no model, and a look at what was reported."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from skilld_monitor import disable_monitoring

__all__ = ["Answer", "Client", "shown"]

SHOWN = ("method", "path", "route", "status_code", "error", "success", "orders", "order_id")


@dataclass(frozen=True)
class Answer:
    text: str


class Messages:
    """As those of a model's client: `client.messages.create(...)`."""

    def create(self, *, model: str, messages: list[dict[str, str]]) -> Answer:
        question = messages[-1]["content"]
        if not question:
            raise ValueError("content must not be empty")
        return Answer(f"{model} says: {question.upper()}")


class Client:
    def __init__(self) -> None:
        self.messages = Messages()


@contextmanager
def shown() -> Iterator[None]:
    """Print what is reported in this block. Nothing stays on the disk."""
    with TemporaryDirectory() as folder:
        os.environ["MONITORING_LOG_FILE"] = f"{folder}/events.json"
        os.environ["SKILLD_MONITOR_SPOOL"] = f"{folder}/spool"
        yield
        disable_monitoring(timeout_s=60)
        for line in Path(folder, "events.json").read_text().splitlines():
            print(as_line(json.loads(line)))


def as_line(event: dict[str, Any]) -> str:
    """An event without what differs from run to run."""
    data = event["data"]
    name = data.get("function", event["event"]) if event["event"].startswith("call_") else event["event"]
    facts = {key: data[key] for key in SHOWN if key in data}
    return " ".join([event["channel"], name, *([json.dumps(facts)] if facts else [])])
