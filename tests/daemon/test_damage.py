"""A damaged conversation in a running daemon: a clear answer for it, nothing for the others."""

from __future__ import annotations

from pathlib import Path

import apsw

from skilld.cli.checks import check_quarantine
from support import run
from tree_kit import open_tree


def hurt_journal(path: Path, change: str, *values: str) -> None:
    db = apsw.Connection(str(path))
    db.set_busy_timeout(5_000)
    db.execute(change, values)
    db.close()


def test_a_damaged_conversation_answers_a_clear_error_and_can_be_deleted_by_an_admin(tmp_path: Path) -> None:
    journal = tmp_path / "state" / "journal.db"

    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            hurt, gone, sound = [(await tree.ask(f"hello {number}"))["session"] for number in range(3)]
        hurt_journal(journal, "UPDATE event SET data = '{}' WHERE session = ? AND seq = 2", hurt)
        hurt_journal(journal, "DELETE FROM event WHERE session = ?", gone)
        async with open_tree(tmp_path) as tree, tree.http() as http:
            missing = await http.post(f"/v1/sessions/{gone}/messages", json={"text": "hello again"})
            assert missing.status_code == 500
            error = missing.json()["error"]
            assert (error["code"], error["retryable"]) == ("session_damaged", False)
            assert error["details"] == {"session": gone}
            assert gone in error["message"]
            path = f"/v1/sessions/{hurt}/events"
            for headers in ({}, {"accept": "text/event-stream"}):
                events = await http.get(path, params={"follow": "false"}, headers=headers)
                assert '"code":"session_damaged"' in events.text.splitlines()[-1 if not headers else -2]
            failed = await tree.ask("hello again", hurt)
            assert failed["result"]["error"]["code"] == "session_damaged"
            assert (await tree.ask("hello again", sound))["status"] == "finished"
            assert (await http.get("/v1/status")).json()["damaged"] == 2
            assert "skilld_journal_damaged 2.0" in (await http.get("/metrics")).text
            assert (await http.delete(f"/v1/sessions/{gone}")).status_code == 204
            assert (await http.get(f"/v1/sessions/{gone}")).status_code == 404

    run(main)
    found = list(check_quarantine(tmp_path / "state" / "quarantine"))
    assert [check.level for check in found] == ["warn", "warn"]
    assert "checksum" in " ".join(check.message for check in found)
