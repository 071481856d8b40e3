"""Running what a skill declares in `tests/`: as a conversation would, in the local backend, from a read-only copy.

Each case has an empty workspace of its own, the clean environment of commands and a time limit; its processes are
gone when its result is there. It is not kept from the host: whoever tests a skill runs its code.
"""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.authoring.folder import SkillFolder
from skill_actors.authoring.trial_file import BadTrial, Trial, read_trials, trial_files
from skill_actors.backends.base import (
    BackendUnavailable,
    Executor,
    OutputChunk,
    ToolCall,
    ToolContext,
    ToolResult,
    WorkspaceSpec,
)
from skill_actors.backends.local import open_local
from skill_actors.skills.base import Skill
from skill_actors.skills.copies import CopyError, SkillCopies

__all__ = ["TrialResult", "run_trials"]

_MAX_CHARS: Final = 1_000_000  # of both streams together; what a case prints beyond it is not compared
_SHOWN_CHARS: Final = 2_000
_MAX_FILE_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """What came of one case. It passed if there are no `failures`. `file` is relative to the skill's folder."""

    name: str
    file: str
    failures: tuple[str, ...] = ()
    exit_code: int | None = None
    duration_ms: int = 0
    stdout: str = ""
    stderr: str = ""

    @property
    def passed(self) -> bool:
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """As printed by `--json`."""
        return {**asdict(self), "failures": list(self.failures), "passed": self.passed}


def run_trials(
    folder: SkillFolder,
    *,
    only: str | None = None,
    timeout_s: float | None = None,
    on_result: Callable[[TrialResult], None] = lambda result: None,
) -> list[TrialResult]:
    """Run all cases, one after the other, each told to `on_result` when it is over. Blocks.

    A file that cannot be understood is a result that failed, as is a skill that cannot be loaded.

    Args:
        only: run the cases whose name holds this text.
        timeout_s: no case may take longer, whatever it declares.

    Raises:
        BackendUnavailable: if no commands can be run here.

    """
    skill = folder.skill
    if skill is None:
        assert folder.failure is not None
        message = f"the skill cannot be loaded: {folder.failure.diagnostics[0].message}"
        return _told([TrialResult(name="load", file="SKILL.md", failures=(message,))], on_result)
    trials, malformed = _declared(folder)
    results = _told(malformed, on_result)
    chosen = [trial for trial in trials if only is None or only in trial.name]
    if chosen:
        results += _perform(skill, chosen, timeout_s, on_result)
    return results


def _perform(
    skill: Skill, trials: Sequence[Trial], timeout_s: float | None, on_result: Callable[[TrialResult], None]
) -> list[TrialResult]:
    """What ends the whole comes out of nurseries in groups; whoever types commands waits for it alone."""
    try:
        return trio.run(_run, skill, trials, timeout_s, on_result, strict_exception_groups=True)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is not None:
            raise KeyboardInterrupt from None
        unavailable, rest = group.split(BackendUnavailable)
        if unavailable is None or rest is not None:
            raise
        raise BackendUnavailable(_first(unavailable)) from group


def _first(group: BaseExceptionGroup[Any]) -> str:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return str(first)


def _told(results: list[TrialResult], on_result: Callable[[TrialResult], None]) -> list[TrialResult]:
    for result in results:
        on_result(result)
    return results


def _declared(folder: SkillFolder) -> tuple[list[Trial], list[TrialResult]]:
    trials: list[Trial] = []
    malformed: list[TrialResult] = []
    for path in trial_files(folder):
        try:
            trials += read_trials(folder, path)
        except BadTrial as error:
            malformed.append(TrialResult(name="read", file=path, failures=(str(error),)))
    return trials, malformed


async def _run(
    skill: Skill, trials: Sequence[Trial], timeout_s: float | None, on_result: Callable[[TrialResult], None]
) -> list[TrialResult]:
    results: list[TrialResult] = []
    with tempfile.TemporaryDirectory(prefix="skill-test-", ignore_cleanup_errors=True) as place:
        copies = SkillCopies(Path(place) / "skills")
        try:
            copy = await copies.ensure(skill)
            async with open_local() as executor:
                await executor.check()
                for number, trial in enumerate(trials):
                    case = _Case(trial, skill, copy, Path(place) / f"workspace-{number}", timeout_s)
                    result = await case.run(executor)
                    results.append(result)
                    on_result(result)
        except CopyError as error:
            results.append(TrialResult(name="copy", file="SKILL.md", failures=(str(error),)))
            on_result(results[-1])
        finally:
            copies.collect(())  # they are read-only: removing the folder would fail
    return results


