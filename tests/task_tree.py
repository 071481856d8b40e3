"""trio's own tree of tasks, in the shape of the supervision tree, so that tests can compare the two."""

from __future__ import annotations

import trio

from skill_actors.runtime import ActorSystem, ChildInfo

__all__ = ["Node", "supervision_tree", "task_tree"]

Node = tuple[str, tuple["Node", ...]]

_NO_TASK = {"stopped", "waiting", "dead"}
_TIMERS = ("/backoff", "/terminate")  # of a supervisor, beside its children


def supervision_tree(system: ActorSystem) -> Node:
    """The living actors by path, with those below them; siblings sorted."""
    return _actor(system.tree())


def _actor(info: ChildInfo) -> Node:
    return info.path, tuple(sorted(_actor(child) for child in info.children or () if child.phase not in _NO_TASK))


def task_tree(path: str = "root") -> Node:
    """The tasks that are named like actors, with those in nurseries that their own frames opened; siblings sorted.

    Raises:
        LookupError: if there is not exactly one task of this name.

    """
    main = trio.lowlevel.current_root_task()
    assert main is not None
    found = [task for task in _all(main) if task.name == path]
    if len(found) != 1:
        raise LookupError(f"{len(found)} tasks are named {path!r}")
    return _task(found[0])


def _all(task: trio.lowlevel.Task) -> list[trio.lowlevel.Task]:
    found = [task]
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            found += _all(child)
    return found


def _task(task: trio.lowlevel.Task) -> Node:
    children = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    actors = [child for child in children if child.name.startswith(f"{task.name}/")]
    return task.name, tuple(sorted(_task(child) for child in actors if not child.name.endswith(_TIMERS)))
