"""The skills in force under the policy of this daemon, and approvals as the socket offers them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from skill_actors.skills import PublishedSkills, Skill
from skill_actors.skills.approvals import Approvals
from skill_actors.skills.base import SkillSnapshot
from skilld.config import ConfigError, SkillsConfig, load_config
from skilld.served_skills import ServedSkills, skill_approvals
from support import run
from tree_kit import open_tree

ONE, TWO = "1" * 64, "2" * 64


def published(digest: str = ONE) -> PublishedSkills:
    slot = PublishedSkills()
    put(slot, digest)
    return slot


def put(slot: PublishedSkills, digest: str) -> None:
    skill = Skill(name="tides", description="d", root=Path("/s"), digest=digest, allowed_tools=("Bash",), trusted=True)
    slot.snapshot = SkillSnapshot(generation=1, skills={"tides": skill})


def test_without_the_policy_skills_are_served_as_they_are_published(tmp_path: Path) -> None:
    slot = published()
    assert skill_approvals(SkillsConfig(), tmp_path) is None
    assert ServedSkills(slot).snapshot is slot.snapshot


def test_skills_are_judged_again_by_each_load_and_each_approval_and_at_no_other_time(tmp_path: Path) -> None:
    slot = published()
    approvals = skill_approvals(SkillsConfig(approval="version"), tmp_path)
    assert approvals is not None
    served = ServedSkills(slot, approvals)

    def is_trusted() -> bool:
        now = served.snapshot
        assert served.snapshot is now
        return now.skills["tides"].trusted

    assert not is_trusted()
    approvals.approve("tides", ONE)
    assert is_trusted()
    put(slot, TWO)
    assert not is_trusted()
    put(slot, ONE)
    assert is_trusted()
    approvals.revoke("tides")
    assert not is_trusted()
    assert slot.snapshot.skills["tides"].trusted, "what is published stays what the disk says"


def test_damaged_file_is_the_first_of_the_failures_until_somebody_approves(tmp_path: Path) -> None:
    (tmp_path / "approvals.json").write_text("{")
    approvals = Approvals(tmp_path / "approvals.json")
    served = ServedSkills(published(), approvals)
    approvals.read()
    assert [failure.diagnostics[0].code for failure in served.snapshot.failures] == ["approvals_damaged"]
    approvals.approve("tides", ONE)
    assert served.snapshot.failures == ()


def test_skill_with_secrets_is_one_that_asks(tmp_path: Path) -> None:
    text = '[skills]\napproval = "version"\n[skills.secrets.tides]\nT = { file = "t" }\n'
    (tmp_path / "skilld.toml").write_text(text)
    config = load_config(tmp_path / "skilld.toml", {"XDG_STATE_HOME": str(tmp_path)}, uid=1000)
    approvals = skill_approvals(config.skills, tmp_path)
    assert approvals is not None
    bare = Skill(name="tides", description="d", root=Path("/s"), digest=ONE, trusted=True)
    other = Skill(name="other", description="d", root=Path("/o"), digest=ONE, trusted=True)
    judged = approvals.judge(SkillSnapshot(skills={"tides": bare, "other": other})).skills
    assert [judged["tides"].trusted, judged["other"].trusted] == [False, True]


def test_policy_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    (tmp_path / "skilld.toml").write_text('[skills]\napproval = "never"\n')
    with pytest.raises(ConfigError, match=r"skills\.approval = 'never'.*'source' or 'version'"):
        load_config(tmp_path / "skilld.toml", {}, uid=1000)


@pytest.mark.parametrize("policy", ["source", "version"])
def test_what_cannot_be_approved_is_refused(tmp_path: Path, policy: str) -> None:
    folder = tmp_path / "skills/tides"
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text("---\nname: tides\ndescription: d\nallowed-tools: Bash\n---\nBody\n")

    async def main() -> list[Any]:
        found: list[Any] = []
        async with open_tree(tmp_path, skills_paths=[tmp_path / "skills"], skills_approval=policy) as tree:
            transport = httpx.AsyncHTTPTransport(uds=str(tmp_path / "s.sock"), verify=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://skilld", timeout=30) as http:
                digest = tree.parts.published.snapshot.skills["tides"].digest
                for name, given in (("tides", digest), ("tides", ONE), ("nope", digest)):
                    answer = await http.post(f"/v1/skills/{name}/approve", json={"digest": given})
                    found.append((answer.status_code, answer.json().get("error", {}).get("details")))
                found.append((await http.delete("/v1/skills/nope/approve")).status_code)
                place = tmp_path / "state/approvals.json"
                place.unlink(missing_ok=True)
                place.mkdir()
                found.append((await http.delete("/v1/skills/tides/approve")).json()["error"]["code"])
                found.append(digest)
        return found

    *found, digest = run(main)
    if policy == "source":
        assert found == [(409, {}), (409, {}), (409, {}), 409, "conflict"]
    else:
        assert found == [(200, None), (409, {"digest": digest}), (404, {}), 404, "storage_full"]
