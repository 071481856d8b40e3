"""Which hosts and addresses may be asked for an artifact: only what is out on the Internet. Pure.

What leads back in by another notation (mapped, translated or tunnelled IPv4) is refused as a whole: nothing that is
meant for the public needs it.
"""

from __future__ import annotations

import ipaddress
from typing import Final

__all__ = ["BLOCKED_HOSTS", "is_blocked_host", "why_not_public"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

BLOCKED_HOSTS: Final = ("localhost", "internal", "local", "localdomain", "home.arpa", "metadata", "intranet", "lan")
_DETOURS: Final = tuple(
    (ipaddress.IPv6Network(network), name)
    for network, name in (
        ("::ffff:0:0/96", "an IPv4 address in IPv6 notation"),
        ("::/96", "an IPv4 address in IPv6 notation"),
        ("64:ff9b::/96", "a translated IPv4 address (NAT64)"),
        ("64:ff9b:1::/48", "a translated IPv4 address (NAT64)"),
        ("2002::/16", "a tunnelled IPv4 address (6to4)"),
        ("2001::/32", "a tunnelled IPv4 address (Teredo)"),
        ("fec0::/10", "a site-local address"),
    )
)


def why_not_public(text: str) -> str:
    """Why this address may not be connected to; empty if it may."""
    try:
        address: Address = ipaddress.ip_address(text)
    except ValueError:
        return "no address"
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return "an address of one link"
        for network, name in _DETOURS:
            if address in network and not address.is_loopback and not address.is_unspecified:
                return name
    kinds = (
        (address.is_unspecified, "an unspecified address"),
        (address.is_loopback, "a loopback address"),
        (address.is_link_local, "a link-local address"),
        (address.is_multicast, "a multicast address"),
        (address.is_private, "a private address"),
        (address.is_reserved, "a reserved address"),
        (not address.is_global, "an address that is not public"),
    )
    return next((name for found, name in kinds if found), "")


def is_blocked_host(host: str, blocked: tuple[str, ...] = BLOCKED_HOSTS) -> bool:
    """Whether the host, or a domain it is in, is one of those that are never asked."""
    plain = host.rstrip(".").lower()
    return any(plain == name or plain.endswith(f".{name}") for name in blocked)
