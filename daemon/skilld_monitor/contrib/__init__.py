"""Ways to put monitoring into a program: middlewares for requests, wrappers for functions, services and clients.

Each module is standard library only; a framework is looked at only where the program has loaded it. Nothing here
changes a request, a result or an exception, and while monitoring is off all of it passes through.
"""

from __future__ import annotations

__all__ = [
    "asgi",
    "aspect",
    "decorator",
    "django",
    "environment",
    "fastapi",
    "flask",
    "meta",
    "proxy",
    "service",
    "shutdown",
    "starlette",
    "wsgi",
]
