"""A native skill as a class of a program: worker processes import this module anew."""

from __future__ import annotations

from skill_actors.native import Context, NativeSkill, SkillInfo


class Greeter(NativeSkill):
    skill_info = SkillInfo(name="greeter", description="Greets.", allowed_tools=["execute", "write"])

    def execute(self, command: str, context: Context) -> str:
        """Greet somebody."""
        context.emit("thinking")
        return f"hello, {command}"

    def write(self, path: str, content: str, context: Context) -> str:
        context.resolve(path, write=True).write_text(content)
        return "written"
