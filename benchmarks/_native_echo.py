"""A native skill that gives back what it gets: worker processes import it from here."""

from __future__ import annotations

from skill_actors.native import Context, NativeSkill, SkillInfo

__all__ = ["Echo"]


class Echo(NativeSkill):
    skill_info = SkillInfo(name="echo", description="Echoes.", allowed_tools=["execute"])

    def execute(self, command: str, context: Context) -> str:
        return command
