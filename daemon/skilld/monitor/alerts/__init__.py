"""What was found, made known: kept, told to sinks, acknowledged."""

__all__ = ()
