"""The commands of monitoring, a module for each noun; `group` has the list of them."""

__all__ = ()
