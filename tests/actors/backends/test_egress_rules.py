"""Allow-lists of hosts: what entries mean, and what gets past none of them."""

from __future__ import annotations

import ipaddress

import pytest

from skill_actors.backends.egress_rules import is_public, may_connect, may_name, normal_host, rule_of


@pytest.mark.parametrize(
    ("entry", "host", "port", "permitted"),
    [
        ("pypi.org", "pypi.org", 443, True),
        ("pypi.org", "pypi.org", 80, True),
        ("pypi.org", "pypi.org", 8080, False),
        ("pypi.org", "evil-pypi.org", 443, False),
        ("pypi.org", "pypi.org.evil.example", 443, False),
        ("pypi.org", "files.pypi.org", 443, False),
        ("PyPI.org.:443", "pypi.org", 443, True),
        ("pypi.org:443", "pypi.org", 80, False),
        ("*.example.com", "a.b.example.com", 443, True),
        ("*.example.com", "example.com", 443, False),
        ("*.example.com", "notexample.com", 443, False),
        ("*", "whatever.example", 443, True),
        ("*", "whatever.example", 22, False),
        ("*", "8.8.8.8", 443, False),
        ("*:22", "whatever.example", 22, True),
        ("10.0.0.7:8080", "10.0.0.7", 8080, True),
        ("10.0.0.7:8080", "10.0.0.8", 8080, False),
        ("[fd00::7]:8080", "fd00::7", 8080, True),
        ("fd00:0::7", "fd00::7", 443, True),
    ],
)
def test_an_entry_permits_just_what_it_says(entry: str, host: str, port: int, permitted: bool) -> None:
    assert may_name([rule_of(entry)], host, port) is permitted
    assert rule_of(str(rule_of(entry))) == rule_of(entry)


@pytest.mark.parametrize(
    "entry",
    [
        *("", ":443", "a b", "http://pypi.org", "pypi.org:0", "pypi.org:65536", "pypi.org:x", "*.*.com", "a*.com", 7),
        *("127.1", "0x7f000001", "2130706433", "10.0.0.0/8", "fe80::1%eth0", "pypi..org", "a" * 64 + ".org"),
        *("*.10.0.0.7", "ü.example"),
    ],
)
def test_what_is_no_entry_is_refused(entry: object) -> None:
    with pytest.raises(ValueError, match=r"expected|an entry is"):
        rule_of(entry)


@pytest.mark.parametrize(
    "host",
    [
        *("127.1", "0177.0.0.1", "0x7f.0.0.1", "2130706433", "0x7f000001", "", ".", "a..b", "-a.b", "fe80::1%lo"),
        *("a\0b", "\uff41.b"),
    ],
)
def test_a_host_that_systems_read_in_more_than_one_way_is_none(host: str) -> None:
    assert normal_host(host) is None


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("::127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("2001:0:7f00:1::", False),
        ("fec0::1", False),
        ("3fff::1", False),
        ("192.0.0.192", False),
        ("168.63.129.16", False),
        ("::ffff:168.63.129.16", False),
    ],
)
def test_only_addresses_of_the_public_internet_are_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


def test_a_private_address_is_good_only_where_it_is_listed_itself() -> None:
    """A name that is listed does not make what it stands for good: whoever has the name could make it anything."""
    private = ipaddress.ip_address("10.0.0.7")
    assert not may_connect([rule_of("db.example:5432"), rule_of("*")], private, 5432)
    assert may_connect([rule_of("db.example:5432"), rule_of("10.0.0.7:5432")], private, 5432)
    assert not may_connect([rule_of("10.0.0.7:5432")], private, 80)


def test_a_public_address_of_this_host_is_good_only_where_it_is_listed_itself() -> None:
    """By it one would reach what this host serves behind its firewall, where the loopback is trusted."""
    address = ipaddress.ip_address("93.184.216.34")
    assert not may_connect([rule_of("*")], address, 443, own=True)
    assert may_connect([rule_of("*"), rule_of("93.184.216.34:443")], address, 443, own=True)
    assert may_connect([rule_of("*")], address, 443, own=False)


@pytest.mark.parametrize(
    ("wide", "narrow", "covered"),
    [
        ("*", "pypi.org:443", True),
        ("*", "*.example.com", True),
        ("*", "10.0.0.7", False),
        ("*:443", "pypi.org", False),
        ("*.example.com", "*.a.example.com:443", True),
        ("*.example.com", "*.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.a.example.com", "*.example.com", False),
        ("a.example.com", "*.a.example.com", False),
        ("pypi.org", "pypi.org", True),
        ("pypi.org", "*", False),
        ("10.0.0.7", "10.0.0.7:80", True),
        ("10.0.0.7:80", "10.0.0.7", False),
    ],
)
def test_an_entry_covers_another_if_it_permits_all_of_it(wide: str, narrow: str, covered: bool) -> None:
    assert rule_of(wide).covers(rule_of(narrow)) is covered
