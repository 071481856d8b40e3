"""The actor that keeps the store and listens: what it opened is closed, whichever way it ends."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from monitor_event_kit import ME, batch
from skilld.monitor import keeper
from skilld.monitor.inspected import Inspection
from skilld.monitor.store import Written
from skilld.parts import Parts
from support import run
from tree_kit import open_tree


def test_a_start_that_fails_half_way_leaves_the_socket_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[bool] = []
    whole = keeper.open_inspection

    def fails_once(parts: Parts) -> Inspection:
        tries.append(True)
        if len(tries) == 2:
            raise RuntimeError("the rules are being written")
        return whole(parts)

    async def main() -> None:
        monkeypatch.setattr(keeper, "open_inspection", fails_once)
        async with open_tree(tmp_path) as tree:
            await tree.kill("MonitorKeeper")
            assert len(tries) == 3, "the one that failed has not kept the socket from the next"
            monitor = await tree.parts.monitor.wait()
            assert await monitor.write(batch(1, {}), ME) == Written(1, 0)

    run(main)


def test_what_is_a_day_old_was_imported_and_is_in_no_lag(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree, tree.http() as http:
            monitor = await tree.parts.monitor.wait()
            for number, age_s in enumerate((86_500, 30 * 365 * 86_400, 2)):
                event = {"time_us": int((time.time() - age_s) * 1_000_000)}
                assert (await monitor.write(batch(number, event), ME)).stored == 1
            page = (await http.get("/metrics")).text
        count, total_s = (
            float(re.findall(rf"^skilld_monitor_lag_seconds_{name} (.*)$", page, re.MULTILINE)[0])
            for name in ("count", "sum")
        )
        assert count == 1, "what has just been reported"
        assert total_s < 60

    run(main)
