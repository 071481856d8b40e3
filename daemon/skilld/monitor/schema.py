"""The tables of reported events, and how a file of an older skilld becomes one of this."""

from __future__ import annotations

from typing import Final

__all__ = ["PER_EVENT_BYTES", "STEPS"]

PER_EVENT_BYTES: Final = 256  # what an event takes of the file besides its name and data, about
_FIRST: Final = f"""
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    uid INTEGER NOT NULL,
    run TEXT NOT NULL,
    agent TEXT NOT NULL,
    pid INTEGER NOT NULL,
    sender_pid INTEGER NOT NULL,
    program TEXT NOT NULL,
    environment TEXT NOT NULL,
    UNIQUE (uid, run)
) STRICT;
CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    name TEXT NOT NULL,
    channel TEXT NOT NULL,
    level TEXT NOT NULL,
    trace TEXT,
    span TEXT,
    parent TEXT,
    duration_us INTEGER,
    status TEXT,
    data TEXT NOT NULL,
    UNIQUE (run, seq)
) STRICT;
CREATE INDEX event_by_uid ON event (uid, id);
CREATE INDEX event_by_time ON event (time_us);
CREATE INDEX event_by_trace ON event (trace) WHERE trace IS NOT NULL;
CREATE TABLE used (uid INTEGER PRIMARY KEY, events INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
CREATE VIRTUAL TABLE event_text USING fts5(name, data, content='event', content_rowid='id');
CREATE TRIGGER event_added AFTER INSERT ON event BEGIN
    INSERT INTO event_text (rowid, name, data) VALUES (new.id, new.name, new.data);
END;
CREATE TRIGGER event_removed AFTER DELETE ON event BEGIN
    INSERT INTO event_text (event_text, rowid, name, data) VALUES ('delete', old.id, old.name, old.data);
    UPDATE used SET events = events - 1, bytes = bytes - length(old.name) - length(old.data) - {PER_EVENT_BYTES}
        WHERE uid = old.uid;
END;
"""
# What is new in 2: whose conversation and what it cost, what was found, and who follows. What a model used is taken out
# of the data of old events once. Whoever writes fills the index of words, many events at a time.
_SECOND: Final = """
ALTER TABLE event ADD COLUMN agent TEXT;
ALTER TABLE event ADD COLUMN session TEXT;
ALTER TABLE event ADD COLUMN user TEXT;
ALTER TABLE event ADD COLUMN tags TEXT;
ALTER TABLE event ADD COLUMN masked TEXT;
ALTER TABLE event ADD COLUMN model TEXT;
ALTER TABLE event ADD COLUMN input_tokens INTEGER;
ALTER TABLE event ADD COLUMN output_tokens INTEGER;
ALTER TABLE event ADD COLUMN cost_usd REAL;
CREATE INDEX event_by_span ON event (span) WHERE span IS NOT NULL AND duration_us IS NOT NULL;
CREATE INDEX event_by_session ON event (session) WHERE session IS NOT NULL;
CREATE INDEX event_by_user ON event (user) WHERE user IS NOT NULL;
CREATE INDEX event_by_model ON event (model) WHERE model IS NOT NULL;
CREATE TABLE finding (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event INTEGER NOT NULL,
    rule TEXT NOT NULL,
    category TEXT NOT NULL,
    severity TEXT NOT NULL,
    alert TEXT NOT NULL,
    confidence REAL NOT NULL,
    direction TEXT NOT NULL,
    masked_sample TEXT NOT NULL,
    time_us INTEGER NOT NULL
) STRICT;
CREATE INDEX finding_by_event ON finding (event);
CREATE TABLE follower (name TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT;
DROP TRIGGER event_added;
CREATE TRIGGER event_findings_removed AFTER DELETE ON event BEGIN
    DELETE FROM finding WHERE event = old.id;
END;
UPDATE event SET
    model = CASE json_type(data, '$."gen_ai.request.model"') WHEN 'text'
        THEN json_extract(data, '$."gen_ai.request.model"') END,
    input_tokens = CASE json_type(data, '$."gen_ai.usage.input_tokens"') WHEN 'integer'
        THEN iif(
            typeof(data ->> 'gen_ai.usage.input_tokens') = 'integer', data ->> 'gen_ai.usage.input_tokens', NULL
        ) END,
    output_tokens = CASE json_type(data, '$."gen_ai.usage.output_tokens"') WHEN 'integer'
        THEN iif(
            typeof(data ->> 'gen_ai.usage.output_tokens') = 'integer', data ->> 'gen_ai.usage.output_tokens', NULL
        ) END
    WHERE span IS NOT NULL AND json_valid(data) AND json_type(data) = 'object';
"""
STEPS: Final = (_FIRST, _SECOND)
"""By the version that a file is of, what makes it one of the next."""
