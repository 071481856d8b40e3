"""What can go wrong with a storage.

    StorageError    with a stable code, whether to try again makes sense, and JSON-ready details

Codes: storage_init_failed, storage_read_failed, storage_write_failed, storage_cleanup_failed, file_not_found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["CODES", "StorageError"]

CODES: Final = frozenset(
    {"file_not_found", "storage_cleanup_failed", "storage_init_failed", "storage_read_failed", "storage_write_failed"}
)


class StorageError(Exception):
    """A storage did not do what it was asked. The cause is chained; neither holds a credential.

    Args:
        code: one of CODES.
        message: names the file or bucket, and the reason.
        retryable: whether the same may succeed later.
        details: JSON-ready; `path` where it was about one.

    """

    def __init__(
        self, code: str, message: str, *, retryable: bool = False, details: Mapping[str, Any] | None = None
    ) -> None:
        if code not in CODES:
            raise ValueError(f"unknown storage error {code!r}")
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable
        self.details = dict(details or {})
