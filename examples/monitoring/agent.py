"""A monitoring agent over three backends: it fetches logs in this process, analyzes them where told, reports hosted.

The same in three ways: a conversation for each step (`analyze`), one hybrid conversation with all three places
(`analyze_together`), and a conversation whose backend is chosen at run time by identical code (`chat`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from skill_actors.backends import ToolCall, ToolResult
from skill_actors.backends.anthropic import HostedClient
from skill_actors.library import (
    AskModel,
    ChatResponse,
    Session,
    SkillError,
    default_executor,
    new_anthropic,
    new_hybrid,
    new_native,
    start_session,
)
from skill_actors.native.code import NativeCode, load_beside
from skill_actors.skills import find, load

__all__ = ["Analysis", "Diagnosis", "Findings", "MonitoringAgent"]

LOGS: Final = "logs.json"
FETCH: Final = "log_fetcher_execute"
REPORT_SKILL: Final = "anthropic:xlsx@latest"
_WHOLE: Final = 10_000_000  # characters: what is handed on is not cut for the model's sake
_HEALTH: Final = re.compile(r"\bhealth\W+(CRITICAL|WARNING|ATTENTION|OK|NO DATA)\b")

ANALYZE: Final = f"Analyze the logs in {LOGS} with the log-analyzer skill, and give a summary with diagnostics."
REPORT: Final = """\
Create an incident report spreadsheet with:
1. an Executive Summary sheet with key metrics
2. an Error Details sheet with the error breakdown
3. a Recommendations sheet with action items

