"""The commands, a module for each noun; `skilld.cli.app` imports them when they are called."""

__all__ = ()
