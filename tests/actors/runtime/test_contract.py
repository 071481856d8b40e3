"""What is relied upon from outside: pykka's private names, and that the runtime knows nothing above it."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pykka
import pykka._actor
import pykka._future
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

import skill_actors.runtime as runtime

HERE = Path(runtime.__file__).parent


def test_the_package_exports_a_sorted_all_that_exists() -> None:
    assert runtime.__all__ == sorted(runtime.__all__, key=lambda name: (not name.isupper(), name))  # constants first
    assert all(hasattr(runtime, name) for name in runtime.__all__)


def test_the_runtime_imports_nothing_above_it() -> None:
    above = {"skilld", "anthropic", "httpx", "docker"}
    for path in HERE.glob("*.py"):
        # A pair of sockets is what joins a worker process to its actor; nobody else in the runtime needs one.
        forbidden = above if path.stem in {"keeper", "worker"} else above | {"socket"}
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert not name.startswith("skill_actors") or name.startswith("skill_actors.runtime"), (path, name)
                assert name.partition(".")[0] not in forbidden, (path, name)


def test_importing_every_module_of_the_runtime_loads_no_other_part_of_the_product() -> None:
    """Nor what only those need: a library asks for what it uses."""
    others = {"skilld", "anthropic", "apsw", "click", "docker", "h11", "httpx", "prometheus_client", "pydantic"}
    others |= {"rich", "starlette", "watchfiles", "yaml"}
    code = (
        "import sys, importlib, pkgutil, skill_actors.runtime as runtime\n"
        "for module in pkgutil.walk_packages(runtime.__path__, 'skill_actors.runtime.'):\n"
        "    importlib.import_module(module.name)\n"
        "print(*sorted(sys.modules))"
    )
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    loaded = done.stdout.split()
    assert {name for name in loaded if name.startswith("skill_actors.runtime.")} >= {
        f"skill_actors.runtime.{path.stem}" for path in HERE.glob("[a-z]*.py")
    }
    assert [name for name in loaded if name.partition(".")[0] in others] == []
    assert [
        name for name in loaded if name.startswith("skill_actors.") and not name.startswith("skill_actors.runtime")
    ] == []


def test_pykkas_envelope_holds_message_and_reply_to() -> None:
    future = runtime.TrioFuture[int]()
    envelope = Envelope("m", reply_to=future)
    assert (envelope.message, envelope.reply_to) == ("m", future)


def test_pykkas_refs_stop_sends_the_stop_message_through_ask() -> None:
    actor = runtime.TrioActor()
    actor.stop()
    assert [envelope.message for envelope in actor._cell.mailbox.close()] == [_ActorStop()]


def test_pykkas_actor_has_the_extension_points() -> None:
    for name in ("_create_actor_inbox", "_create_future", "_start_actor_loop", "_handle_receive"):
        assert callable(getattr(pykka.Actor, name))
    assert set(inspect.signature(pykka.Actor._handle_receive).parameters) == {"self", "message"}
    assert {"on_start", "on_stop", "on_failure", "on_receive"} <= set(dir(pykka.Actor))


def test_pykkas_ref_takes_what_our_actor_gives_it() -> None:
    ref = pykka.ActorRef(runtime.TrioActor())
    assert {"actor_class", "actor_urn", "actor_inbox", "actor_stopped", "_actor_weakref"} <= set(vars(ref))


def test_pykkas_future_keeps_its_hook_where_ours_looks() -> None:
    future = pykka.ThreadingFuture[int]()
    assert future._get_hook is None
    assert isinstance(future._get_hook_result, pykka._future._Unset)
