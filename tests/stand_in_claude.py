"""A stand-in for the `claude` program: its command line, its two protocols, and whatever can go wrong with them.

It runs with no more than an interpreter. Each line of a prompt may be a direction; other lines are words that it says
back. What it was started with goes to `stand-in.jsonl` in its configuration folder, one object a line.

    ask TOOL {json}     call a tool and ask before; what comes of it is told
    call TOOL {json}    call a tool that is not asked about
    helper              have a helper call a tool
    write TEXT          begin an answer and wait for an interrupt
    deaf                the same, and hear neither an interrupt nor SIGTERM
    spawn FILE          leave processes behind, in sessions of their own; their numbers go to FILE
    eat BYTES           take memory, and wait
    line BYTES          write a line that long
    noise               write lines that are no JSON, no object, and no UTF-8
    drip                give the result byte by byte
    result {json}       these fields in the result
    retry               say that the API is tried again
    background          begin a turn of its own after this one
    exit CODE TEXT      end at once, with this on stderr
    die SIGNAL          likewise by a signal
    silent              end with 0 and no result
    late CODE           end so after the turn, while nobody talks to it
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from typing import Any

VERSION = "2.1.197 (Claude Code)"
USAGE = {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2}
COST = 0.01
SLEEPER = """
import os, time
os.fork() and os._exit(0)
os.setsid()
print(os.getpid(), flush=True)
os.close(1)
time.sleep(600)
"""
VALUED = ("--resume", "--max-budget-usd")


class Ended(Exception):
    """The input is over."""


def say(**message: Any) -> None:
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()


class Program:
    def __init__(self, arguments: list[str]) -> None:
        self.arguments = arguments
        self.values = {name: arguments[arguments.index(name) + 1] for name in VALUED if name in arguments}
        self.duplex = "--input-format" in arguments
        self.config = os.environ["CLAUDE_CONFIG_DIR"]
        self.cost, self.answers, self.requests = 0.0, 0, 0
        self.resumed = self.values.get("--resume")
        self.session = str(uuid.uuid4()) if not self.resumed or "--fork-session" in arguments else self.resumed
        self.request = ""
        self.queue: list[dict[str, Any]] = []
        self.own_turn = self.drips = self.is_quiet = False
        self.late: int | None = None
        self.eaten = b""

    def log(self, **entry: Any) -> None:
        with open(os.path.join(self.config, "stand-in.jsonl"), "a") as file:
            file.write(json.dumps(entry) + "\n")

    @property
    def folder(self) -> str:
        name = "".join(letter if letter.isalnum() else "-" for letter in os.getcwd())
        return os.path.join(self.config, "projects", name)

    def file(self, session: str) -> str:
        return os.path.join(self.folder, session + ".jsonl")

    # Sessions

    def history(self) -> list[Any]:
        if not self.resumed or not os.path.exists(self.file(self.resumed)):
            return []
        with open(self.file(self.resumed)) as file:
            return [json.loads(line) for line in file]

    def remember(self, text: str) -> None:
        os.makedirs(self.folder, exist_ok=True)
        lines = self.history() if self.session != self.resumed else []
        with open(self.file(self.session), "a") as file:
            file.writelines(json.dumps(line) + "\n" for line in [*lines, text])
        self.resumed = self.session

    def is_lost(self) -> bool:
        return self.resumed is not None and not os.path.exists(self.file(self.resumed))

    # The conversation

    def main(self) -> int:
        self.log(argv=self.arguments, env=dict(os.environ), cwd=os.getcwd(), pid=os.getpid())
        if not self.duplex:
            return self.single()
        if self.is_lost():
            self.result(subtype="error_during_execution", is_error=True, errors=[self.lost()])
            return 1
        try:
            while True:
                message = self.queue.pop(0) if self.queue else self.read()
                if message["type"] == "user":
                    self.turn(message)
                    if self.late is not None:
                        time.sleep(0.05)
                        return self.late
        except Ended:
            return 0

    def single(self) -> int:
        if self.is_lost():
            print(self.lost(), file=sys.stderr)
            return 1
        self.is_quiet = True
        text = sys.stdin.read()
        fields = self.perform(text)
        if fields is None:
            return 0
        self.remember(text)
        self.result(**fields)
        return 1 if fields.get("is_error") else 0

    def lost(self) -> str:
        return f"No conversation found with session ID: {self.resumed}"

    def read(self) -> dict[str, Any]:
        line = sys.stdin.buffer.readline()
        if not line:
            raise Ended
        message: dict[str, Any] = json.loads(line)
        if message["type"] == "control_request":
            self.control(message)
        return message

    def control(self, message: dict[str, Any]) -> None:
        request = message["request"]
        if request["subtype"] == "initialize":
            self.log(initialize=request)
        answer = {"subtype": "success", "request_id": message["request_id"], "response": {}}
        say(type="control_response", response=answer)

    def say(self, **message: Any) -> None:
        if not self.is_quiet:
            say(session_id=self.session, uuid=str(uuid.uuid4()), parent_tool_use_id=None, **message)

    def turn(self, message: dict[str, Any]) -> None:
        content = message["message"]["content"]
        text = content if isinstance(content, str) else "\n".join(part["text"] for part in content if "text" in part)
        self.log(content=content)
        self.say(type="system", subtype="init", model="claude-stand-in", tools=["Bash"])
        self.begin()  # the first words may come before the message is said again
        say(type="user", message=message["message"], uuid=message["uuid"], isReplay=True, session_id=self.session)
        self.remember(text)
        fields = self.perform(text)
        if fields is not None:
            self.result(**fields)
        if self.own_turn:
            self.own_turn = False
            self.say(type="system", subtype="init", model="claude-stand-in")
            self.begin()
            self.end([{"type": "text", "text": "of my own"}])
            self.result(result="of my own")

    def begin(self) -> None:
        self.requests += 1
        self.request = f"msg_{self.requests}_{self.session[:8]}"
        started = {"id": self.request, "model": "claude-stand-in", "usage": {**USAGE, "output_tokens": 1}}
        self.say(type="stream_event", event={"type": "message_start", "message": started})

    def write(self, text: str) -> None:
        delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        self.say(type="stream_event", event=delta)

    def end(self, blocks: list[dict[str, Any]], stop: bool = True) -> None:
        for block in blocks:
            message = {"id": self.request, "model": "claude-stand-in", "content": [block], "usage": USAGE}
            self.say(type="assistant", message=message)
        if stop:
            self.stop()

    def stop(self) -> None:
        self.say(type="stream_event", event={"type": "message_delta", "delta": {}, "usage": USAGE})
        self.say(type="stream_event", event={"type": "message_stop"})
        self.cost += COST
        self.answers += 1

    def result(self, **fields: Any) -> None:
        cap = float(self.values.get("--max-budget-usd", "inf"))
        if self.cost > cap:
            told = f"Reached maximum budget (${cap:g})"
            fields = {"subtype": "error_max_budget_usd", "is_error": True, "errors": [told]}
        count = self.answers
        counts: dict[str, float] = {
            "inputTokens": 10 * count,
            "outputTokens": 5 * count,
            "cacheReadInputTokens": 3 * count,
        }
        counts |= {"cacheCreationInputTokens": 2 * count, "costUSD": self.cost}
        message = {
            "duration_ms": 7,
            "num_turns": count,
            "total_cost_usd": self.cost,
            "modelUsage": {"claude-stand-in[1m]": counts} if count else {},
            "usage": USAGE,
            "permission_denials": [],
            "session_id": self.session,
            "is_error": False,
            "subtype": "success",
            "stop_reason": "end_turn",
            "type": "result",
            **fields,
        }
        data = json.dumps(message).encode() + b"\n"
        for part in [data[at : at + 1] for at in range(len(data))] if self.drips else [data]:
            sys.stdout.buffer.write(part)
            sys.stdout.buffer.flush()

    # Directions

    def perform(self, text: str) -> dict[str, Any] | None:
        words: list[str] = []
        fields: dict[str, Any] = {}
        self.drips = False
        if not self.duplex:
            self.begin()
        for line in text.splitlines():
            name, _, rest = line.partition(" ")
            done = getattr(self, "do_" + name, None)
            if done is None:
                words.append(line)
                continue
            outcome = done(rest)
            if outcome is None:
                continue
            fields |= outcome
            if fields.get("stop"):
                return {name: value for name, value in fields.items() if name != "stop"}
            words += fields.pop("words", [])
        answer = "You said: " + " ".join(words)
        self.write(answer[:4])
        self.write(answer[4:])
        self.end([{"type": "text", "text": answer}])
        return {"result": answer, **fields}

    def do_ask(self, rest: str) -> dict[str, Any]:
        name, _, given = rest.partition(" ")
        call, number = json.loads(given), f"toolu_{uuid.uuid4().hex[:8]}"
        self.end([{"type": "tool_use", "id": number, "name": name, "input": call}], stop=False)
        asked = str(uuid.uuid4())
        request = {"subtype": "can_use_tool", "tool_name": name, "input": call, "tool_use_id": number}
        say(type="control_request", request_id=asked, request=request)
        self.stop()
        while True:
            message = self.read()
            if message["type"] == "control_request":
                say(type="control_cancel_request", request_id=asked)
                return self.interrupted()
            if message["type"] == "control_response" and message["response"]["request_id"] == asked:
                break
            if message["type"] == "user":
                self.queue.append(message)
        answer = message["response"].get("response", {})
        permitted = answer.get("behavior") == "allow"
        told = json.dumps(answer["updatedInput"]) if permitted else answer.get("message", "")
        self.tool_result(number, told, not permitted)
        denials = [] if permitted else [{"tool_name": name, "tool_use_id": number, "tool_input": call}]
        if answer.get("interrupt"):
            return {**self.interrupted(), "permission_denials": denials}
        self.begin()
        return {"words": [told], "permission_denials": denials}

    def do_call(self, rest: str) -> None:
        name, _, given = rest.partition(" ")
        number = f"toolu_{uuid.uuid4().hex[:8]}"
        self.end([{"type": "tool_use", "id": number, "name": name, "input": json.loads(given)}])
        self.tool_result(number, "done", False)
        self.begin()

    def do_helper(self, rest: str) -> None:
        block = {"type": "tool_use", "id": "toolu_helper", "name": "Bash", "input": {"command": "ls"}}
        message = {"id": "msg_helper", "model": "claude-small", "content": [block], "usage": USAGE}
        say(type="assistant", message=message, parent_tool_use_id="toolu_task", session_id=self.session)

    def tool_result(self, number: str, text: str, failed: bool) -> None:
        content = [{"type": "text", "text": text}]
        block = {"type": "tool_result", "tool_use_id": number, "content": content, "is_error": failed}
        self.say(type="user", message={"role": "user", "content": [block]})

    def do_write(self, rest: str) -> dict[str, Any]:
        self.write(rest)
        if not self.duplex:
            time.sleep(600)
        while True:
            message = self.read()
            if message["type"] == "control_request":
                return self.interrupted()

    def interrupted(self) -> dict[str, Any]:
        self.say(type="user", message={"role": "user", "content": [{"type": "text", "text": "[interrupted]"}]})
        fields = {"subtype": "error_during_execution", "is_error": True, "terminal_reason": "aborted_streaming"}
        return {**fields, "errors": ["stopped"], "stop": True}

    def do_deaf(self, rest: str) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.write("partly ")
        time.sleep(600)

    def do_spawn(self, rest: str) -> None:
        numbers = []
        for _ in range(3):
            child = subprocess.Popen([sys.executable, "-ISc", SLEEPER], stdout=subprocess.PIPE, start_new_session=True)
            assert child.stdout is not None
            numbers.append(int(child.stdout.readline()))
        with open(rest, "w") as file:
            file.write(json.dumps([os.getpid(), *numbers]))

    def do_eat(self, rest: str) -> None:
        self.eaten = b"x" * int(rest)
        time.sleep(600)

    def do_line(self, rest: str) -> None:
        sys.stdout.buffer.write(b"x" * int(rest) + b"\n")
        sys.stdout.buffer.flush()

    def do_noise(self, rest: str) -> None:
        sys.stdout.buffer.write(b"\n  \nwarning: \xff\xfe\n[1, 2]\n" + b"[" * 100_000 + b"\n")
        say(type="rate_limit_event", info={"left": 1})
        say(type="assistant")
        say(type="stream_event", event="odd")
        say(type="user", message={"content": [5, {"type": "tool_result", "content": 7}]})
        say(type="control_request", request_id="odd", request={"subtype": "something_new"})

    def do_drip(self, rest: str) -> None:
        self.drips = True

    def do_result(self, rest: str) -> Any:
        return json.loads(rest)

    def do_retry(self, rest: str) -> None:
        told = {"attempt": 2, "retry_delay_ms": 1500, "error_status": 529, "error": "overloaded"}
        self.say(type="system", subtype="api_retry", **told)

    def do_background(self, rest: str) -> None:
        self.own_turn = True

    def do_exit(self, rest: str) -> None:
        code, _, text = rest.partition(" ")
        sys.stderr.write(text)
        sys.stderr.flush()
        os._exit(int(code))

    def do_die(self, rest: str) -> None:
        os.kill(os.getpid(), getattr(signal, rest))
        time.sleep(600)

    def do_silent(self, rest: str) -> None:
        os._exit(0)

    def do_late(self, rest: str) -> None:
        self.late = int(rest)


def main() -> int:
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        print(os.environ.get("STAND_IN_VERSION", VERSION))
        return 0
    if arguments == ["--help"]:
        print(os.environ.get("STAND_IN_HELP", ""))
        return 0
    return Program(arguments).main()


if __name__ == "__main__":
    sys.exit(main())
