"""What holds for every test: the network is locked, and what a machine lacks is skipped here but demanded in CI."""

from __future__ import annotations

import ipaddress
import os
import sys
from importlib.util import find_spec

import pytest
from hypothesis import settings

__all__ = ["NetworkLockedError", "require"]

# The wheel is tested with what it asks for and little else, so that a dependency it forgot shows. These modules need
# more; they are run on the sources.
NEEDS_MORE = {
    "daemon/monitor/otlp/test_listening.py": "opentelemetry.sdk",
    "e2e/test_day_two.py": "cryptography",
    "e2e/test_file_storage.py": "boto3",
    "e2e/test_hosted.py": "openpyxl",
    "e2e/test_monitor_patterns.py": "fastapi",
    "e2e/test_monitor_sinks.py": "opentelemetry.sdk",
    "e2e/test_monitoring_agent.py": "openpyxl",
    "e2e/test_openapi_fuzz.py": "schemathesis",
    "monitor/contrib/test_asgi.py": "fastapi",
    "monitor/contrib/test_cylestio_patterns.py": "aspectlib",
    "monitor/contrib/test_django.py": "django",
    "monitor/contrib/test_flask.py": "flask",
    "monitor/contrib/test_functions.py": "aspectlib",
    "monitor/contrib/test_pattern_page.py": "fastapi",
}
collect_ignore = [module for module, needed in NEEDS_MORE.items() if find_spec(needed) is None]


# An example that takes long says that the machine is busy, not that the program is wrong.
settings.register_profile("skilld", settings(), deadline=None)
settings.load_profile("skilld")


class NetworkLockedError(RuntimeError):
    """A test tried to reach something that is not this machine."""


def require(condition: bool, reason: str) -> None:
    """Go on when `condition` holds; otherwise skip the test, or fail it where CI=true.

    Args:
        condition: whether this machine has what the test needs (docker, systemd, root ...).
        reason: what is missing, in words; it is the skip's reason.

    """
    if condition:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"needed in CI: {reason}")
    pytest.skip(reason)


def is_local(address: object) -> bool:
    """Whether a socket address is on this machine: a Unix socket's path, or a loopback host."""
    if not isinstance(address, tuple) or not address or not isinstance(address[0], str):
        return True
    host = address[0].partition("%")[0]
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _lock(event: str, args: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.sendto") and not is_local(args[1]):
        raise NetworkLockedError(f"tests stay on this machine, but one called {event} with {args[1]!r}")


def pytest_configure() -> None:
    """Lock the network for the whole run: an audit hook sees every socket, whoever made it, and cannot be removed."""
    sys.addaudithook(_lock)
