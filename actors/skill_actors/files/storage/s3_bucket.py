"""One bucket through boto3. Everything here blocks and may be called from several threads.

boto3 is imported with the first request: it takes half a second, and not everybody has it. It signs, escapes keys,
asks for page after page, sends large files in parts and repeats what may be repeated; here is what it leaves open.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import IOBase
from typing import Any, Final

from skill_actors.files.names import content_type_of
from skill_actors.files.storage.errors import StorageError
from skill_actors.files.storage.options import S3Options

__all__ = ["Found", "S3Bucket"]

_SHA256: Final = "skilld-sha256"
_BATCH: Final = 1000  # keys that one request may delete
_PIECE_BYTES: Final = 1 << 20
# What XML 1.0 cannot hold in any form: a list with one such key is refused as a whole.
_UNSPEAKABLE: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ABSENT: Final = frozenset({"404", "NoSuchKey", "NotFound"})
_PERMANENT: Final = {
    "AccessDenied": "access is denied",
    "403": "access is denied",
    "ExpiredToken": "the session token has expired",
    "InvalidAccessKeyId": "the access key is not known there",
    "InvalidToken": "the session token is not valid",
    "NoSuchBucket": "there is no such bucket",
    "RequestTimeTooSkewed": "this machine's clock differs too much from theirs",
    "SignatureDoesNotMatch": "the secret key does not match the access key",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An object: its key behind the prefix, its size, when it was written (RFC 3339), its checksum if it is known."""

    key: str
    size: int
    modified: str
    checksum: str | None = None


