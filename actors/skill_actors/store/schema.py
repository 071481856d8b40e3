"""The tables, and how an older file becomes a newer one.

`user_version` counts the steps of MIGRATIONS a file has been through; each step and its count commit together.
A file that has been through more steps than this program knows is left untouched.
Rows carry CRC-32 sums (see codec): SQLite itself does not notice a flipped bit inside a value. A session's head carries
what its rows add up to, since a row that is not found any more says nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import apsw

from skill_actors.store.base import StateTooNew, StoreError

__all__ = ["APPLICATION_ID", "MIGRATIONS", "SCHEMA_VERSION", "migrate"]

APPLICATION_ID: Final = 0x736B6C64  # "skld", at offset 68 of the file: what `file` and a person can tell it by

# settings live apart from session: they may hold a long system prompt, and session is rewritten by every append.
_VERSION_1: Final = """
CREATE TABLE session (
    id TEXT PRIMARY KEY,
    owner_uid INTEGER NOT NULL,
    created TEXT NOT NULL,
    updated TEXT NOT NULL,
    last_seq INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    head_sum INTEGER NOT NULL,
    totals TEXT NOT NULL,
    totals_sum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX session_by_updated ON session (updated, id, owner_uid);

CREATE TABLE settings (
    session TEXT PRIMARY KEY,
    data TEXT NOT NULL,
    sum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE turn (
    session TEXT NOT NULL,
    seq INTEGER NOT NULL,
    id TEXT NOT NULL,
    status TEXT NOT NULL,
    created TEXT NOT NULL,
    updated TEXT NOT NULL,
    idempotency_key TEXT,
    digest TEXT,
    result TEXT,
    sum INTEGER NOT NULL,
    PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX turn_by_id ON turn (id);
CREATE UNIQUE INDEX turn_by_key ON turn (session, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX turn_unfinished ON turn (created, session, seq) WHERE status IN ('queued', 'running');

CREATE TABLE event (
    session TEXT NOT NULL,
    seq INTEGER NOT NULL,
    type TEXT NOT NULL,
    time TEXT NOT NULL,
    turn TEXT,
    offset INTEGER,
    data TEXT NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;

-- Deleted sessions whose events are still being removed, a chunk at a time.
CREATE TABLE deleted (session TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
"""

# What a session's rows must add up to, kept in its head: a row's own sum cannot tell that a row is missing.
# Counts, and the sums of the rows' sums modulo 2^32; event_bytes is what `data` takes.
_VERSION_2: Final = """
ALTER TABLE session ADD COLUMN events INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN events_sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN event_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN turns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN turns_sum INTEGER NOT NULL DEFAULT 0;
UPDATE session SET
    (events, events_sum, event_bytes) = (
        SELECT count(*), coalesce(sum(sum), 0) & 4294967295, coalesce(sum(octet_length(data)), 0)
        FROM event WHERE event.session = session.id
    ),
    (turns, turns_sum) = (
        SELECT count(*), coalesce(sum(sum), 0) & 4294967295 FROM turn WHERE turn.session = session.id
    );
"""

# Approvals go with their session, which counts them as it counts its turns. The ledger goes with nothing: entries are
# only added; `ledger_hold` names those that are reservations still open; `ledger_sum` is what the entries of a key add
# up to, moved on in the same transaction. AUTOINCREMENT, since what stands open must never be mistaken for another.
_VERSION_3: Final = """
ALTER TABLE session ADD COLUMN approvals INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN approvals_sum INTEGER NOT NULL DEFAULT 0;

CREATE TABLE approval (
    id TEXT PRIMARY KEY,
    session TEXT NOT NULL,
    turn TEXT NOT NULL,
    call TEXT NOT NULL,
    owner_uid INTEGER NOT NULL,
    status TEXT NOT NULL,
    created TEXT NOT NULL,
    expires TEXT NOT NULL,
    updated TEXT NOT NULL,
    request TEXT NOT NULL,
    decision TEXT,
    sum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX approval_by_session ON approval (session, created);
CREATE INDEX approval_by_created ON approval (status, created, id);

CREATE TABLE ledger (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    hold INTEGER,
    time TEXT NOT NULL,
    day TEXT NOT NULL,
    session TEXT NOT NULL,
    turn TEXT NOT NULL,
    owner_uid INTEGER NOT NULL,
    parents TEXT NOT NULL,
    agent TEXT,
    model TEXT,
    nanousd INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    millis INTEGER NOT NULL,
    tool_calls INTEGER NOT NULL,
    priced INTEGER NOT NULL,
    data TEXT NOT NULL,
    sum INTEGER NOT NULL
) STRICT;
CREATE INDEX ledger_by_day ON ledger (day);

CREATE TABLE ledger_hold (id INTEGER PRIMARY KEY) STRICT;

CREATE TABLE ledger_sum (
    key TEXT PRIMARY KEY,
    nanousd INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    millis INTEGER NOT NULL,
    tool_calls INTEGER NOT NULL,
    unpriced INTEGER NOT NULL,
    held_nanousd INTEGER NOT NULL,
    held_tokens INTEGER NOT NULL,
    held_millis INTEGER NOT NULL,
    updated TEXT NOT NULL,
    sum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE cap (
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    limits TEXT NOT NULL,
    by_uid INTEGER NOT NULL,
    updated TEXT NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (name, source)
) STRICT, WITHOUT ROWID;
"""

# Documents and events of the workshop. `data` stands last, so that a head is read without what may be a megabyte behind
# it. `document_count` and `workshop_line` say what the rows of an owner and kind, and the line
# of events, must add up to.
_VERSION_4: Final = """
CREATE TABLE document (
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    created TEXT NOT NULL,
    updated TEXT NOT NULL,
    owner_uid INTEGER NOT NULL,
    expires TEXT,
    size_bytes INTEGER NOT NULL,
    data_sum INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    data TEXT NOT NULL,
    UNIQUE (kind, id)
) STRICT;
CREATE INDEX document_by_expiry ON document (kind, expires) WHERE expires IS NOT NULL;

CREATE TABLE document_count (
    kind TEXT NOT NULL,
    owner_uid INTEGER NOT NULL,
    documents INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    documents_sum INTEGER NOT NULL,
    PRIMARY KEY (kind, owner_uid)
) STRICT, WITHOUT ROWID;

CREATE TABLE workshop_event (
    seq INTEGER PRIMARY KEY,
    time TEXT NOT NULL,
    owner_uid INTEGER NOT NULL,
    topic TEXT NOT NULL,
    name TEXT NOT NULL,
    sum INTEGER NOT NULL,
    data TEXT NOT NULL
) STRICT;
CREATE INDEX workshop_event_by_owner ON workshop_event (owner_uid, seq, topic, name);

CREATE TABLE workshop_line (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    sum INTEGER NOT NULL
) STRICT;
"""

MIGRATIONS: Final = (_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4)
SCHEMA_VERSION: Final = len(MIGRATIONS)


def migrate(db: apsw.Connection, path: Path) -> None:
    """Bring the open file to SCHEMA_VERSION, each step in a transaction of its own.

    Raises:
        StateTooNew: if the file has been through steps this program does not know; nothing is changed.
        StoreError: if the file is a database of another program, or its version cannot be; nothing is changed.

    """
    version = _check(db, path)
    for step in range(version, SCHEMA_VERSION):
        with db:
            db.execute(MIGRATIONS[step])
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {step + 1}")


def _check(db: apsw.Connection, path: Path) -> int:
    version = int(db.pragma("user_version"))
    tables = db.execute("SELECT count(*) FROM sqlite_schema").get
    if int(db.pragma("application_id")) != APPLICATION_ID and (tables or version):
        raise StoreError(f"{path} is a database of another program; move it away, or choose another state directory")
    if version < 0:  # SQLite keeps it as a signed number: a flipped bit can make it so
        raise StoreError(f"{path} is damaged: its schema version is {version}; restore it from a backup")
    if version > SCHEMA_VERSION:
        raise StateTooNew(
            f"{path} has schema version {version}, this program knows up to {SCHEMA_VERSION}: "
            "run the newer program that wrote it, or restore a backup made before the upgrade"
        )
    return version
