"""For tests of whatever uses a model: a fake Messages API over HTTP, and a scripted model without HTTP.

Both give the same answers, written as small values, and check requests as the API does:

    async with open_fake_api([Reply([Text("Hello")]), HttpError(529)]) as api:
        model = AnthropicModel(lambda: "any key", base_url=api.base_url)
        ...
        assert api.bodies[0]["messages"] == [...]

    model = ScriptedModel([Reply([ToolUse("bash_tool", {"command": "ls"})]), Reply([Text("done")])])

Hosted execution is part of both: `CodeExecution` in a reply runs a command in a container and leaves files, and the
server has the Skills and Files endpoints:

    Reply([CodeExecution("python make.py", files={"report.xlsx": data}), Text("Here it is.")])
    api.hosted.files.files, api.hosted.skills.custom(), api.hosted.expire()

Tokens, the prompt cache, context editing, compaction and the model's window are simulated as the API documents them,
and what was generated is on a bill:

    Meter(now=clock, facts=lambda model: ModelFacts(context_tokens=50_000, ...))
    api.bill, api.billed_nanousd, api.meter.cache

`FakeResponsesApi` gives such answers to the `codex` program, in the words of OpenAI's Responses API:

    async with open_fake_responses([Reply([ToolUse("exec_command", {"cmd": "ls"})]), Reply([Text("done")])]) as api:
        ...

`skill_actors.testing.backends` measures whether a backend does what it claims.

`serve_in_thread(FakeMessagesApi(...))` serves programs under test that are processes of their own, with either API, and
`python -m skill_actors.testing.fake_api` serves a shell.
"""

from skill_actors.testing.api_server import FakeMessagesApi, open_fake_api
from skill_actors.testing.hosted import FakeContainer, FakeHosted
from skill_actors.testing.load_reply import default_reply
from skill_actors.testing.metering import BillEntry, Meter
from skill_actors.testing.prompt_cache import PromptCache
from skill_actors.testing.replies import (
    Answer,
    CodeEdit,
    CodeExecution,
    Compaction,
    Cut,
    Failure,
    Garbage,
    HangUp,
    HttpError,
    Part,
    RedactedThinking,
    Reply,
    Respond,
    ServerToolUse,
    Stall,
    StreamError,
    Text,
    Thinking,
    ToolUse,
    Waitable,
    Whole,
    parse_answer,
)
from skill_actors.testing.request_check import check_request
from skill_actors.testing.responses_api import FakeResponsesApi, open_fake_responses
from skill_actors.testing.scripted import ScriptedModel
from skill_actors.testing.server import RecordedRequest, serve_in_thread

__all__ = [
    "Answer",
    "BillEntry",
    "CodeEdit",
    "CodeExecution",
    "Compaction",
    "Cut",
    "Failure",
    "FakeContainer",
    "FakeHosted",
    "FakeMessagesApi",
    "FakeResponsesApi",
    "Garbage",
    "HangUp",
    "HttpError",
    "Meter",
    "Part",
    "PromptCache",
    "RecordedRequest",
    "RedactedThinking",
    "Reply",
    "Respond",
    "ScriptedModel",
    "ServerToolUse",
    "Stall",
    "StreamError",
    "Text",
    "Thinking",
    "ToolUse",
    "Waitable",
    "Whole",
    "check_request",
    "default_reply",
    "open_fake_api",
    "open_fake_responses",
    "parse_answer",
    "serve_in_thread",
]
