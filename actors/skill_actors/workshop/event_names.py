"""What happens in the workshop, by topic: the one list of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["ALL_TOPICS", "CUSTOM", "EVENT_NAMES", "is_custom", "is_known"]

ALL_TOPICS: Final = "all"  # in a choice of topics: every one
CUSTOM: Final = "custom"  # what users publish is under `custom.ANYTHING`

EVENT_NAMES: Final[Mapping[str, Mapping[str, str]]] = {
    "agent": {
        "configured": "What holds for all agents that are defined from now on was changed.",
        "budget_reset": "What is shown as spent by agents begins anew.",
        "created": "An agent was defined.",
        "changed": "An agent was defined anew.",
        "dismissed": "An agent was dismissed.",
        "reset": "An agent begins anew, with the options it has.",
        "revived": "An agent that was given up works again.",
        "ask_complete": "Somebody waited for an answer, and it is there.",
        "cast_complete": "A turn that nobody waited for has ended well.",
        "error": "A turn of an agent has failed.",
        "crashed": "An agent failed too often and is given up.",
    },
    "profile": {
        "defined": "A profile was defined, or defined anew.",
        "removed": "A profile was removed.",
    },
    "work": {
        "added": "An item was put on the board.",
        "edited": "An item was changed.",
        "waiting": "An item waits for others.",
        "ready": "An item waits for nothing any more.",
        "claimed": "Somebody took an item.",
        "started": "Work on an item began.",
        "completed": "An item is done.",
        "failed": "An item has failed.",
        "cancelled": "An item was cancelled.",
        "blocked": "An item waits for one that failed or was cancelled.",
        "requeued": "An item is there to be taken again.",
        "removed": "An item was removed.",
    },
    "board_worker": {
        "started": "A worker began with an item.",
        "completed": "A worker has ended an item.",
        "added": "A worker looks for items.",
        "removed": "A worker looks for items no more.",
    },
    "workflow": {
        "defined": "A workflow was defined.",
        "removed": "A workflow was removed.",
        "started": "A run of a workflow began.",
        "stage": "A stage of a run began, goes on in another attempt or round, or has ended.",
        "completed": "All stages of a run are done.",
        "failed": "A stage of a run failed for good.",
        "cancelled": "A run was cancelled.",
    },
    "schedule": {
        "defined": "A schedule was defined.",
        "enabled": "A schedule is in force again.",
        "disabled": "A schedule is out of force.",
        "tick": "A schedule was due, and its message was given to the agent.",
        "missed": "A schedule was due, and its message was not given.",
        "removed": "A schedule was removed.",
    },
    "setup": {
        "applied": "A setup file was applied.",
    },
    "store": {
        "put": "A value was stored.",
        "delete": "A value was deleted.",
        "clear": "All values of a namespace were deleted.",
        "expire": "A value has outlived its time.",
    },
}


def is_custom(topic: str) -> bool:
    """Whether a topic is one that users publish under."""
    return topic.startswith(f"{CUSTOM}.") and len(topic) > len(CUSTOM) + 1


def is_known(topic: str, name: str) -> bool:
    """Whether there are such events."""
    return is_custom(topic) or name in EVENT_NAMES.get(topic, {})
