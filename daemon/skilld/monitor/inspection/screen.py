"""What the policy of monitoring does to the daemon's own conversations, before a message is taken in or a tool runs."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

from skill_actors.errors import Refused
from skill_actors.sessions.screening import Blocked
from skilld.monitor.inspection.file_text import MAX_FILE_BYTES, FileText, texts_of
from skilld.monitor.inspection.pushed import policy_for
from skilld_monitor.scanning import Finding, RuleSet, read_rules

if TYPE_CHECKING:
    from skilld.config import MonitorConfig, MonitorPolicyConfig
    from skilld.monitor.inspection.book import RuleBook

__all__ = ["OWN_AGENT", "SessionScreen", "Stopped"]

_log = logging.getLogger(__name__)

OWN_AGENT: Final = "skilld"
"""The name of the agent under which the daemon's own conversations stand in [monitor.policy]."""

_FEW_CHARS: Final = 4_000  # looked at where they are: half a millisecond
_MOST_AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """What was found before it was said or done.

    Args:
        what: "message", "file" of a message, or the tool's name.
        time_us: when, microseconds since 1970.
        action: block or redact; what was done, or would have been where `dry_run`.

    """

    uid: int
    session: str
    time_us: int
    what: str
    action: str
    dry_run: bool
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Guard:
    """The rules that act, as one policy has them."""

    rules: RuleSet
    blocking: frozenset[str]
    closed: bool
    dry_run: bool


