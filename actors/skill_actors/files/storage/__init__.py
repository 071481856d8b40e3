"""Where files of sessions are kept beside their workspaces: a folder, or a bucket."""

from __future__ import annotations

from skill_actors.files.storage.background import BackgroundSync
from skill_actors.files.storage.base import Storage, StorageReport
from skill_actors.files.storage.errors import StorageError
from skill_actors.files.storage.local import LocalStorage
from skill_actors.files.storage.options import Credentials, S3Options, tigris
from skill_actors.files.storage.s3 import S3Storage

__all__ = [
    "BackgroundSync",
    "Credentials",
    "LocalStorage",
    "S3Options",
    "S3Storage",
    "Storage",
    "StorageError",
    "StorageReport",
    "tigris",
]
