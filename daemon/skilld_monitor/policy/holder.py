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
    from skilld_monitor.scanning.masking import Mask
    from skilld_monitor.settings import Settings

__all__ = ["Holder", "holder_for", "policy_problem"]

_POLL_S = 0.005
_COUNTS = ("blocked", "redacted", "would_block", "would_redact", "unjudged")
_TOLD_EVERY_S = 60.0
_MOST_TOLD = 20  # causes at once: they may name what a program passes, and be another one with each call


class Holder:
    """The policies in force. Read by any thread, changed by the sender's alone; without a lock that a fork could leave
    held.

    Args:
        path: of the file in which the daemon's policy is kept for the next run.
        file: with a policy of the program's own, as JSON; it adds to the daemon's and takes nothing from it. It is read
            here and now.
        mask: the program's own way to mask what is redacted, see `skilld_monitor.settings.Settings`.
        fail_closed: whether calls are blocked that cannot be judged, and all while no policy of the daemon's is known.

    Of use to the program itself: `counts` of this run's calls that were blocked or redacted, would have been in a dry
    run, or could not be judged; `problem`, `version`, `is_known` and `is_active`. `own_problem` says what is wrong with
    the file, "" for nothing.
    """

    def __init__(self, path: str, *, file: str = "", fail_closed: bool = False, mask: Mask | None = None) -> None:
        self._path = path
        self._mask = mask
        self.must_know = fail_closed  # whether no call goes out before the daemon has said its policy
        self._said: Mapping[str, object] | None = None
        # With what the daemon had said when they were made: that takes so long that it may say another meanwhile.
        self._made: tuple[Mapping[str, object] | None, tuple[tuple[Policy, ...], str]] | None = None
        self._own: Policy | None = None
        self._own_is_closed = False
        self.own_problem = ""
        self.version = ""
        self.is_known = False  # whether there is a policy of the daemon's, from itself or its cache
        self._unkept = ""
        self.begin_run()
        self._is_always_active = self.is_active = fail_closed or bool(file)
        if file:
            self._own, self._own_is_closed, self.own_problem = _own_policy(file, mask)
        self._load()

    def begin_run(self) -> None:
        """Count from 0: a forked child has made none of its parent's calls."""
        self.counts = dict.fromkeys(_COUNTS, 0)
        self._unjudged = ""
        self._told: dict[str, float] = {}

    @property
    def standing_problem(self) -> str:
        """What is wrong with a policy now, as far as it was looked at, "" for nothing: it cannot be used, or kept."""
        made = self._made
        return (self.own_problem if made is None else made[1][1]) or self._unkept

    @property
    def problem(self) -> str:
        """Why the last of the calls was not judged that were not; what is wrong with a policy while there is none."""
        return self._unjudged or self.standing_problem

    def count_unjudged(self, why: str) -> None:
        """A call could not be judged."""
        self.counts["unjudged"] += 1
        self._unjudged = f"a call was not judged: {why}"

    def may_tell(self, cause: str) -> bool:
        """Whether to say now that a call was not judged for this cause: of each once a minute, and only of so many."""
        now_s, told = time.monotonic(), self._told
        for known, at_s in list(told.items()):
            if now_s - at_s >= _TOLD_EVERY_S:
                told.pop(known, None)
        return len(told) < _MOST_TOLD and told.setdefault(cause, now_s) is now_s

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

    def policies(self) -> tuple[tuple[Policy, ...], str]:
        """Those in force, and what is wrong with one that is not, "" for nothing: the others hold all the same."""
        while True:
            said, made = self._said, self._made
            if made is None or made[0] is not said:
                made = self._made = (said, self._make(said))
            if made[0] is self._said:
                return made[1]

    @property
    def fail_closed(self) -> bool:
        """Whether what cannot be judged is blocked: one that says so is enough."""
        said = self._said
        return self.must_know or self._own_is_closed or (said is not None and said.get("fail") == "closed")

    def wait_known(self, timeout_s: float) -> bool:
        """Whether the daemon has said its policy within the time."""
        deadline = time.monotonic() + timeout_s
        while not self.is_known and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return self.is_known

    def _take(self, said: Mapping[str, object]) -> None:
        self._said = said
        self.version = str(said.get("version", ""))
        self.is_known = True
        self.is_active = self._is_always_active or _is_active(said)

    def _make(self, said: Mapping[str, object] | None) -> tuple[tuple[Policy, ...], str]:
        from skilld_monitor.policy.policies import Policy, PolicyError

        found, problem = [], self.own_problem
        if said is not None:
            try:
                found.append(Policy(said, self._mask))
            except Exception as error:  # what the daemon said may be anything
                problem = str(error) if isinstance(error, PolicyError) else type(error).__name__
        if self._own is not None:
            found.append(self._own)
        return tuple(found), problem

    def _keep(self, said: Mapping[str, object]) -> None:
        from skilld_monitor.policy.cache import forget_policy, keep_policy

        try:
            if _is_active(said) or said.get("fail") == "closed":
                keep_policy(self._path, said)
            else:
                forget_policy(self._path)
            self._unkept = ""
        except (OSError, ValueError, RecursionError) as error:
            self._unkept = f"the policy cannot be kept: {error}"


def policy_problem(file: str) -> str:
    """What is wrong with a policy of the program's own; "" for nothing, and for that there is none."""
    return _own_policy(file)[2] if file else ""


def _own_policy(file: str, mask: Mask | None = None) -> tuple[Policy | None, bool, str]:
    """The policy, whether it fails closed, and what is wrong with it."""
    from skilld_monitor.policy.cache import read_own
    from skilld_monitor.policy.policies import Policy, PolicyError

    said: dict[str, object] = {}
    try:
        said = read_own(file)
        return Policy(said, mask), said.get("fail") == "closed", ""
    except PolicyError as error:
        text = str(error)
    except Exception as error:  # what the file says may be anything
        text = type(error).__name__
    return None, said.get("fail") == "closed", text if file in text else f"policy_file {file}: {text}"


def _is_active(said: Mapping[str, object]) -> bool:
    """Whether calls are judged by it. One whose rules are no list is: that it cannot be used is told, or blocks."""
    return bool(said.get("rules"))


def holder_for(settings: Settings) -> Holder:
    """The policies of a program with these settings. Each agent of each daemon has a cache of its own."""
    whose = crc32(f"{settings.socket}\0{settings.agent_id}".encode("utf-8", "surrogatepass"))
    path = os.path.join(settings.spool_dir, f"policy-{whose:08x}.json")
    closed = settings.policy_fail == "closed"
    return Holder(path, file=settings.policy_file, fail_closed=closed, mask=settings.mask)
