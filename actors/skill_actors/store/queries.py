"""What the reads of sessions ask SQLite, where it takes more than a line."""

from __future__ import annotations

from typing import Final

from skill_actors.store.codec import EVENT_COLUMNS, TURN_COLUMNS

__all__ = [
    "COUNT_EVENTS",
    "EVENTS",
    "IDS",
    "SUMS",
    "TURNS",
    "TURN_OF_KEY",
    "UNINDEXED",
    "UNLISTED",
    "UNLISTED_APPROVALS",
]

# What the head says that the rows add up to, and what those that are found do.
SUMS: Final = """
SELECT s.turns, s.turns_sum, t.rows, t.sum, s.events, s.events_sum, e.rows, e.sum,
    s.approvals, s.approvals_sum, a.rows, a.sum
FROM session AS s,
    (SELECT count(*) AS rows, coalesce(sum(sum), 0) & 4294967295 AS sum FROM approval WHERE session = ?1) AS a,
    (SELECT count(*) AS rows, coalesce(sum(sum), 0) & 4294967295 AS sum FROM turn WHERE session = ?1) AS t,
    (SELECT count(*) AS rows, coalesce(sum(sum), 0) & 4294967295 AS sum FROM event WHERE session = ?1) AS e
WHERE s.id = ?1
"""
# Turns that one of the indexes does not lead to.
UNINDEXED: Final = """
SELECT seq FROM turn AS t WHERE session = ?1 AND (
    NOT EXISTS (SELECT 1 FROM turn AS i INDEXED BY turn_by_id WHERE i.id = t.id AND i.seq = t.seq)
    OR idempotency_key IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM turn AS i INDEXED BY turn_by_key
        WHERE i.session = ?1 AND i.idempotency_key = t.idempotency_key AND i.seq = t.seq
    )
    OR status IN ('queued', 'running') AND NOT EXISTS (
        SELECT 1 FROM turn AS i INDEXED BY turn_unfinished
        WHERE i.status IN ('queued', 'running') AND i.created = t.created AND i.session = ?1 AND i.seq = t.seq
    )
)
"""
UNLISTED: Final = """
SELECT 1 FROM session AS s WHERE id = ?1 AND NOT EXISTS (
    SELECT 1 FROM session AS i INDEXED BY session_by_updated WHERE i.updated = s.updated AND i.id = ?1
)
"""
# The index by session gives the approvals that the head counts; lists of them go by the other one.
UNLISTED_APPROVALS: Final = """
SELECT 1 FROM approval AS a WHERE session = ?1 AND NOT EXISTS (
    SELECT 1 FROM approval AS i INDEXED BY approval_by_created
    WHERE i.status = a.status AND i.created = a.created AND i.id = a.id
)
"""
# Behind ?2, as far as ?3, at most ?4; with the head in every row, so that both are of one moment.
EVENTS: Final = f"""
SELECT {EVENT_COLUMNS}, events, last_seq
FROM (SELECT id AS head, events, last_seq FROM session WHERE id = ?1)
    LEFT JOIN event ON event.session = head AND seq > ?2 AND seq <= ?3
ORDER BY seq LIMIT ?4
"""
# All, and those behind ?2 as far as ?3. The plus keeps SQLite from searching for the numbers: it goes through all.
COUNT_EVENTS: Final = """
SELECT count(*), count(*) FILTER (WHERE +seq > ?2 AND +seq <= ?3) FROM event WHERE session = ?1
"""
TURNS: Final = f"""
SELECT {TURN_COLUMNS}, turns
FROM (SELECT id AS head, turns FROM session WHERE id = ?1) LEFT JOIN turn ON turn.session = head ORDER BY seq
"""
# The number of the turn under the key ?2. The count needs all turns, so SQLite goes through them and not the index.
TURN_OF_KEY: Final = """
SELECT turns, t.rows, t.seq
FROM session, (
    SELECT count(*) AS rows, max(seq) FILTER (WHERE idempotency_key = ?2) AS seq FROM turn WHERE session = ?1
) AS t
WHERE session.id = ?1
"""
IDS: Final = """
SELECT id FROM session WHERE id > ?1 UNION SELECT session FROM settings WHERE session > ?1 ORDER BY 1 LIMIT ?2
"""
