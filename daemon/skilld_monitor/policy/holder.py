"""The policies in force in this process: what the daemon said last, from its cache at first, and a file of its own.

Made with monitoring and asked before each call, so nothing is imported and nothing compiled before a policy is there
that redacts or blocks.
"""

from __future__ import annotations

import os
import time
from binascii import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from skilld_monitor.policy.policies import Policy
    from skilld_monitor.settings import Settings

__all__ = ["Holder", "holder_for"]

_POLL_S = 0.005
_COUNTS = ("blocked", "redacted", "would_block", "would_redact", "unjudged")


class Holder:
    """The policies in force. Read by any thread, changed by the sender's alone; without a lock that a fork could leave
    held.

    Args:
        path: of the file in which the daemon's policy is kept for the next run.
        file: with a policy of the program's own, as JSON; it adds to the daemon's and takes nothing from it.
        fail_closed: whether calls are blocked while no policy of the daemon's is known.

    """

    def __init__(self, path: str, *, file: str = "", fail_closed: bool = False) -> None:
        self._path = path
        self._file = file
        self._fail_closed = fail_closed
        self._said: Mapping[str, object] | None = None
        self._made: tuple[Policy, ...] | None = None
        self.version = ""
        self.is_known = False  # whether there is a policy of the daemon's, from itself or its cache
        self.problem = ""
        self.counts = dict.fromkeys(_COUNTS, 0)
        self.is_active = fail_closed or bool(file)
        self._load()

    def _load(self) -> None:
        from skilld_monitor.policy.cache import read_policy

        said = read_policy(self._path)
        if said is not None:
            self._take(said)

    def heard(self, said: Mapping[str, object] | None) -> None:
        """The daemon said a policy; None for that the one we have is its own. Called by the sender. Never raises."""
        if said is not None:
            self._take(said)
            self._keep(said)
        self.is_known = True

    def policies(self) -> tuple[Policy, ...]:
        """Those in force.

        Raises:
            PolicyError: if one cannot be used.

        """
        made = self._made
        if made is None:
            made = self._made = self._make()
        return made

    @property
    def fail_closed(self) -> bool:
        """Whether what cannot be judged is blocked."""
        return self._fail_closed or (self._said is not None and self._said.get("fail") == "closed")

    def wait_known(self, timeout_s: float) -> bool:
        """Whether the daemon has said its policy within the time."""
        deadline = time.monotonic() + timeout_s
        while not self.is_known and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return self.is_known

    def _take(self, said: Mapping[str, object]) -> None:
        self._said = said
        self._made = None
        self.version = str(said.get("version", ""))
        self.is_known = True
        self.is_active = self._fail_closed or bool(self._file) or _is_active(said)

    def _make(self) -> tuple[Policy, ...]:
        from skilld_monitor.policy.cache import read_own
        from skilld_monitor.policy.policies import Policy

        found = [] if self._said is None else [Policy(self._said)]
        if self._file:
            found.append(Policy(read_own(self._file)))
        return tuple(found)

    def _keep(self, said: Mapping[str, object]) -> None:
        from skilld_monitor.policy.cache import forget_policy, keep_policy

        try:
            if _is_active(said) or said.get("fail") == "closed":
                keep_policy(self._path, said)
            else:
                forget_policy(self._path)
        except (OSError, ValueError, RecursionError) as error:
            self.problem = f"the policy cannot be kept: {error}"


def _is_active(said: Mapping[str, object]) -> bool:
    """Whether calls are judged by it. One whose rules are no list is: that it cannot be used is told, or blocks."""
    return bool(said.get("rules"))


def holder_for(settings: Settings) -> Holder:
    """The policies of a program with these settings. Each agent of each daemon has a cache of its own."""
    whose = crc32(f"{settings.socket}\0{settings.agent_id}".encode("utf-8", "surrogatepass"))
    path = os.path.join(settings.spool_dir, f"policy-{whose:08x}.json")
    return Holder(path, file=settings.policy_file, fail_closed=settings.policy_fail == "closed")
