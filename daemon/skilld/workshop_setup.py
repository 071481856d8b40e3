"""The setup file that the configuration names: applied when the daemon has started, and when that is read again."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from skill_actors.errors import Refused
from skill_actors.runtime import ChildSpec, TrioActor
from skill_actors.workshop.setup_file.reading import FileFault, Written, read_setup
from skill_actors.workshop.setup_file.setups import WhatToDo

if TYPE_CHECKING:
    from skilld.parts import Parts

__all__ = ["SetupKeeper", "setup_children"]

_AGAIN_S: Final = 5.0
_TRIES: Final = 60
_PASSING: Final = frozenset({"draining", "overloaded", "storage_full"})  # tried again

_log = logging.getLogger(__name__)


class SetupKeeper(TrioActor):
    """Applies the file; one that is not good changes nothing, and the log says why."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self._parts = parts

    async def setup(self) -> None:
        self.spawn(self._run)

    async def _run(self) -> None:
        await self._parts.ready.wait()
        while True:
            read_again = self._parts.read_again
            await self._apply()
            await read_again.wait()

    async def _apply(self) -> None:
        config = self._parts.config.workshop
        if config.setup is None:
            return
        owner_uid = os.getuid() if config.setup_owner is None else config.setup_owner
        try:
            written = await trio.to_thread.run_sync(_read, config.setup)
        except FileFault as fault:
            self._tell("workshop.setup_refused", f"the setup file changes nothing: {fault}", {"uid": owner_uid})
            return
        for _ in range(_TRIES):
            try:
                found = await self._parts.workshop.get().setup_files.apply(owner_uid, written.data, WhatToDo())
            except Refused as refused:
                if refused.code in _PASSING:
                    await trio.sleep(_AGAIN_S)
                    continue
                why = _placed(written, refused)
                self._tell("workshop.setup_refused", f"the setup file was not applied: {why}", {"uid": owner_uid})
                return
            self._applied(config.setup, owner_uid, found)
            return
        _log.error("the setup file %s was not applied: the daemon was not ready for it", config.setup)

    def _applied(self, path: Path, owner_uid: int, found: dict[str, Any]) -> None:
        done = [f"{each['do']} {each['kind']} {each['name']}".strip() for each in found["steps"] if not each["held"]]
        held = [str(each["name"]) for each in found["steps"] if each["held"]]
        _log.info("the setup file %s was applied: %s", path, ", ".join(done) or "all is as it says")
        if held:
            _log.warning("these agents would begin anew and were left as they are: %s", ", ".join(held))
        if done:
            facts = {"uid": owner_uid, "name": found["name"], "steps": len(done), "held": len(held)}
            self._parts.audit.add("workshop.setup", facts)

    def _tell(self, event: str, message: str, facts: dict[str, Any]) -> None:
        _log.error("%s", message)
        self._parts.audit.add(event, facts)


def _read(path: Path) -> Written:
    """Raises FileFault; also for a file that anybody may write."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise FileFault(f"{path}: {error.strerror}") from error
    if mode & stat.S_IWOTH:
        raise FileFault(f"{path}: everybody may write it; take that away with chmod o-w")
    return read_setup(path)


def _placed(written: Written, refused: Refused) -> str:
    faults = refused.details.get("faults")
    if not faults:
        return refused.message
    return "; ".join(
        f"{written.place(each['keys'])}: {'.'.join(map(str, each['keys']))}: {each['message']}" for each in faults[:10]
    )


def setup_children(parts: Parts) -> list[ChildSpec]:
    """What the branch of the workshop has for the setup file."""
    return [ChildSpec(id="setup", factory=lambda: SetupKeeper(parts), isolated=True)]
