"""A native skill as a class of a program: worker processes import this module anew."""

from __future__ import annotations

import contextlib
import threading

from skill_actors.native import AskFailed, Context, NativeSkill, SkillInfo


class Greeter(NativeSkill):
    skill_info = SkillInfo(name="greeter", description="Greets.", allowed_tools=["execute", "write"])

    def execute(self, command: str, context: Context) -> str:
        """Greet somebody."""
        context.emit("thinking")
        return f"hello, {command}"

    def write(self, path: str, content: str, context: Context) -> str:
        context.resolve(path, write=True).write_text(content)
        return "written"


class Asker(NativeSkill):
    """Asks an actor what it is told to, and says how that went."""

    skill_info = SkillInfo(name="asker", description="Asks.", allowed_tools=["execute", "write"])
    parallel = True

    def execute(self, command: str, context: Context, to: str = "keeper", timeout_s: float = 5.0) -> str:
        message = {"nan": float("nan"), "bytes": b"x", "long": "x" * (1 << 20)}.get(command, {"do": command})
        try:
            return f"answer: {context.ask(to, message, timeout_s=timeout_s)!r}"
        except AskFailed as failed:
            return f"{failed.kind}: {failed}"

    def write(self, path: str, content: str, context: Context) -> str:
        context.tell(path, {"do": content})
        return "told"


class Threaded(NativeSkill):
    """Asks from several threads at the same time, emitting between, and one of them is left behind."""

    skill_info = SkillInfo(name="threaded", description="Asks.", allowed_tools=["execute"])

    def execute(self, command: str, context: Context) -> str:
        found: list[str] = []

        def ask(number: int) -> None:
            context.emit(f"{number}")
            found.append(context.ask("keeper", {"do": "echo", "value": number}))

        def ask_late() -> None:
            with contextlib.suppress(AskFailed, RuntimeError):
                context.ask("keeper", {"do": "nap"})

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        threading.Thread(target=ask_late).start()
        return " ".join(map(str, sorted(found)))
