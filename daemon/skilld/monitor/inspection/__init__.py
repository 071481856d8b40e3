"""What is looked for in what is reported, and what programs are to do about it."""

__all__ = ()
