"""Exit statuses of skilld: whoever starts it decides by them whether to start it again.

`skill_actors.runtime` and `skill_actors.store` have those they end a process with themselves; a test holds them equal.
"""

from __future__ import annotations

from typing import Final

__all__ = ["EXIT_CONFIG", "EXIT_FAILED", "EXIT_IO", "EXIT_TAKEN"]

EXIT_FAILED: Final = 70  # EX_SOFTWARE: a part failed again and again, or the event loop hung
EXIT_IO: Final = 74  # EX_IOERR: the disk failed
EXIT_TAKEN: Final = 75  # EX_TEMPFAIL: another instance has the socket or the state directory
EXIT_CONFIG: Final = 78  # EX_CONFIG: the configuration cannot be used; starting again would change nothing