class _Case:
    """One case on its way."""

    def __init__(self, trial: Trial, skill: Skill, copy: Path, root: Path, timeout_s: float | None) -> None:
        self._trial = trial
        self._skill = skill
        self._copy = copy
        self._root = root
        self._timeout_s = min(trial.timeout_s, timeout_s or trial.timeout_s)
        self._said: dict[str, list[str]] = {"stdout": [], "stderr": []}

    async def run(self, executor: Executor) -> TrialResult:
        workspace = await executor.open(WorkspaceSpec(session="test", root=self._root))
        try:
            try:
                self._lay_files()
            except OSError as error:
                return self._result((f"its files cannot be made: {error.strerror}",))
            result = await workspace.execute(self._call(), self._context())
        finally:
            with trio.CancelScope(shield=True):
                await workspace.aclose()
        return self._result(tuple(self._judge(result)), result)

    def _lay_files(self) -> None:
        for path, content in self._trial.files.items():
            target = self._root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode())

    def _call(self) -> ToolCall:
        files = frozenset(self._skill.files)
        argv = [f"{self._copy}/{word}" if word in files else word for word in self._trial.argv]
        return ToolCall(id="test", name="bash_tool", input={}, argv=(*argv, *self._trial.arguments))

    def _context(self) -> ToolContext:
        return ToolContext(
            readable=[self._copy],
            timeout_s=self._timeout_s,
            max_output_chars=_MAX_CHARS,
            environment=self._trial.environment,
            emit=self._take,
        )

    async def _take(self, chunk: OutputChunk) -> None:
        self._said[chunk.stream].append(chunk.text)

    def _text(self, stream: str) -> str:
        return "".join(self._said[stream])

    def _result(self, failures: tuple[str, ...], result: ToolResult | None = None) -> TrialResult:
        return TrialResult(
            name=self._trial.name,
            file=self._trial.file,
            failures=failures,
            exit_code=None if result is None else result.exit_code,
            duration_ms=0 if result is None else result.duration_ms,
            stdout=_cut(self._text("stdout")),
            stderr=_cut(self._text("stderr")),
        )

    def _judge(self, result: ToolResult) -> list[str]:
        trial = self._trial
        if result.outcome == "timeout":
            return [f"it took longer than {self._timeout_s:g} s and was killed"]
        if result.exit_code is None:
            return [f"it was not run: {result.content}"]
        failures = []
        if result.exit_code != trial.exit_code:
            failures.append(f"exit code {result.exit_code} instead of {trial.exit_code}")
        for stream, whole, parts in (
            ("stdout", trial.stdout, trial.stdout_contains),
            ("stderr", trial.stderr, trial.stderr_contains),
        ):
            failures += _compared(stream, self._text(stream), whole, parts)
        for path, content in trial.creates.items():
            failures += self._file(path, content, ())
        for path, texts in trial.creates_containing.items():
            failures += self._file(path, None, texts)
        return failures

    def _file(self, path: str, whole: str | None, parts: Sequence[str]) -> list[str]:
        try:
            text = _read(self._root / path)
        except OSError as error:
            return [f"{path} was not made: {error.strerror or error}"]
        return _compared(path, text, whole, parts)


def _read(path: Path) -> str:
    if not stat.S_ISREG(path.stat().st_mode):  # nobody is left who could change that
        raise OSError("it is no regular file")
    with path.open("rb") as file:
        return file.read(_MAX_FILE_BYTES).decode("utf-8", "replace")


def _compared(what: str, text: str, whole: str | None, parts: Sequence[str]) -> list[str]:
    failures = []
    if whole is not None and text != whole:
        failures.append(f"{what} is {_quoted(text)} instead of {_quoted(whole)}")
    failures += [f"{what} lacks {_quoted(part)}" for part in parts if part not in text]
    return failures


def _quoted(text: str) -> str:
    shown = repr(text[:300])
    return shown if len(shown) <= 302 and len(text) <= 300 else f"{shown[:297]}..."


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
