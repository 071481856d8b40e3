"""The live supervision tree as the socket shows it: every actor with its load, and what supervisors reported lately.

Of dynamic supervisors the busiest children are shown and the others counted. Whoever is no admin sees of
actors made on demand the own conversations only (a worker may be named after somebody's), and of reports on such
actors no message, since it may quote a conversation, and no name that a program gave itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from skill_actors.runtime import ActorSystem, ChildInfo, Report
from skill_actors.runtime.survey import Survey
from skilld.http.services import Viewer

__all__ = ["CONVERSATIONS", "OwnerOf", "describe_tree", "memory_bytes"]

CONVERSATIONS: Final = "root/sessions"
_SOURCES: Final = "root/extras/sources"  # its children have the names that programs of users gave themselves
_MAX_MESSAGE_CHARS: Final = 500
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

OwnerOf = Callable[[str], int | None]
"""The uid that owns a conversation in memory; None if there is no such one."""


def describe_tree(
    system: ActorSystem, reports: Sequence[Report], viewer: Viewer, owner_of: OwnerOf, most: int
) -> dict[str, Any]:
    """The answer to GET /v1/tree. Costs about 1 ms for each thousand conversations.

    Args:
        system: whose tree.
        reports: those to show, oldest first.
        viewer: decides which conversations are shown, and how much of a report.
        owner_of: by session id.
        most: children shown of each dynamic supervisor.

    """
    root = system.tree(Survey(most=most, shown=_what_is_shown(viewer, owner_of)))
    fixed = {info.path for info in _walk(root) if info.strategy not in (None, "dynamic")} | {""}
    return {
        "tree": _node(root) | {"memory_bytes": memory_bytes(os.getpid())},
        "reports": [_report(report, viewer.admin, report.supervisor in fixed) for report in reports],
    }


def _what_is_shown(viewer: Viewer, owner_of: OwnerOf) -> Callable[[str, str], bool] | None:
    if viewer.admin:
        return None

    def shown(path: str, id: str) -> bool:
        return path == CONVERSATIONS and owner_of(id.partition("/")[0]) == viewer.uid

    return shown


def _walk(root: ChildInfo) -> Iterator[ChildInfo]:
    pending = [root]
    while pending:
        info = pending.pop()
        yield info
        pending.extend(info.children or ())


def _node(info: ChildInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "template": info.template,
        "class": info.actor_class,
        "strategy": info.strategy,
        "restart": info.restart,
        "isolated": info.isolated,
        "phase": info.phase,
        "restarts": info.restarts,
        "mailbox_depth": info.mailbox_depth,
        "oldest_message_s": round(info.oldest_message_s, 3),
        "memory_bytes": None if info.pid is None else memory_bytes(info.pid),
        "children": [_node(child) for child in info.children or ()],
        "children_total": info.children_total,
    }


def _report(report: Report, admin: bool, of_fixed_child: bool) -> dict[str, Any]:
    kind = None if report.kind is None else report.kind.value
    message = report.message if admin or of_fixed_child else kind or ""
    shown: Mapping[str, Any] = {
        "time": datetime.fromtimestamp(report.time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "event": report.event.value,
        "supervisor": report.supervisor,
        "child": report.child if admin or report.supervisor != _SOURCES else "",
        "class": report.actor_class or None,
        "kind": kind,
        "message": message[:_MAX_MESSAGE_CHARS],
    }
    return {**shown, "trace": report.trace} if admin else {**shown}


def memory_bytes(pid: int) -> int | None:
    """Resident memory of a process, in bytes; None if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return None
