"""The rules in force: read from the folder of the configuration, and read again when that or a file changes.

unread --files good--> in force --files changed, good--> in force (the new ones)
   |                      |-- changed, not good --> in force (the ones before), and the log and `fault` say why
   |-- not good --> in force: what comes along, and the good files, and likewise

They are read when the daemon is ready, which they do not hold up. Nothing is ever looked at without them: a thread that
asks before reads them itself, and on the thread of trio one waits for them first.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from watchfiles import awatch

from skill_actors.runtime import TrioActor
from skilld.monitor.inspection.mask_key import mask_key
from skilld.monitor.inspection.rule_files import RuleFile, RuleFileError, layered, read_rule_file, rule_paths
from skilld_monitor.scanning import RuleSet, builtin

if TYPE_CHECKING:
    from skilld.parts import Parts

__all__ = ["RuleBook", "RuleKeeper"]

_log = logging.getLogger(__name__)

_FIRST_LOOK_S = 1.0  # what changed after it was read, and before the kernel watched it
_LOOK_EVERY_S = 30.0  # where the folder is not there yet, or the kernel watches nothing


class RuleBook:
    """The rules in force. Read by any thread.

    Args:
        folder: where their files are now, for who asks before they were read; None: those that come along will do.
        key_file: of `mask_key`, for rules that mask by `hash`; None: they mask in full.

    """

    def __init__(self, folder: Callable[[], Path] | None = None, key_file: Path | None = None) -> None:
        self._folder = folder
        self._key_file = key_file
        self._rules: RuleSet | None = None
        self._loading = threading.RLock()
        self._of_files = self._of_key = ""
        self.loaded = 0
        self._stamp: object = None

    @property
    def fault(self) -> str:
        """What is wrong with the files, or with the key; "" for nothing."""
        return self._of_files or self._of_key

    @property
    def rules(self) -> RuleSet:
        """Those in force. Blocks while they were not read: on the thread of trio `wait` comes first."""
        found = self._rules
        return self._read_now() if found is None else found

    def _read_now(self) -> RuleSet:
        with self._loading:
            if self._rules is None and self._folder is not None:
                self._load(self._folder())
            found = self._rules = self._rules or builtin()
        return found

    async def wait(self) -> None:
        """Return when they were read."""
        if self._rules is None:
            await trio.to_thread.run_sync(lambda: self.rules)

    def load(self, folder: Path) -> bool:
        """Read the folder, if it has changed; what was in force stays where that cannot be used, and `fault` says why.

        Blocks. Returns whether other rules are in force now.
        """
        with self._loading:
            return self._load(folder)

    def _load(self, folder: Path) -> bool:
        stamp = _stamp(folder)
        if self.loaded and stamp == self._stamp:
            if self._of_key and self._rules is not None:
                self._rules = self._keyed(self._rules)
            return False
        self._stamp = stamp
        try:
            found = layered([read_rule_file(path) for path in rule_paths(folder)])
        except RuleFileError as error:
            self._of_files = str(error)
            if self.loaded:
                return False
            found = layered(_good_files(folder))
        else:
            self._of_files = ""
        self.loaded += 1
        changed = self._rules is None or found.version != self._rules.version
        self._rules = self._keyed(found)
        return changed

    def _keyed(self, found: RuleSet) -> RuleSet:
        self._of_key = ""
        if self._key_file is None or all(rule.mask != "hash" for rule in found.rules):
            return found
        try:
            return found.with_key(mask_key(self._key_file))
        except OSError as error:
            self._of_key = f"{self._key_file}: {error.strerror}; what is to be masked by hash is masked in full"
            return found


def _stamp(folder: Path) -> object:
    """Other than before whenever a file came, went or was written."""
    try:
        facts = [(path.name, path.stat()) for path in sorted(folder.glob("*.toml"))]
        return folder, [(name, f.st_ino, f.st_mtime_ns, f.st_size, f.st_mode) for name, f in facts]
    except OSError as error:  # one went meanwhile, or may not be looked at: it is read, and that says what is wrong
        return error


def _good_files(folder: Path) -> list[RuleFile]:
    """Those that can be used, one after the other: what there is at a start without a good set before."""
    good: list[RuleFile] = []
    try:
        paths = rule_paths(folder)
    except RuleFileError:
        return good
    for path in paths:
        try:
            file = read_rule_file(path)
            layered([*good, file])
        except RuleFileError:
            continue
        good.append(file)
    return good


class RuleKeeper(TrioActor):
    """Reads the rules when the daemon is ready, and again when a file or the configuration has changed."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self._parts = parts
        self._book = parts.rule_book
        self._limiter = trio.CapacityLimiter(1)
        self._told_fault = self._told_version = ""

    async def setup(self) -> None:
        self.spawn(self._keep)

    async def _keep(self) -> None:
        await self._parts.ready.wait()
        await self._load()
        self.spawn(self._watch_on)
        self.spawn(self._hear_reloads)

    async def _load(self) -> None:
        """Read them, and say what is new of them, whoever read it."""
        folder = self._parts.config.monitor.scan.rules_dir
        await trio.to_thread.run_sync(self._book.load, folder, limiter=self._limiter)
        fault, rules = self._book.fault, self._book.rules
        if fault and fault != self._told_fault:
            _log.error("these rules are not in force: %s", fault)
            self._parts.audit.add("monitor.rules_refused", {"fault": fault})
        if rules.version != self._told_version:
            _log.info("%d rules are in force, version %s", len(rules.rules), rules.version)
            self._parts.audit.add("monitor.rules", {"version": rules.version, "rules": len(rules.rules)})
        self._told_fault, self._told_version = fault, rules.version

    async def _hear_reloads(self) -> None:
        while True:
            await self._parts.read_again.wait()
            await self._load()

    async def _watch_on(self) -> None:
        """Watch the folder of now. It is looked at besides, since it may go, come, or be another after a reload."""
        while True:
            folder = self._parts.config.monitor.scan.rules_dir
            there = await trio.to_thread.run_sync(_place, folder)
            async with trio.open_nursery() as nursery:
                if there is not None:
                    nursery.start_soon(self._watch, folder)
                await trio.sleep(_FIRST_LOOK_S)
                await self._load()
                while await trio.to_thread.run_sync(_place, self._parts.config.monitor.scan.rules_dir) == there:
                    await trio.sleep(_LOOK_EVERY_S)
                    await self._load()
                nursery.cancel_scope.cancel()

    async def _watch(self, folder: Path) -> None:
        try:
            async for _ in awatch(folder, recursive=False, rust_timeout=200, step=50, debounce=200):
                await self._load()
        except (OSError, RuntimeError) as error:
            _log.warning("%s is not watched (%s); it is looked at every %g s", folder, error, _LOOK_EVERY_S)


def _place(folder: Path) -> tuple[Path, int, int] | None:
    """Which folder that is; None where there is none."""
    try:
        facts = folder.stat()
    except OSError:
        return None
    return folder, facts.st_dev, facts.st_ino
