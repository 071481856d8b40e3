"""Turns that a whole agent performs: the same conversation, log, ledger and approvals, another one at work."""

__all__ = ()
