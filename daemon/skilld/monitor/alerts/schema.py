"""The tables of alerts, and how a file of an older skilld becomes one of this."""

from __future__ import annotations

from typing import Final

__all__ = ["STEPS"]

_FIRST: Final = """
CREATE TABLE alert (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid INTEGER NOT NULL,
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    rule TEXT NOT NULL,
    category TEXT NOT NULL,
    severity TEXT NOT NULL,
    confidence REAL NOT NULL,
    direction TEXT NOT NULL,
    sample TEXT NOT NULL,
    event INTEGER NOT NULL,
    trace TEXT,
    span TEXT,
    action TEXT NOT NULL,
    first_us INTEGER NOT NULL,
    last_us INTEGER NOT NULL,
    count INTEGER NOT NULL,
    state TEXT NOT NULL,
    by_uid INTEGER,
    acknowledged_us INTEGER,
    note TEXT NOT NULL
) STRICT;
CREATE INDEX alert_by_key ON alert (uid, rule, agent, session, id);
CREATE INDEX alert_by_uid ON alert (uid, id);
CREATE INDEX alert_by_state ON alert (state, id);
CREATE TABLE untold (sink TEXT NOT NULL, alert INTEGER NOT NULL, PRIMARY KEY (sink, alert)) STRICT, WITHOUT ROWID;
CREATE TABLE place (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TRIGGER alert_removed AFTER DELETE ON alert BEGIN
    DELETE FROM untold WHERE alert = old.id;
END;
"""
# What is new in 2: whether sinks were to hear of it, and what only this daemon knows.
_SECOND: Final = """
ALTER TABLE alert ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
UPDATE alert SET told = 1;
CREATE TABLE secret (value TEXT NOT NULL) STRICT;
INSERT INTO secret VALUES (lower(hex(randomblob(16))));
"""
STEPS: Final = (_FIRST, _SECOND)
"""By the version that a file is of, what makes it one of the next."""
