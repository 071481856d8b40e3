"""The examples of docs/monitoring-patterns.md run as they are, each by itself, and print what was reported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples/monitoring_patterns"

pytestmark = pytest.mark.skipif(
    not EXAMPLES.is_dir(), reason="the examples are in the repository, and this is a copy of the tests"
)

FRAME = ("SYSTEM monitoring_enabled", "SYSTEM monitoring_disabled")
SAID = {
    "asgi_app.py": """\
http.response.start
http.response.body
API http_request_start {"method": "GET", "path": "/why"}
LLM LLM_call_finish
API http_request_finish {"method": "GET", "path": "/why", "status_code": 200}
API GET
""",
    "aspects.py": """\
0.25
AOP Orders.confirm {"success": true}
AOP Orders.confirm {"error": "ZeroDivisionError", "success": false}
""",
    "at_the_end.py": """\
SYSTEM nightly_run {"orders": 3}
""",
    "by_environment.py": """\
order-processing-staging
SYSTEM nightly_run {"orders": 3}
""",
    "decorated.py": """\
17
BUSINESS_LOGIC order_created {"order_id": 17}
BUSINESS_LOGIC process_order
""",
    "direct.py": """\
m says: HELLO
LLM LLM_call_finish
""",
    "django_app.py": """\
{'answer': 'm says: CATS'}
API http_request_start {"method": "GET", "path": "/ask/cats"}
LLM LLM_call_finish
API http_request_finish {"method": "GET", "path": "/ask/cats", "route": "/ask/<str:topic>", "status_code": 200}
API GET /ask/<str:topic>
""",
    "fastapi_app.py": """\
{'answer': 'm says: CATS: WHY?'}
API http_request_start {"method": "POST", "path": "/ask/cats"}
LLM LLM_call_finish
API http_request_finish {"method": "POST", "path": "/ask/cats", "route": "/ask/{topic}", "status_code": 200}
API POST /ask/{topic}
""",
    "flask_app.py": """\
{'answer': 'm says: WHY?'}
API http_request_start {"method": "POST", "path": "/ask"}
LLM LLM_call_finish
API http_request_finish {"method": "POST", "path": "/ask", "route": "/ask", "status_code": 200}
API POST /ask
""",
    "monitor_the_monitor.py": """\
True False 0
META monitoring_initialized
META monitoring_health
""",
    "proxies.py": """\
True
m says: HELLO
PROXY proxy_call_start {"method": "messages.create"}
LLM LLM_call_finish
PROXY proxy_call_finish {"method": "messages.create"}
""",
    "services.py": """\
m says: GENERATE AN ORDER CONFIRMATION
LLM LLM_call_finish
SERVICE LLMService.generate_response {"method": "generate_response"}
LLM LLM_call_error {"error": "ValueError"}
SERVICE llm_service_error {"method": "generate_response", "error": "ValueError"}
SERVICE LLMService.generate_response {"method": "generate_response", "error": "ValueError"}
""",
    "wsgi_app.py": """\
200 OK
m says: WHY
API http_request_start {"method": "GET", "path": "/why"}
LLM LLM_call_finish
API http_request_finish {"method": "GET", "path": "/why", "status_code": 200}
API GET
""",
}

Programs = dict[str, "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    """All of them at once, in a folder where nothing of the repository is."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ}
    folder = tmp_path_factory.mktemp("examples")
    started = {
        name: subprocess.Popen(
            [sys.executable, "-W", "error", str(EXAMPLES / name)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**kept, "HOME": str(folder)},
        )
        for name in SAID
    }
    yield started
    for program in started.values():
        program.kill()
        program.communicate()
    assert list(folder.iterdir()) == [], "nothing stays on the disk"


def test_there_is_no_other() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*SAID, "offline.py"}


@pytest.mark.parametrize("example", sorted(SAID))
def test_it_runs_and_says(example: str, programs: Programs) -> None:
    said, failed = programs[example].communicate(timeout=60)
    assert (programs[example].returncode, failed) == (0, "")
    assert [line for line in said.splitlines() if line not in FRAME] == SAID[example].splitlines()
