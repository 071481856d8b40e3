"""What the client says about itself, where the program asked for it: in a file, or to Python's `logging`.

Nothing of it is content: names of settings, paths and counts.
"""

from __future__ import annotations

import os
import re
import time

from skilld_monitor.records import LEVELS

__all__ = ["LOGGING", "Diagnostics", "advice_on"]

LOGGING = "logging"
_KINDS = "agent|app|bot|client|demo|project|service|test"
_SAYS_NOTHING = rf"unnamed|(?:(?:my|the|test|demo)[-_ ]?)?(?:{_KINDS})[-_ ]?\d*"


class Diagnostics:
    """Says things. Never raises.

    Args:
        where: "" for nowhere, `logging` for the logger `skilld_monitor`, else a file; lines are appended.
        level: what is below it is not said.

    """

    def __init__(self, where: str, level: str) -> None:
        self._where = where if where in ("", LOGGING) else _absolute(where)
        self._least = LEVELS[level]

    def say(self, level: str, text: str) -> None:
        """One line."""
        if not self._where or LEVELS[level] < self._least:
            return
        if self._where == LOGGING:
            _log(LEVELS[level], text)
            return
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = f"{stamp} {level} [{os.getpid()}] {' '.join(text.split())}\n"
        try:
            os.makedirs(os.path.dirname(self._where), exist_ok=True)
            fd = os.open(self._where, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, line.encode("utf-8", "replace"))
            finally:
                os.close(fd)
        except OSError:
            self._where = ""  # a folder that cannot be written is not tried for ever


def _absolute(path: str) -> str:
    """The file that is meant now, wherever the program goes later; "" in a working directory that is gone."""
    try:
        return os.path.abspath(os.path.expanduser(path))
    except OSError:
        return ""


def _log(number: int, text: str) -> None:
    import logging

    logger = logging.getLogger("skilld_monitor")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())  # else Python prints warnings that no handler takes
    logger.log(number, "%s", text)


def advice_on(agent_id: str) -> str:
    """What is wrong with an id that tells one program from another no better than none; "" for a good one."""
    if re.fullmatch(_SAYS_NOTHING, agent_id, re.IGNORECASE):
        return (
            f"agent_id {agent_id!r} does not say which program this is; name its purpose and where it runs, such as"
            " 'order-processing-production'"
        )
    return ""
