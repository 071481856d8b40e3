"""Hooks: a program that is run, and a URL that is called, when a turn has ended or a call needs an approval.

    bus -> notice -> one bounded queue for each target -> one sender each -> the program, or the receiver

A notice holds ids, outcomes, codes, times and costs, and nothing that was said. Nobody waits for a hook: a turn has its
ending before anybody is told, a queue that is full lets its oldest notice go, and what was let go is counted.
"""

from __future__ import annotations

from skilld.hooks.notice import Notice, notice_of
from skilld.hooks.queue import NoticeQueue
from skilld.hooks.sender import HookFailed, HookSender
from skilld.hooks.targets import Hooks

__all__ = ["HookFailed", "HookSender", "Hooks", "Notice", "NoticeQueue", "notice_of"]