Analysis data:
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What the analyzer found: its verdict, and what the model said of it."""

    health: str
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Of one run. `report_files` are on this machine; there are none where no report was asked for."""

    logs: str
    analysis: Analysis
    report_files: Sequence[Path] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The short answer."""

    logs_fetched: int
    health_status: str
    report_files: Sequence[Path]


@dataclass(slots=True)
class _Results:
    """Keeps the last good result of each tool, whole, as it comes by."""

    of: dict[str, ToolResult] = field(default_factory=dict)

    def keep(self, call: ToolCall, result: ToolResult) -> None:
        if not result.is_error:
            self.of[call.name] = result

    def text(self, tool: str, why: str) -> str:
        if tool not in self.of:
            raise SkillError("execution_failed", why, details={"command": tool})
        return self.of[tool].content


class MonitoringAgent:
    """Diagnoses services by their log APIs.

    Args:
        model: answers; a function of the program or a Model.
        skills: the folder with log-fetcher and log-analyzer.
        reports: where downloaded reports go.
        model_name: for a Model.
        analyzer: the executor that runs the analyzer, "local" or "docker"; by default what fits the mode.
        analyzer_options: of that executor, such as the image of its containers.
        hosted: the client of the Skills and Files API; by default one with the key of the environment.

    """

    def __init__(
        self,
        model: AskModel,
        *,
        skills: Path,
        reports: Path,
        model_name: str = "",
        analyzer: str | None = None,
        analyzer_options: Mapping[str, Any] | None = None,
        hosted: HostedClient | None = None,
    ) -> None:
        self._model = model
        self._model_name = model_name
        self._reports = reports
        self._analyzer = analyzer or default_executor()
        self._options = analyzer_options or {}
        self._hosted = hosted
        found = load(skills).skills
        self._fetcher = _class_of(skills / "log-fetcher")
        self._skills = [skill for skill in map(found.get, ("log-analyzer",)) if skill is not None]
        if find(found, "log-analyzer") is None:
            raise SkillError("skill_not_found", f"no log-analyzer in {skills}", details={"name": "log-analyzer"})

    async def analyze(self, url: str, *, limit: int = 100, generate_report: bool = False) -> Findings:
        """Fetch, analyze and, if asked for, report: a conversation for each.

        Raises:
            SkillError: a step failed; nothing of it is left on this machine.

        """
        logs = await self._fetch(url, limit)
        analysis = await self._analyze(logs)
        files = await self._report(analysis) if generate_report else ()
        return Findings(logs=logs, analysis=analysis, report_files=files)

    async def analyze_together(self, url: str, *, limit: int = 100) -> Findings:
        """The same with a report, in one conversation: the model goes from place to place by itself."""
        results = _Results()
        places: list[str | tuple[str, Mapping[str, Any]]] = [
            ("native", {"classes": [self._fetcher]}),
            (self._analyzer, {"options": self._options}),
            ("anthropic", {"skills": [REPORT_SKILL], **self._client()}),
        ]
        async with new_hybrid(places, self._skills, on_tool_result=results.keep, max_output_chars=_WHOLE) as session:
            await self._ask(
                session,
                f"Fetch {limit} records from {url} with {FETCH}, save them as {LOGS}, analyze {LOGS} with the "
                f"log-analyzer skill, and then: {REPORT}(what you found)",
            )
            logs = results.text(FETCH, "the logs were not fetched")
            analysis = _analysis(results, session)
            return Findings(logs=logs, analysis=analysis, report_files=await self._download(session))

    async def diagnose_and_report(self, url: str) -> Diagnosis:
        """Fetch 500 records, analyze them, write the report."""
        found = await self.analyze(url, limit=500, generate_report=True)
        return Diagnosis(
            logs_fetched=_count(found.logs),
            health_status=found.analysis.health,
            report_files=found.report_files,
        )

    async def chat(self, message: str, backend: str, skills: Any = None, **options: Any) -> ChatResponse:
        """One message in a conversation of the backend that is named: the same code for all of them.

        Args:
            message: for the model.
            backend: "native", "local", "docker", "anthropic", or the name of one that a package brings.
            skills: classes for "native", hosted skills for "anthropic"; by default those of this agent.
            options: of the conversation.

        """
        own: Mapping[str, Any] = {"native": [self._fetcher], "anthropic": [REPORT_SKILL]}
        chosen = own.get(backend, self._skills) if skills is None else skills
        more = self._client() if backend == "anthropic" else {}
        async with start_session(backend, chosen, **more, **options) as session:
            return await self._ask(session, message)

    async def _fetch(self, url: str, limit: int) -> str:
        results = _Results()
        async with new_native([self._fetcher], on_tool_result=results.keep, max_output_chars=_WHOLE) as session:
            answer = await self._ask(session, f"fetch {url} --limit {limit}")
            return results.text(FETCH, f"the logs were not fetched: {answer.text}")

    async def _analyze(self, logs: str) -> Analysis:
        results = _Results()
        wanted = {"options": self._options, "on_tool_result": results.keep}
        async with start_session(self._analyzer, self._skills, **wanted) as session:
            await session.put_file(LOGS, logs.encode())  # goes with the conversation's folder, also on an error
            await self._ask(session, ANALYZE)
            return _analysis(results, session)

    async def _report(self, analysis: Analysis) -> Sequence[Path]:
        async with new_anthropic([REPORT_SKILL], **self._client()) as session:
            await self._ask(session, f"{REPORT}health: {analysis.health}\n{analysis.summary}")
            return await self._download(session)

    async def _download(self, session: Session) -> Sequence[Path]:
        self._reports.mkdir(parents=True, exist_ok=True)
        paths = []
        for file in session.created_files:
            if file.source == "anthropic":
                path = self._reports / Path(file.name).name
                path.write_bytes(await session.read_file(file.name, file.source))
                paths.append(path)
        return paths

    async def _ask(self, session: Session, message: str) -> ChatResponse:
        response, _ = await session.chat(message, self._model, model_name=self._model_name)
        answer: ChatResponse = response
        return answer

    def _client(self) -> dict[str, Any]:
        return {} if self._hosted is None else {"client": self._hosted}


def _analysis(results: _Results, session: Session) -> Analysis:
    said = session.messages[-1]["content"]
    text = "".join(block.get("text", "") for block in said if block["type"] == "text")
    for result in results.of.values():
        if found := _HEALTH.search(result.content):
            return Analysis(health=found[1], summary=text)
    raise SkillError("execution_failed", f"the logs were not analyzed: {text}", details={"command": "analyze.py"})


def _count(logs: str) -> int:
    """How many records there are: those of a JSON list, else lines."""
    try:
        records = json.loads(logs)
    except ValueError:
        return len(logs.splitlines())
    return len(records) if isinstance(records, list) else 1


def _class_of(skill: Path) -> type:
    """The class of the bundled native skill; a program's own would be imported as any class."""
    code = NativeCode(
        skill="log-fetcher", version="1", class_name="LogFetcher", root=str(skill), file="scripts/log_fetcher.py"
    )
    return load_beside(code)
