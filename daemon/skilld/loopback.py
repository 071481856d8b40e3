"""Addresses that only this host reaches, and requests that were meant for it. Pure functions."""

from __future__ import annotations

import ipaddress

__all__ = ["is_local_host", "loopback_address"]


def loopback_address(text: str) -> tuple[str, int]:
    """Host and port of `127.0.0.1:9464` or `[::1]:9464`.

    Raises:
        ValueError: if it is not an address of that form, or not of loopback.

    """
    host, _, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        address = None
    if address is None or not (port.isascii() and port.isdigit() and 0 <= int(port[:6]) <= 65_535):
        raise ValueError("must be an address and a port, such as 127.0.0.1:9464")
    if not address.is_loopback:
        raise ValueError("must be an address of loopback, such as 127.0.0.1:9464; others need a proxy")
    return str(address), int(port)


def is_local_host(host: str) -> bool:
    """Whether a request was meant for this host: a name that a web page made to lead here is not."""
    name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    name = name if port.isdigit() else host
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False
