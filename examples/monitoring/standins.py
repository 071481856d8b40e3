"""Stand-ins for the outside world, so that the example runs anywhere: a log API, and a model with hosted code.

The model is a function of what was said so far. It calls the same tools as a real one would; the spreadsheet that the
hosted container would make is made here.
"""

from __future__ import annotations

import io
import json
import re
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from skill_actors.testing import Answer, CodeExecution, Reply, Text, ToolUse

__all__ = ["answer", "log_api", "spreadsheet"]

_URL = re.compile(r"(http://\S+)")
_HEALTH = re.compile(r"\bhealth\W+(CRITICAL|WARNING|ATTENTION|OK|NO DATA)\b")


@contextmanager
def log_api(*, errors: int = 8) -> Iterator[str]:
    """A monitoring service on loopback, whose records are errors in so many of a hundred cases; its address."""

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path != "/api/logs":
                self.send_error(404)
                return
            body = json.dumps([_record(n, errors) for n in range(_limit(parts.query))]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/api/logs"
        finally:
            server.shutdown()
            thread.join()


def _limit(query: str) -> int:
    return int(parse_qs(query).get("limit", ["100"])[0])


def _record(number: int, errors: int) -> Mapping[str, object]:
    bad = number % 100 < errors
    return {
        "time": f"2026-11-21T{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}Z",
        "level": "error" if bad else "info",
        "message": f"payment {number} failed: connection refused" if bad else f"payment {number} settled",
    }


def answer(body: Mapping[str, Any]) -> Answer:
    """What the model answers to a request: one step after the other, by what has been done."""
    tools = {tool["name"] for tool in body.get("tools", ())}
    asked, results = _so_far(body["messages"])
    hosted = "code_execution" in tools
    if "log_fetcher_execute" in tools and not _has(results, "log_fetcher_execute"):
        return Reply([ToolUse("log_fetcher_execute", {"command": _fetch_command(asked)})])
    if "bash_tool" in tools:
        if "log_fetcher_execute" in tools and not _has(results, "create_file"):
            logs = _last(results, "log_fetcher_execute")
            return Reply(
                [ToolUse("create_file", {"path": "logs.json", "file_text": logs, "description": "hands the logs over"})]
            )
        if not _has(results, "bash_tool"):
            script = _folder_of("log-analyzer", str(body.get("system", ""))) + "/scripts/analyze.py"
            path = re.search(r"logs in (\S+)", asked)
            command = f"python3 '{script}' '{path[1] if path else 'logs.json'}'"
            return Reply([ToolUse("bash_tool", {"command": command, "description": "analyzes the logs"})])
    if hosted:
        health = _health(_last(results, "bash_tool") or asked)
        return Reply([Text("I write the report. "), _report(health), Text(f"The report is written; health {health}.")])
    if _has(results, "bash_tool"):
        return Reply([Text(f"The service is {_health(_last(results, 'bash_tool'))}. Payments fail: look at the peer.")])
    return Reply([Text("The logs are fetched." if results else "There is nothing to do.")])


def _fetch_command(asked: str) -> str:
    """Of `fetch URL --limit N`, or of a sentence with a number of records and a URL."""
    if asked.startswith("fetch "):
        return asked
    url, limit = _URL.search(asked), re.search(r"(\d+) records", asked)
    return f"fetch {url[1] if url else '?'} --limit {limit[1] if limit else 100}"


def _so_far(messages: Sequence[Mapping[str, Any]]) -> tuple[str, list[tuple[str, str]]]:
    """What the user said last, and the results since: name of the tool and text."""
    asked, names = "", dict[str, str]()
    results: list[tuple[str, str]] = []
    for message in messages:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for block in blocks:
            if block["type"] == "text" and message["role"] == "user":
                asked, results = str(block["text"]), []
            elif block["type"] == "tool_use":
                names[block["id"]] = str(block["name"])
            elif block["type"] == "tool_result":
                results.append((names[block["tool_use_id"]], _text(block["content"])))
    return asked, results


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    assert isinstance(content, list)
    return "".join(str(block.get("text", "")) for block in content)


def _has(results: Sequence[tuple[str, str]], tool: str) -> bool:
    return any(name == tool for name, _ in results)


def _last(results: Sequence[tuple[str, str]], tool: str) -> str:
    return next((text for name, text in reversed(results) if name == tool), "")


def _folder_of(skill: str, system: str) -> str:
    found = re.search(r"<location>([^<]*/)SKILL\.md</location>", system.split(f"<name>{skill}</name>")[-1])
    return found[1].rstrip("/") if found else "."


def _health(text: str) -> str:
    found = _HEALTH.search(text)
    return found[1] if found else "UNKNOWN"


def _report(health: str) -> CodeExecution:
    sheets = {
        "Executive Summary": [["Health", health], ["Service", "payments"]],
        "Error Details": [["Message", "Share"], ["payment failed: connection refused", "all errors"]],
        "Recommendations": [["Action"], ["Restore the connection to the bank."]],
    }
    name = "incident_report.xlsx"
    return CodeExecution("python /skills/xlsx/make_report.py", stdout=name, files={name: spreadsheet(sheets)})


def spreadsheet(sheets: Mapping[str, Sequence[Sequence[str]]]) -> bytes:
    """An .xlsx file with these sheets of texts (ECMA-376, the least that readers take)."""
    buffer = io.BytesIO()
    main = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    relations = "http://schemas.openxmlformats.org/package/2006/relationships"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    numbers = range(1, len(sheets) + 1)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        parts = "".join(
            f'<Override PartName="/xl/worksheets/sheet{n}.xml" ContentType="{main}.worksheet+xml"/>' for n in numbers
        )
        archive.writestr(
            "[Content_Types].xml",
            '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{main}.sheet.main+xml"/>{parts}</Types>',
        )
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{relations}"><Relationship Id="r1" Type="{office}/officeDocument" '
            'Target="xl/workbook.xml"/></Relationships>',
        )
        named = "".join(
            f'<sheet name="{escape(name)}" sheetId="{n}" r:id="r{n}"/>' for n, name in zip(numbers, sheets, strict=True)
        )
        archive.writestr(
            "xl/workbook.xml", f'<workbook xmlns="{space}" xmlns:r="{office}"><sheets>{named}</sheets></workbook>'
        )
        targets = "".join(
            f'<Relationship Id="r{n}" Type="{office}/worksheet" Target="worksheets/sheet{n}.xml"/>' for n in numbers
        )
        archive.writestr("xl/_rels/workbook.xml.rels", f'<Relationships xmlns="{relations}">{targets}</Relationships>')
        for n, rows in zip(numbers, sheets.values(), strict=True):
            archive.writestr(f"xl/worksheets/sheet{n}.xml", _sheet(space, rows))
    return buffer.getvalue()


def _sheet(space: str, rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(
        "<row>" + "".join(f'<c t="inlineStr"><is><t>{escape(text)}</t></is></c>' for text in row) + "</row>"
        for row in rows
    )
    return f'<worksheet xmlns="{space}"><sheetData>{cells}</sheetData></worksheet>'