class S3Bucket:
    """The objects of one bucket, by whole key."""

    def __init__(self, options: S3Options) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._client: Any = None
        self._transfer: Any = None

    def check(self) -> None:
        """Raise storage_init_failed unless the bucket is there and lets us in."""
        with self._told("storage_init_failed", ""):
            self._connected().head_bucket(Bucket=self._options.bucket)

    def put(self, key: str, content: IOBase, size: int, checksum: str) -> None:
        """Store an object; a large one in parts."""
        extra = {"ContentType": content_type_of(key), "Metadata": {_SHA256: checksum}}
        with self._told("storage_write_failed", key):
            client = self._connected()
            if size < 2 * self._options.part_bytes:
                client.put_object(Bucket=self._options.bucket, Key=key, Body=content, **extra)
            else:
                client.upload_fileobj(content, self._options.bucket, key, ExtraArgs=extra, Config=self._transfer)

    def get(self, key: str, take: Callable[[bytes], object], *, max_bytes: int) -> Found:
        """Hand the object's content over piece by piece; file_not_found, or storage_read_failed if it is larger."""
        with self._told("storage_read_failed", key):
            answer = self._connected().get_object(Bucket=self._options.bucket, Key=key)
            found = _found(key, answer)
            with closing(answer["Body"]) as body:
                if found.size > max_bytes:
                    raise StorageError(
                        "storage_read_failed",
                        f"{key} has {found.size} bytes; at most {max_bytes} are read",
                        details={"path": key},
                    )
                for piece in body.iter_chunks(_PIECE_BYTES):
                    take(piece)
            return found

    def head(self, key: str) -> Found | None:
        """What is known of an object without reading it; None if there is none."""
        try:
            with self._told("storage_read_failed", key):
                return _found(key, self._connected().head_object(Bucket=self._options.bucket, Key=key))
        except StorageError as error:
            if error.code == "file_not_found":
                return None
            raise

    def delete(self, key: str) -> None:
        with self._told("storage_cleanup_failed", key):
            self._connected().delete_object(Bucket=self._options.bucket, Key=key)

    def list(self, prefix: str) -> list[Found]:
        """All objects whose keys begin so, however many; keys without the prefix."""
        found: list[Found] = []
        with self._told("storage_read_failed", prefix):
            pages = self._connected().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._options.bucket, Prefix=prefix):
                for item in page.get("Contents", ()):
                    key = str(item["Key"]).removeprefix(prefix)
                    found.append(Found(key=key, size=int(item["Size"]), modified=_time(item["LastModified"])))
        return found

    def delete_all(self, prefix: str) -> tuple[Sequence[str], Mapping[str, str]]:
        """Delete what begins so, also what was being uploaded: the keys that are gone, and why others are not."""
        gone: list[str] = []
        failed: dict[str, str] = {}
        keys = [prefix + found.key for found in self.list(prefix)]
        for key in filter(_UNSPEAKABLE.search, keys):
            self.delete(key)
            gone.append(key.removeprefix(prefix))
        for batch in _batches([key for key in keys if not _UNSPEAKABLE.search(key)]):
            with self._told("storage_cleanup_failed", prefix):
                asked = {"Objects": [{"Key": key} for key in batch], "Quiet": True}
                answer = self._connected().delete_objects(Bucket=self._options.bucket, Delete=asked)
            refused = {str(e["Key"]): str(e.get("Message") or e.get("Code")) for e in answer.get("Errors", ())}
            failed |= {key.removeprefix(prefix): why for key, why in refused.items()}
            gone += [key.removeprefix(prefix) for key in batch if key not in refused]
        self.abandon_uploads(prefix)
        return sorted(gone), failed

    def presigned_url(self, key: str, expires_s: int) -> str:
        """A URL that reads the object until it expires. Signs here, asks nobody."""
        with self._told("storage_read_failed", key):
            asked = {"Bucket": self._options.bucket, "Key": key}
            return str(self._connected().generate_presigned_url("get_object", Params=asked, ExpiresIn=expires_s))

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def abandon_uploads(self, prefix: str) -> None:
        """End all uploads in parts below the prefix that are not finished; their parts are removed."""
        with self._told("storage_cleanup_failed", prefix):
            client = self._connected()
            for page in client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._options.bucket, Prefix=prefix
            ):
                for upload in page.get("Uploads", ()):
                    client.abort_multipart_upload(
                        Bucket=self._options.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> Any:
        try:
            import boto3
            from boto3.s3.transfer import TransferConfig
            from botocore.config import Config
        except ImportError as error:
            raise StorageError(
                "storage_init_failed", "storage in a bucket needs boto3: install skilld with the extra s3"
            ) from error
        options, keys = self._options, self._options.credentials
        config = Config(
            connect_timeout=options.timeout_s,
            read_timeout=options.timeout_s,
            max_pool_connections=4 * options.parallel,
            # Others than Amazon do not all know the checksums that newer clients add by themselves.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"total_max_attempts": options.attempts, "mode": "standard"},
            s3={"addressing_style": options.style},
            signature_version="s3v4",
        )
        self._transfer = TransferConfig(
            multipart_threshold=2 * options.part_bytes, multipart_chunksize=options.part_bytes, max_concurrency=4
        )
        return boto3.session.Session().client(
            "s3",
            endpoint_url=options.endpoint,
            region_name=options.region,
            config=config,
            aws_access_key_id=None if keys is None else keys.access_key_id,
            aws_secret_access_key=None if keys is None else keys.secret_access_key,
            aws_session_token=None if keys is None else keys.session_token,
        )

    @contextmanager
    def _told(self, code: str, key: str) -> Iterator[None]:
        """Whatever boto3 raises becomes a StorageError."""
        from_boto: tuple[type[Exception], ...] = ()
        try:
            from boto3.exceptions import Boto3Error
            from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

            from_boto = (Boto3Error, BotoCoreError, ClientError, HTTPClientError)
        except ImportError:
            pass  # the first request says so
        try:
            yield
        except from_boto as error:
            raise self._translated(error, code, key) from error

    def _translated(self, error: Exception, code: str, key: str) -> StorageError:
        cause: BaseException = error
        while not hasattr(cause, "response") and (cause.__cause__ or cause.__context__) is not None:
            cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
        response = getattr(cause, "response", None)
        where = f"{self._options.bucket}/{key}" if key else self._options.bucket
        details: dict[str, Any] = {"path": key} if key else {"bucket": self._options.bucket}
        if not isinstance(response, dict):
            why = f"{type(error).__name__}: the storage cannot be reached or did not answer as it should"
            return StorageError(code, f"{where}: {why}", retryable=True, details={**details, "reason": why})
        told = str(response.get("Error", {}).get("Code", ""))
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if told in _ABSENT and key and code != "storage_write_failed":  # what is written need not be there
            return StorageError("file_not_found", f"{where}: there is no such file", details=details)
        why = _PERMANENT.get(told) or f"{told or 'refused'} ({status})"
        retryable = told not in _PERMANENT and (status >= 500 or status == 429 or told == "RequestTimeout")
        return StorageError(code, f"{where}: {why}", retryable=retryable, details={**details, "reason": told})


def _found(key: str, answer: Mapping[str, Any]) -> Found:
    return Found(
        key=key,
        size=int(answer["ContentLength"]),
        modified=_time(answer["LastModified"]),
        checksum=answer.get("Metadata", {}).get(_SHA256),
    )


def _time(value: Any) -> str:
    return str(value.isoformat(timespec="milliseconds")).replace("+00:00", "Z")


def _batches(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    return (keys[start : start + _BATCH] for start in range(0, len(keys), _BATCH))
