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
    UPDATE used SET events = events - 1, bytes = bytes - length(old.name) - length(old.data) - 256
        WHERE uid = old.uid;
END;
INSERT INTO run VALUES (1, 1000, '0123456789abcdef0123456789abcdef', 'shop', 7, 7, 'shop.py', 'production');
INSERT INTO event VALUES (1, 1, 1000, 1, 1700000000000000, 1700000000100000, 'order', 'ORDERS', 'INFO', NULL, NULL, NULL, NULL, NULL, '{"text":"the card was declined"}');
INSERT INTO event VALUES (2, 1, 1000, 2, 1700000001000000, 1700000001100000, 'chat', 'LLM', 'INFO', 'ab', 'cd', NULL, 1500, 'ok', '{"gen_ai.request.model":"m","gen_ai.usage.input_tokens":10,"gen_ai.usage.output_tokens":20}');
INSERT INTO event VALUES (3, 1, 1000, 3, 1700000002000000, 1700000002100000, 'odd', 'LLM', 'INFO', 'ab', 'ce', NULL, 1500, 'ok', '{"gen_ai.request.model":7,"x":NaN}');
INSERT INTO used VALUES (1000, 3, 900);
PRAGMA user_version = 1;
