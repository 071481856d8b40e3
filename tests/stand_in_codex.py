"""A stand-in for the `codex` program, for tests: `codex app-server` and `codex exec --json`, as 0.169.0 speaks them.

What it does is said by the first word of a prompt; see `Agent`. It keeps its threads in CODEX_HOME. STAND_IN in its
environment says what is wrong with the program itself: `old`, `deaf`, `no-server`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

THREADS = Path(os.environ.get("CODEX_HOME", "/nonexistent")) / "threads.json"
EXEC_HELP = "--json --skip-git-repo-check --profile --sandbox --cd --output-schema --image"
INPUT, OUTPUT = 100, 20  # tokens of each answer


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def hear() -> dict[str, Any]:
    line = sys.stdin.readline()
    if not line:
        raise SystemExit(0)
    message: dict[str, Any] = json.loads(line)
    return message


def threads() -> dict[str, int]:
    return json.loads(THREADS.read_text()) if THREADS.exists() else {}


def keep(thread: str, answers: int) -> None:
    new = THREADS.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps({**threads(), thread: answers}))
    new.replace(THREADS)


def leave_children() -> None:
    """Two processes that nobody waits for: one in a session of its own, one whose parent is gone."""
    subprocess.Popen(["setsid", "sleep", "86399"])
    subprocess.Popen(["sh", "-c", "sleep 86399 & exit"]).wait()


class Agent:
    """One turn, by its first word: say TEXT, run COMMAND, patch PATH, tool, stall, hang, children, garbage, huge,
    vanish, fail WORD, exit CODE, odd (a question nobody knows), again (an error on the way), none (no answer)."""

    def __init__(self, thread: str) -> None:
        self.thread = thread
        self.answers = threads().get(thread, 0)

    def perform(self, prompt: str) -> None:
        word, _, rest = prompt.partition(" ")
        getattr(self, f"do_{word}", self.do_say)(rest or word)

    def do_say(self, text: str) -> None:
        self.message(text)
        self.spend()
        self.end()

    def do_run(self, command: str) -> None:
        item = {"type": "commandExecution", "command": command, "cwd": os.getcwd(), "status": "inProgress"}
        self.call(item, "item/commandExecution/requestApproval", {"command": command, "cwd": os.getcwd()}, self.really)

    def really(self, item: dict[str, Any]) -> dict[str, Any]:
        done = subprocess.run(["sh", "-c", item["command"]], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        status = "failed" if done.returncode else "completed"
        return {"aggregatedOutput": done.stdout + done.stderr, "exitCode": done.returncode, "status": status}

    def do_patch(self, path: str) -> None:
        changes = [{"path": path, "kind": {"type": "add"}, "diff": "new"}, {"path": "b", "kind": {"type": "update"}}]
        item = {"type": "fileChange", "changes": changes, "status": "inProgress"}
        self.call(item, "item/fileChange/requestApproval", {"grantRoot": None}, lambda _: {"status": "completed"})

    def do_tool(self, _: str) -> None:
        item = {"type": "mcpToolCall", "server": "t", "tool": "echo", "arguments": {"x": 1}, "status": "inProgress"}
        result = {"status": "completed", "result": {"content": [{"type": "text", "text": "echoed"}]}}
        meta = {"codex_approval_kind": "mcp_tool_call", "tool_name": "echo", "tool_params": {"x": 1}}
        asking = {"serverName": "t", "_meta": meta, "message": "Allow?"}
        self.call(item, "mcpServer/elicitation/request", asking, lambda _: result)

    def do_odd(self, _: str) -> None:
        self.ask("item/tool/requestUserInput", {"questions": []})
        self.message(f"answered {json.dumps(self.answer)}")
        self.spend()
        self.end()

    def do_stall(self, text: str) -> None:
        self.spend()
        self.delta(text)
        self.wait_interrupt()

    def do_hang(self, text: str) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        leave_children()
        self.delta(text)
        time.sleep(86399)

    def do_children(self, text: str) -> None:
        leave_children()
        self.do_say(text)

    def do_garbage(self, text: str) -> None:
        sys.stdout.flush()
        sys.stdout.buffer.write(b'\xff\xfe not JSON\n\n[1]\n"text"\n' + b"[" * 5000 + b"\n")
        sys.stdout.buffer.flush()
        say({"method": 7, "params": "odd"})
        say({"method": "thread/brandNew", "params": {"threadId": self.thread}, "type": "brand.new"})
        say({"method": "item/completed", "params": None, "type": "item.completed"})
        self.do_say(text)

    def do_huge(self, _: str) -> None:
        sys.stdout.write('{"method": "' + "x" * (17 << 20) + '"}\n')
        sys.stdout.flush()
        time.sleep(86399)

    def do_exit(self, code: str) -> None:
        self.delta("almost")
        print("it broke\n\nStack backtrace:\n 0: <unknown>", file=sys.stderr, flush=True)
        os._exit(int(code))

    def do_vanish(self, _: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def do_none(self, _: str) -> None:
        os._exit(0)

    # In the words of the server; `Single` has those of the other form

    answer: Any = None
    turn = ""
    approval = "never"

    def tell(self, method: str, **params: Any) -> None:
        say({"method": method, "params": {"threadId": self.thread, "turnId": self.turn, **params}})

    def delta(self, text: str) -> None:
        self.tell("item/agentMessage/delta", itemId="m", delta=text)

    def message(self, text: str) -> None:
        self.tell("item/started", item={"type": "agentMessage", "id": "m", "text": ""})
        for start in range(0, len(text), 5):
            self.delta(text[start : start + 5])
        self.tell("item/completed", item={"type": "agentMessage", "id": "m", "text": text})

    def call(self, item: dict[str, Any], method: str, asking: dict[str, Any], perform: Any) -> None:
        id_ = f"call_{self.answers}"
        self.spend()
        self.tell("item/started", item={**item, "id": id_})
        if self.approval == "untrusted":
            self.ask(method, {"itemId": id_, **asking})
            word = self.answer.get("decision") or self.answer.get("action")
            if word != "accept":
                self.tell("item/completed", item={**item, "id": id_, "status": "declined"})
                if word == "cancel":
                    return self.end("interrupted")
                return self.do_say("declined")
        self.tell("item/completed", item={**item, "id": id_, **perform(item)})
        self.do_say("done")

    def ask(self, method: str, params: dict[str, Any]) -> None:
        say({"method": method, "id": 0, "params": {"threadId": self.thread, "turnId": self.turn, **params}})
        while True:
            heard = hear()
            if heard.get("method") == "turn/interrupt":
                say({"id": heard["id"], "result": {}})
                self.answer = {"decision": "cancel"}
                return
            if heard.get("id") == 0:
                self.answer = heard.get("result") or {"error": heard["error"]["message"]}
                return

    def spend(self) -> None:
        self.answers += 1
        keep(self.thread, self.answers)
        total = {"inputTokens": INPUT * self.answers, "outputTokens": OUTPUT * self.answers, "cachedInputTokens": 0}
        last = {"inputTokens": INPUT, "outputTokens": OUTPUT}
        self.tell("thread/tokenUsage/updated", tokenUsage={"total": total, "last": last})

    def end(self, status: str = "completed", error: Any = None) -> None:
        self.tell("turn/completed", turn={"id": self.turn, "status": status, "error": error, "durationMs": 5})

    def wait_interrupt(self) -> None:
        while (heard := hear()).get("method") != "turn/interrupt":
            pass
        say({"id": heard["id"], "result": {}})
        self.end("interrupted")

    def do_fail(self, word: str) -> None:
        error = {"message": f"it failed: {word}", "codexErrorInfo": word}
        self.tell("error", error=error, willRetry=False)
        self.end("failed", error)

    def do_again(self, text: str) -> None:
        self.tell("error", error={"message": "Reconnecting... 1/5"}, willRetry=True)
        self.do_say(text)


class Single(Agent):
    """The same turn as lines of `codex exec --json`."""

    def delta(self, text: str) -> None:
        pass

    def message(self, text: str) -> None:
        say({"type": "item.completed", "item": {"id": "item_1", "type": "agent_message", "text": text}})

    def call(self, item: dict[str, Any], method: str, asking: dict[str, Any], perform: Any) -> None:
        done = {**item, **perform(item)}
        kinds = {"commandExecution": "command_execution", "fileChange": "file_change", "mcpToolCall": "mcp_tool_call"}
        spelled = {"id": "item_0", "type": kinds[item["type"]], "command": item.get("command")}
        result = {"aggregated_output": done.get("aggregatedOutput"), "exit_code": done.get("exitCode")}
        say({"type": "item.started", "item": {**spelled, "status": "in_progress"}})
        say({"type": "item.completed", "item": {**spelled, **result, "status": done["status"]}})
        self.answers += 1
        self.do_say("done")

    def spend(self) -> None:
        self.answers += 1
        keep(self.thread, self.answers)

    def end(self, status: str = "completed", error: Any = None) -> None:
        if status == "failed":
            say({"type": "turn.failed", "error": {"message": error["message"]}})
            raise SystemExit(1)
        usage = {"input_tokens": INPUT * self.answers, "output_tokens": OUTPUT * self.answers}
        say({"type": "turn.completed", "usage": {**usage, "cached_input_tokens": 0}})

    def wait_interrupt(self) -> None:
        signal.signal(signal.SIGINT, lambda *_: os._exit(1))
        say({"type": "stalled"})
        time.sleep(86399)

    def do_again(self, text: str) -> None:
        say({"type": "error", "message": "Reconnecting... 1/5"})
        self.do_say(text)

    def do_fail(self, word: str) -> None:
        say({"type": "error", "message": f"it failed: {word}"})
        self.end("failed", {"message": f"it failed: {word}"})


def serve() -> None:
    approval = {}
    while True:
        heard = hear()
        method, params, number = heard.get("method"), heard.get("params") or {}, heard.get("id")
        if os.environ.get("STAND_IN") == "deaf":
            continue
        if method == "initialize":
            say({"id": number, "result": {"userAgent": "stand-in"}})
        elif method in ("thread/start", "thread/resume", "thread/fork"):
            known, old = threads(), params.get("threadId")
            if method != "thread/start" and old not in known:
                error = {"code": -32600, "message": f"no rollout found for thread id {old}"}
                say({"id": number, "error": error})
                continue
            thread = str(old if method == "thread/resume" else uuid.uuid4())
            approval[thread] = params["approvalPolicy"]
            if method == "thread/fork":
                keep(thread, known[str(old)])
            (Path(os.environ["CODEX_HOME"]) / "asked.json").write_text(json.dumps({"method": method, **params}))
            say({"id": number, "result": {"thread": {"id": thread}, "model": params.get("model") or "stand-in-1"}})
        elif method == "turn/start":
            agent = Agent(params["threadId"])
            agent.turn, agent.approval = str(uuid.uuid4()), approval[agent.thread]
            keep(agent.thread, agent.answers)
            (Path(os.environ["CODEX_HOME"]) / "turn.json").write_text(json.dumps(params))
            say({"id": number, "result": {"turn": {"id": agent.turn}}})
            agent.perform(params["input"][0]["text"])
        elif method == "thread/inject_items":
            (Path(os.environ["CODEX_HOME"]) / "injected.json").write_text(json.dumps(params["items"]))
            say({"id": number, "result": {}})
        elif number is not None:
            say({"id": number, "error": {"code": -32601, "message": f"unknown {method}"}})


def single(arguments: list[str]) -> None:
    old = next((arguments[at + 1] for at, word in enumerate(arguments) if word in ("resume", "fork")), None)
    if old is not None and old not in threads():
        print(f"Error: thread/resume failed: no rollout found for thread id {old}", file=sys.stderr)
        raise SystemExit(1)
    thread: str = str(uuid.uuid4()) if old is None or "fork" in arguments else old
    if old is not None:
        keep(thread, threads()[old])
    profile = Path(os.environ["CODEX_HOME"]) / f"{arguments[arguments.index('--profile') + 1]}.config.toml"
    (Path(os.environ["CODEX_HOME"]) / "profile.txt").write_text(profile.read_text() + oct(profile.stat().st_mode))
    (Path(os.environ["CODEX_HOME"]) / "argv.json").write_text(json.dumps(arguments))
    keep(thread, threads().get(thread, 0))
    say({"type": "thread.started", "thread_id": thread})
    say({"type": "turn.started"})
    Single(thread).perform(sys.stdin.read())


def main(arguments: list[str]) -> None:
    fault = os.environ.get("STAND_IN")
    match arguments:
        case ["--version"]:
            print("codex-cli 0.12.0" if fault == "old" else "codex-cli 0.169.0")
        case ["exec", "--help"]:
            print(EXEC_HELP)
        case ["app-server", "--help"]:
            print("" if fault == "no-server" else "--listen")
        case ["app-server", *_]:
            if fault == "no-server":
                print("error: unrecognized subcommand 'app-server'", file=sys.stderr)
                raise SystemExit(2)
            serve()
        case ["exec", *rest]:
            single(rest)
        case _:
            raise SystemExit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
