
PRAGMA page_size=4096;

BEGIN TRANSACTION;

DROP TABLE IF EXISTS deleted;
CREATE TABLE deleted (session TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;

DROP TABLE IF EXISTS event;
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
INSERT INTO event VALUES('ses_aaaaaaaaaaaaaaaaaaaaaaaaaa',1,'turn.queued','2026-01-01T12:00:01.000Z','trn_aaaaaaaaaaaaaaaaaaaaaaaaaa',NULL,'{"text":"hello"}',2575521545);
INSERT INTO event VALUES('ses_aaaaaaaaaaaaaaaaaaaaaaaaaa',3,'model.message','2026-01-01T12:00:01.000Z','trn_aaaaaaaaaaaaaaaaaaaaaaaaaa',NULL,'{"text":"hi   ü"}',3502390440);
INSERT INTO event VALUES('ses_bbbbbbbbbbbbbbbbbbbbbbbbbb',1,'turn.queued','2026-01-01T12:00:01.000Z','trn_bbbbbbbbbbbbbbbbbbbbbbbbbb',NULL,'{"text":"waits"}',2239774259);

DROP TABLE IF EXISTS session;
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
INSERT INTO session VALUES('ses_aaaaaaaaaaaaaaaaaaaaaaaaaa',1000,'2026-01-01T12:00:00.000Z','2026-01-01T12:00:04.000Z',3,0,1688575149,'{"turns":1}',780105603);
INSERT INTO session VALUES('ses_bbbbbbbbbbbbbbbbbbbbbbbbbb',1001,'2026-01-01T12:00:00.000Z','2026-01-01T12:00:05.000Z',1,0,3402663048,'{}',1777502889);
INSERT INTO session VALUES('ses_cccccccccccccccccccccccccc',1002,'2026-01-01T12:00:00.000Z','2026-01-01T12:00:00.000Z',0,0,321537832,'{}',3192530267);
CREATE INDEX session_by_updated ON session (updated, id, owner_uid);

DROP TABLE IF EXISTS settings;
CREATE TABLE settings (
    session TEXT PRIMARY KEY,
    data TEXT NOT NULL,
    sum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO settings VALUES('ses_aaaaaaaaaaaaaaaaaaaaaaaaaa','{"title":"Grüße 0"}',4170053593);
INSERT INTO settings VALUES('ses_bbbbbbbbbbbbbbbbbbbbbbbbbb','{"title":"Grüße 1"}',2736990096);
INSERT INTO settings VALUES('ses_cccccccccccccccccccccccccc','{"title":"Grüße 2"}',3305333043);

DROP TABLE IF EXISTS turn;
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
INSERT INTO turn VALUES('ses_aaaaaaaaaaaaaaaaaaaaaaaaaa',1,'trn_aaaaaaaaaaaaaaaaaaaaaaaaaa','finished','2026-01-01T12:00:01.000Z','2026-01-01T12:00:02.000Z','k1','d','{"text":"hi"}',3026620261);
INSERT INTO turn VALUES('ses_bbbbbbbbbbbbbbbbbbbbbbbbbb',1,'trn_bbbbbbbbbbbbbbbbbbbbbbbbbb','queued','2026-01-01T12:00:01.000Z','2026-01-01T12:00:02.000Z','k1','d',NULL,2286728010);
CREATE UNIQUE INDEX turn_by_id ON turn (id);
CREATE UNIQUE INDEX turn_by_key ON turn (session, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX turn_unfinished ON turn (created, session, seq) WHERE status IN ('queued', 'running');

pragma user_version=1;
pragma application_id=1936419940;

COMMIT TRANSACTION;

PRAGMA application_id = 1936419940;
PRAGMA user_version = 1;
