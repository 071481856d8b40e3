"""Who answers a client's calls, by its class and by the address that it was given."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["host_of", "known_facts", "module_provider", "server_facts"]

_MAX_KNOWN = 256
_by_class: dict[type, str] = {}
_by_address: dict[tuple[object, type, int], tuple[object, dict[str, object]]] = {}


def known_facts(owner: object, kind: object, find: Callable[[object], dict[str, object]]) -> dict[str, object]:
    """What `find` says of who answers: the same for all calls of this kind of one client, until it is given another
    address. A dict of the caller's own."""
    client = getattr(owner, "_client", None)
    address = getattr(client, "base_url", None)
    key = (kind, type(client), id(address))
    known = _by_address.get(key)
    if known is None:
        known = address, find(owner)  # it is kept, so that no other object gets its id
        if len(_by_address) < _MAX_KNOWN and (address is None or type(address).__name__ == "URL"):
            _by_address[key] = known
    return known[1].copy()


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
