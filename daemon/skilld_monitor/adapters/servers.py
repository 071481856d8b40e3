"""Who answers a client's calls, by its class and by the address that it was given."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["host_of", "module_provider", "server_facts"]

_MAX_KNOWN = 256
_by_class: dict[type, str] = {}


def server_facts(owner: object) -> dict[str, object]:
    """`server.address` and `server.port` of the client that a resource belongs to; nothing where it has no address."""
    url = getattr(getattr(owner, "_client", None), "base_url", None)
    host = getattr(url, "host", None)
    if type(host) is not str or not host:
        return {}
    port = getattr(url, "port", None)
    if type(port) is not int:
        port = 80 if getattr(url, "scheme", "") == "http" else 443
    return {"server.address": host, "server.port": port}


def host_of(owner: object) -> str:
    """Where the client of a resource sends its calls; "" where it does not say."""
    host = getattr(getattr(getattr(owner, "_client", None), "base_url", None), "host", None)
    return host if type(host) is str else ""


def module_provider(client: object, providers: Mapping[str, str], default: str) -> str:
    """The provider by what the module of a client's class, or of one that it derives from, has in its name."""
    kind = type(client)
    found = _by_class.get(kind)
    if found is None:
        modules = [base.__module__ for base in kind.__mro__]
        found = next((name for part, name in providers.items() if any(part in module for module in modules)), default)
        if len(_by_class) < _MAX_KNOWN:
            _by_class[kind] = found
    return found
