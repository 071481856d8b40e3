"""A fake of OpenAI's API: chat completions, responses, embeddings and completions, whole and streamed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["CHAT", "CHAT_USAGE", "EMBEDDINGS", "MODEL", "RESPONSE", "TOOL_CALL", "chunk", "serving_openai"]

MODEL = "gpt-5-mini"
CHAT_USAGE = {
    "prompt_tokens": 30,
    "completion_tokens": 7,
    "total_tokens": 37,
    "prompt_tokens_details": {"cached_tokens": 20},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
MESSAGE = {"role": "assistant", "content": "an answer", "refusal": None}
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": MODEL,
    "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None, "message": MESSAGE}],
    "usage": CHAT_USAGE,
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": MODEL,
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "an answer", "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 30,
        "input_tokens_details": {"cached_tokens": 20},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 37,
    },
}
EMBEDDINGS = {
    "object": "list",
    "model": "text-embedding-3-small",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
    "usage": {"prompt_tokens": 4, "total_tokens": 4},
}


def chunk(**changes: Any) -> dict[str, Any]:
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": []}
    return {**base, **changes}


def choice(text: str | None, reason: str | None = None) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": reason}]


def tool_choice(**call: Any) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": {"tool_calls": [{"index": 0, **call}]}, "finish_reason": None}]


COMPLETION = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1,
    "model": MODEL,
    "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None, "text": "an answer"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}

PIECES = {
    "/v1/chat/completions": [
        chunk(choices=choice("an ")),
        chunk(choices=choice("answer")),
        chunk(choices=choice(None, "stop")),
        chunk(usage=CHAT_USAGE),
    ],
    "/v1/responses": [
        {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "status": "queued", "usage": None}},
        {"type": "response.completed", "sequence_number": 1, "response": RESPONSE},
    ],
}
TOOL_PIECES = [
    chunk(choices=tool_choice(id="call_1", function={"name": "look", "arguments": ""})),
    chunk(choices=tool_choice(function={"arguments": '{"wh'})),
    chunk(choices=tool_choice(function={"arguments": 'ere": "here"}'})),
    chunk(choices=choice(None, "tool_calls")),
]
TOOL_CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"where": "here"}'}}
TOOLS_CHAT = {
    **CHAT,
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "logprobs": None,
            "message": {"role": "assistant", "content": None, "refusal": None, "tool_calls": [TOOL_CALL]},
        }
    ],
}
WHOLE = {
    "/v1/chat/completions": CHAT,
    "/v1/responses": RESPONSE,
    "/v1/embeddings": EMBEDDINGS,
    "/v1/completions": COMPLETION,
}


def named(piece: dict[str, Any]) -> str:
    """The line of an event's name: those of the Responses API have one, chunks of a chat have none."""
    return f"event: {piece['type']}\n" if "type" in piece else ""


class Api(BaseHTTPRequestHandler):
    """Answers as OpenAI's API does; to the model `broken` with status 400, to `tools` with calls of tools."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if asked["model"] == "broken":
            return self.reply(400, "application/json", json.dumps({"error": {"message": "no"}}).encode())
        path = self.path.partition("?")[0].replace("/openai/deployments/mine", "/v1")
        if asked.get("stream"):
            pieces = TOOL_PIECES if asked["model"] == "tools" else PIECES[path]
            events = [
                *(named(piece) + f"data: {json.dumps(piece)}" for piece in pieces),
                "data: [DONE]",
            ]
            return self.reply(200, "text/event-stream", "".join(event + "\n\n" for event in events).encode())
        whole = TOOLS_CHAT if asked["model"] == "tools" else WHOLE[path]
        return self.reply(200, "application/json", json.dumps(whole).encode())

    def reply(self, status: int, kind: str, raw: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


@contextmanager
def serving_openai() -> Iterator[str]:
    """The base URL for a client, while it is served in a thread."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join(10)
