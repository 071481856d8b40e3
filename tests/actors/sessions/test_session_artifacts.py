"""Artifacts of a conversation over its turns: how many there may be, how long they last, what their copies may take."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import trio

from session_kit import ME, open_kit
from skill_actors.backends.base import ToolCall, Workspace
from skill_actors.errors import Refused
from skill_actors.files import Quota, Usage
from skill_actors.files.artifacts import ArtifactLimits
from skill_actors.sessions.session_artifacts import SessionArtifacts, merged_artifacts
from skill_actors.testing import Reply, ScriptedModel, Text
from support import run


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"name": f"a{number}", "content": str(number)} for number in range(count)]


class Place:
    """A workspace that runs nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root


def test_a_message_with_one_artifact_too_many_is_refused_and_the_conversation_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([Text("done")])])) as kit:
            session = (await kit.manager.create(ME.uid, {"artifacts": numbered(100)}))["id"]
            with pytest.raises(Refused, match="at most 100") as caught:
                await kit.manager.submit(session, ME, "go", artifacts=[{"name": "more", "content": "x"}])
            assert (caught.value.code, caught.value.details["artifact_error"]) == ("bad_request", "artifact_invalid")
            again = await kit.manager.submit(session, ME, "go", artifacts=[{"name": "a7", "content": "x"}])
            assert (await kit.manager.get_turn(again.turn, ME, wait_s=20))["status"] == "finished"

    run(main)


def test_what_has_expired_is_not_offered_and_makes_room(tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel([Reply([Text("done")])])
        async with open_kit(tmp_path, model, around={"artifacts": ArtifactLimits(lifetime_s=0.0)}) as kit:
            session = (await kit.manager.create(ME.uid, {"artifacts": numbered(100)}))["id"]
            accepted = await kit.manager.submit(session, ME, "go", artifacts=[{"name": "more", "content": "x"}])
            assert (await kit.manager.get_turn(accepted.turn, ME, wait_s=20))["status"] == "finished"
            assert "<artifact" not in str(model.requests[0].system)

    run(main)


def test_what_is_given_anew_replaces_and_what_has_gone_is_not_offered(tmp_path: Path) -> None:
    async def main() -> None:
        artifacts = SessionArtifacts(ArtifactLimits())
        first = artifacts.begin([{"name": "a", "content": "1"}, {"name": "b", "content": "2"}], [])
        second = artifacts.begin([{"name": "b", "content": "2"}, {"name": "c", "content": "3"}], [])
        assert ('name="a"' in first, 'name="a"' in second, 'name="c"' in second) == (True, False, True)

    run(main)


def test_copies_of_one_call_together_have_to_fit(tmp_path: Path) -> None:
    async def main() -> None:
        artifacts = SessionArtifacts(ArtifactLimits())
        artifacts.begin([{"name": name, "content": "x" * 60} for name in "abc"], [])
        call = ToolCall(id="1", name="bash_tool", input={"command": "cat file://a file://b file://c"})
        place = cast("Workspace", Place(tmp_path))
        with pytest.raises(Refused) as caught:
            await artifacts.placed(call, place, tmp_path, Quota(limit_bytes=150), Usage())
        assert caught.value.code == "storage_full"
        assert sorted(
            path.name for path in await trio.to_thread.run_sync(list, (tmp_path / "artifacts").iterdir())
        ) == [
            "a",
            "b",
        ]

    run(main)


def test_inline_content_of_a_session_is_bounded_as_a_whole() -> None:
    before = [{"name": f"a{number}", "content": "x" * (1 << 20)} for number in range(4)]
    with pytest.raises(Refused) as caught:
        merged_artifacts(before, [{"name": "more", "content": "x"}], 3600)
    assert caught.value.code == "too_large"
