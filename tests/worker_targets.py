"""What worker processes run in tests: obliging, failing and hostile code. Only the standard library."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

Emit = Callable[[Any], None]


def echo(request: Any, emit: Emit) -> Any:
    return request


def nap(request: Any, emit: Emit) -> Any:
    time.sleep(request)
    return request


def fork_and_echo(request: Any, emit: Emit) -> Any:
    os.fork()
    return request


def facts(request: Any, emit: Emit) -> Any:
    import resource

    with open("/proc/self/status") as file:
        status = dict(line.rstrip().split(":", 1) for line in file)
    return {
        "pid": os.getpid(),
        "keeper": os.getppid(),
        "group": os.getpgrp(),
        "session": os.getsid(0),
        "environment": dict(os.environ),
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "no_new_privs": int(status["NoNewPrivs"]),
        "nice": os.nice(0),
        "path": sys.path,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "cwd": os.getcwd(),
    }


def fail(request: Any, emit: Emit) -> NoReturn:
    raise LookupError("nothing \udcff here")


def unsayable(request: Any, emit: Emit) -> Any:
    return {"object": object(), "nan": float("nan"), "surrogate": "\udcff", "large": b"x" * 5_000}[request]


def chat(request: Any, emit: Emit) -> Any:
    for number in range(request):
        emit({"number": number})
    emit(b"\x00\xff")
    return "done"


def print_and_answer(request: Any, emit: Emit) -> Any:
    print(request)
    sys.stdout.buffer.write(b"\x00\x00\x00\x05\x14garbage" * 1_000)
    sys.stdout.flush()
    return len(request)


def late_emit(request: Any, emit: Emit) -> Any:
    """Leaves a thread behind that emits for this request while the next one runs."""
    if request == "leave":
        threading.Timer(0.05, emit, ("late",)).start()
        return "left"
    time.sleep(0.2)
    return "next"


def die(request: Any, emit: Emit) -> Any:
    match request:
        case "exit 0":
            os._exit(0)
        case "sys.exit":
            print("leaving", file=sys.stderr)
            sys.exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segv":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "close":
            os.closerange(3, 100)
            time.sleep(60)
    return "alive"


def link_fd() -> int:
    """The only stream socket of this process."""
    return next(
        int(name)
        for name in os.listdir("/proc/self/fd")
        if int(name) > 2 and os.path.realpath(f"/proc/self/fd/{name}").partition("/fd/")[2].startswith("socket:")
    )


def forge(request: Any, emit: Emit) -> Any:
    """Writes what it likes into the link, then ends or waits."""
    os.write(link_fd(), bytes.fromhex(request["hex"]))
    if request["then"] == "exit":
        os._exit(0)
    time.sleep(60)


def spin(request: Any, emit: Emit) -> NoReturn:
    while True:
        pass


def block_in_c(request: Any, emit: Emit) -> Any:
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    ctypes.PyDLL(None).sleep(60)  # PyDLL: the interpreter's lock is held, so no thread of Python runs either


def ignore_term(request: Any, emit: Emit) -> Any:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    emit("deaf")
    while True:
        time.sleep(60)


def tidy(request: Any, emit: Emit) -> Any:
    """Uses its grace: writes the file that an earlier request told it, and goes."""
    if request is None:
        time.sleep(60)

    def leave(*_: object) -> None:
        with open(request, "w") as file:
            file.write("tidied")
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)
    return "ready"


def flood(request: Any, emit: Emit) -> Any:
    block = b"x" * 65_536
    for _ in range(request // len(block)):
        os.write(1, block)
    return "all written"


def say_and_flood(request: Any, emit: Emit) -> Any:
    """Floods when it is asked to, behind a word; else says which process it is."""
    if request == "flood":
        emit("a word")
        return flood(1 << 40, emit)
    return os.getpid()


def leak(request: Any, emit: Emit) -> Any:
    held = []
    while True:
        held.append(bytearray(1 << 20))


def slow_leak_of_descriptors(request: Any, emit: Emit) -> Any:
    held = []
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))


def family(request: Any, emit: Emit) -> Any:
    """A child in a session of its own, forked twice, that holds everything open and ignores SIGTERM."""
    if request["then"] == "wait":
        time.sleep(60)  # with the child of an earlier request
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            with open(request["file"], "w") as file:
                file.write(str(os.getpid()))
            while True:
                time.sleep(60)
        os._exit(0)
    os.wait()
    while not (os.path.exists(request["file"]) and os.path.getsize(request["file"])):
        time.sleep(0.001)
    if request["then"] == "exit":
        os._exit(7)
    return "answered"


class Counter:
    """A callable object with state that lives as long as its process."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, request: Any, emit: Emit) -> int:
        self.count += 1
        return self.count


counter = Counter()


def asks(request: Any, emit: Any) -> Any:
    answer = emit.ask(request)
    return answer.hex() if isinstance(answer, bytes) else answer


def ask_in_a_copy(request: Any, emit: Any) -> Any:
    out, into = os.pipe()
    if os.fork() == 0:
        try:
            said = repr(emit.ask(request))
        except RuntimeError as error:
            said = str(error)
        os.write(into, said.encode())
        os._exit(0)
    return os.read(out, 1000).decode()


_lines: list[Any] = []


def ask_on_an_old_line(request: Any, emit: Any) -> Any:
    _lines.append(emit)
    try:
        return _lines[0].ask(request)
    except RuntimeError as error:
        return str(error)


def ask_what_is_no_json(request: Any, emit: Any) -> Any:
    return emit.ask({1, 2} if request == "set" else "x" * (2 << 20))
