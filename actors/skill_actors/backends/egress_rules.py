"""Which hosts containers may reach: the entries of an allow-list, and the judgement on one connection. Pure functions.

An entry is HOST or HOST:PORT; without a port, 80 and 443 are meant. HOST is a name; `*.` and a name, for all below it
but not itself; `*` for every name; or an address, in brackets where it has colons and a port follows. Names stand for
public addresses of other hosts only: whoever wants one of a private network, or of this host, lists the address.
Nothing is told from a name that could be read as a number, since systems read `127.1` and `0x7f000001` as addresses.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

__all__ = ["Rule", "is_public", "may_connect", "may_name", "rule_of"]

_PORTS: Final = frozenset({80, 443})
_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_NUMBER: Final = re.compile(r"\d+|0x[0-9a-f]*")
_NOT_PUBLIC: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("2002::/16", "2001::/32", "64:ff9b::/96", "64:ff9b:1::/48", "::/96"),  # carry an address of the other kind
        *("192.0.0.0/24", "192.88.99.0/24", "fec0::/10", "3fff::/20", "5f00::/16"),  # public to some versions of Python
        "168.63.129.16/32",  # looks public, and is the host of a virtual machine at Azure
    )
)

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry, read.

    Args:
        host: a name or an address in lower case, as it is compared; "*" for every name.
        below: whether the names below `host` are meant, and not `host`.
        ports: of the other side.

    """

    host: str
    below: bool
    ports: frozenset[int]

    def __str__(self) -> str:
        host = f"*.{self.host}" if self.below else self.host
        if self.ports == _PORTS:
            return host
        return f"[{host}]:{min(self.ports)}" if ":" in host else f"{host}:{min(self.ports)}"

    @property
    def is_address(self) -> bool:
        return address_of(self.host) is not None

    def covers(self, other: Rule) -> bool:
        """Whether all that the other permits is permitted by this one as well."""
        if not other.ports <= self.ports:
            return False
        if self.host == "*" and not self.below:
            return not other.is_address
        if self.below:
            return other.host.endswith(f".{self.host}") or (other.below and other.host == self.host)
        return not other.below and other.host == self.host

    def permits(self, host: str, port: int) -> bool:
        return self.covers(Rule(host, False, frozenset({port})))


def rule_of(text: object) -> Rule:
    """The entry. Raises ValueError, saying what is expected."""
    if not isinstance(text, str) or len(text) > 300:
        raise ValueError("an entry is HOST or HOST:PORT")
    host, port = _split(text.strip().lower())
    below = host.startswith("*.")
    name = normal_host(host.removeprefix("*.")) if host != "*" else host
    if name is None or (below and address_of(name) is not None):
        raise ValueError(f"{text!r}: expected a host such as pypi.org, *.example.com, 10.0.0.7 or [fd00::7]:8080")
    return Rule(name, below, _PORTS if port is None else frozenset({port}))


def normal_host(host: str) -> str | None:
    """A name or an address as rules compare it; None for what is neither."""
    address = address_of(host)
    if address is not None:
        return str(address)
    name = host.lower().removesuffix(".")
    if len(name) > 253 or not _NAME.fullmatch(name) or _NUMBER.fullmatch(name.rpartition(".")[2]):
        return None
    return name


def address_of(host: str) -> Address | None:
    """The address that the text is, if it is one in its usual form. One with a zone is none."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return None if "%" in bare else ipaddress.ip_address(bare)
    except ValueError:
        return None


def may_name(rules: Iterable[Rule], host: str, port: int) -> bool:
    """Whether a connection to this host, as `normal_host` writes it, may be tried at all."""
    return any(rule.permits(host, port) for rule in rules)


def may_connect(rules: Sequence[Rule], address: Address, port: int, *, own: bool = False) -> bool:
    """Whether this is an address that a permitted name may stand for.

    Args:
        rules: a name may stand for what is listed by its address, whatever it is, and for public addresses.
        address: that the name has.
        port: to be connected to.
        own: whether this host itself has the address; what it serves to itself is no part of the internet.

    """
    return (is_public(address) and not own) or may_name(rules, str(address), port)


def is_public(address: Address) -> bool:
    """Whether it is of the public internet. What carries an address in another way than mapped never is."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _split(text: str) -> tuple[str, int | None]:
    """Host and port of an entry; the port may be missing."""
    if address_of(text) is not None:
        return text.strip("[]"), None
    host, colon, port = text.rpartition(":")
    if not colon:
        return text, None
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65_536:
        raise ValueError(f"{text!r}: expected a port from 1 to 65535 behind the last colon")
    return host.strip("[]") if address_of(host) is not None else host, int(port)