class SessionScreen:
    """Looks into what is said and done, where the policy redacts or blocks something; else it costs nothing.

    Args:
        config: the section in force.
        stopped: told of everything that was found. Must not wait.

    """

    def __init__(self, book: RuleBook, config: Callable[[], MonitorConfig], stopped: Callable[[Stopped], None]) -> None:
        self._book = book
        self._config = config
        self._stopped = stopped
        self._limiter = trio.CapacityLimiter(_MOST_AT_ONCE)
        self._made: tuple[object, object, _Guard | None] = (None, None, None)

    async def message(self, owner_uid: int, session: str, text: str) -> str:
        """The text as it may be taken in. Raises Refused("policy_denied")."""
        guard = await self._guard()
        if guard is None:
            return text
        try:
            shown, found = await self._look(partial(guard.rules.mask_text, text, "input"), len(text))
        except Exception as error:
            self._fail(guard, error)
            if guard.closed:
                why = "the message cannot be looked into, and monitor.policy.fail is closed"
                raise Refused("policy_denied", why) from error
            return text
        blocking = self._tell(guard, owner_uid, session, "message", found)
        if blocking is not None:
            raise _blocked(blocking, "this message")
        return text if guard.dry_run else str(shown)

    async def files(
        self, owner_uid: int, session: str, files: Sequence[tuple[str, bytes]]
    ) -> Sequence[tuple[str, bytes]]:
        """The files of a message as they may be taken in: those that are text, as far as they are looked into.

        What is to be redacted is masked in the file. Raises Refused("policy_denied"), also for a file in which nothing
        can be masked, and with a policy that fails closed for one that is not looked into to its end.
        """
        guard = await self._guard()
        if guard is None:
            return files
        shown = list(files)
        texts = await trio.to_thread.run_sync(lambda: list(texts_of(files)), limiter=self._limiter)
        for place, text in enumerate(texts):
            if text is not None:
                masked = await self._file(guard, owner_uid, session, place + 1, text)
                if masked is not None:
                    shown[place] = files[place][0], masked
        return files if shown == list(files) else shown

    async def _file(self, guard: _Guard, uid: int, session: str, number: int, file: FileText) -> bytes | None:
        """What the file has to be instead; None if it may stay."""
        its = f"file {number} of this message"
        if file.rest and guard.closed:
            why = f"{its} is larger than what is looked into of one ({MAX_FILE_BYTES} bytes), or all of them together"
            raise Refused("policy_denied", f"{why}, or cannot be read to its end, and monitor.policy.fail is closed")
        try:
            shown, found = await self._look(partial(guard.rules.mask_text, file.text, "input"), len(file.text))
        except Exception as error:
            self._fail(guard, error)
            if guard.closed:
                why = f"{its} cannot be looked into, and monitor.policy.fail is closed"
                raise Refused("policy_denied", why) from error
            return None
        blocking = self._tell(guard, uid, session, "file", found)
        if blocking is not None:
            raise _blocked(blocking, its)
        if guard.dry_run or shown == file.text:
            return None
        try:
            return file.with_text(str(shown))
        except UnicodeEncodeError as error:
            why = f"{its} has to be redacted, and what stands for what is masked cannot be written in it"
            raise Refused("policy_denied", why) from error

    async def call(
        self, owner_uid: int, session: str, tool: str, given: Mapping[str, Any]
    ) -> Mapping[str, Any] | Blocked:
        """The input with which the tool may be called."""
        guard = await self._guard()
        if guard is None:
            return given
        try:
            size = len(json.dumps(given, default=str))
            shown, found = await self._look(partial(guard.rules.mask, dict(given), "tool_arguments"), size)
        except Exception as error:
            self._fail(guard, error)
            return Blocked("Not run: the call cannot be looked into.") if guard.closed else given
        blocking = self._tell(guard, owner_uid, session, tool, found)
        if blocking is not None:
            return Blocked(f"Not run: rule {blocking.rule} ({blocking.category}) of this host blocks such a call.")
        return given if guard.dry_run or not found else shown

    async def _look(self, look: Callable[[], tuple[Any, list[Finding]]], size: int) -> tuple[Any, list[Finding]]:
        if size <= _FEW_CHARS:
            return look()
        return await trio.to_thread.run_sync(look, limiter=self._limiter)

    async def _guard(self) -> _Guard | None:
        """What acts now; None where nothing does. Made in a thread, once for each policy and set of rules."""
        config = self._config()
        if not config.scan.enabled or not _may_act(config.policy):
            return None
        await self._book.wait()
        rules = self._book.rules
        if self._made[0] is not config.policy or self._made[1] is not rules:
            made = await trio.to_thread.run_sync(lambda: _guard_of(policy_for(config.policy, rules, OWN_AGENT)))
            self._made = (config.policy, rules, made)
        return self._made[2]

    def _tell(self, guard: _Guard, uid: int, session: str, what: str, found: list[Finding]) -> Finding | None:
        """Say what was found; the finding that blocks, if one does."""
        if not found:
            return None
        blocking = next((finding for finding in found if finding.rule in guard.blocking), None)
        action = "redact" if blocking is None else "block"
        once = {finding.rule: finding for finding in reversed(found)}
        self._stopped(
            Stopped(
                uid=uid,
                session=session,
                time_us=time.time_ns() // 1000,
                what=what,
                action=action,
                dry_run=guard.dry_run,
                findings=tuple(once.values()),
            )
        )
        return None if guard.dry_run else blocking

    def _fail(self, guard: _Guard, error: Exception) -> None:
        what = "is refused" if guard.closed else "goes on unseen"
        _log.error("what is said cannot be looked into, and %s: %s", what, type(error).__name__)


def _blocked(by: Finding, what: str) -> Refused:
    return Refused(
        "policy_denied",
        f"rule {by.rule} ({by.category}) blocks {what}; see [monitor.policy]",
        details={"reason": "blocked", "rule": by.rule, "category": by.category},
    )


def _may_act(policy: MonitorPolicyConfig) -> bool:
    """Whether there is a word of redacting or blocking in it: where there is none, no rule has to be read."""
    return any(mode in ("redact", "block") for mode in (policy.mode, *(override.mode for override in policy.overrides)))


def _guard_of(policy: Mapping[str, Any]) -> _Guard | None:
    """The rules that act. What one of them finds is not passed on, also where it stays in what is stored."""
    if not policy["rules"]:
        return None
    rules = read_rules(policy["rules"])
    masking = [{**rule.fields, "mask": "full"} if rule.mask == "none" else rule.fields for rule in rules.rules]
    blocking = frozenset(id for id, mode in policy["modes"].items() if mode == "block")
    return _Guard(read_rules(masking), blocking, policy["fail"] == "closed", bool(policy["dry_run"]))
