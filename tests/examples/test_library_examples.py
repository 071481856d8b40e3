"""The examples of the library run as they are, and say what they promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.skipif(
    not EXAMPLES.is_dir(), reason="the examples are in the repository, and this is a copy of the tests"
)

SAID = {
    "custom_backend.py": """\
second-opinion: one says yes, the other ask me again after 1 messages
second-opinion: one says yes, the other ask me again after 3 messages
backend_unavailable
""",
    "dynamic_selection.py": """\
local: it is noon
native: noon (echo it is noon)
hybrid: noon (echo it is noon)
""",
    "registry_reload.py": """\
changed: added ['winds'], changed [], failed 0
before: ['tides']
after: ['tides', 'winds']
changed: added [], changed [], failed 1
failed: High water is at noon.
""",
    "telemetry_handlers.py": """\
conversation.iteration ['iteration'] {}
execute.start ['system_time'] {'tool': 'scale_execute'}
execute.stop ['duration'] {'tool': 'scale_execute', 'outcome': 'ok'}
backend.native.tool_call ['duration'] {'tool': 'scale_execute'}
conversation.iteration ['iteration'] {}
execute.start ['system_time'] {'tool': 'scale_execute'}
execute.stop ['duration'] {'tool': 'scale_execute', 'outcome': 'error'}
backend.native.tool_call ['duration'] {'tool': 'scale_execute'}
conversation.iteration ['iteration'] {}
Weighed. {'on_tool_result': 2}
""",
    "hybrid_offline.py": """\
tools: meter_execute, view, bash_tool, create_file, str_replace, archive_view, archive_bash_tool, archive_create_file, \
archive_str_replace, hand_over
The report is in the archive.
local/highest.txt: ['42']
local/readings.txt: ['17', '42', '23']
archive/highest.txt: ['42']
archive/report.txt: ['highest:', '42']
native: sandbox none, network host
local: sandbox none, network host
archive: sandbox none, network host
""",
}


@pytest.mark.parametrize("example", sorted(SAID))
def test_it_runs_and_says(example: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / example)]
    environment = {name: value for name, value in os.environ.items() if name != "SKILLD_MODE"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=environment, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    if example == "registry_reload.py":  # who subscribes is told beside what goes on
        assert sorted(done.stdout.splitlines()) == sorted(SAID[example].splitlines())
    else:
        assert done.stdout == SAID[example]
    assert list(tmp_path.iterdir()) == []


def test_a_backend_that_there_is_not_is_an_error_of_the_example(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "dynamic_selection.py"), "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "there is no backend 'nowhere'" in done.stderr
