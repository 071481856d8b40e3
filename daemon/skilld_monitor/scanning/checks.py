"""Tests of what an expression found: check digits, what is never given out, and what only stands for a secret.

Each takes the text and says how many of its characters, from the first on, are what is looked for; 0 for none.
"""

from __future__ import annotations

import re

__all__ = ["CHECKS"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# What stands where a secret would be: names, types, places of templates, and what we masked ourselves.
_STAND_IN = re.compile(
    r"(?:\$|%[({sd]|\{\{|<|\*|\.\.\.|[^*]{0,4}\*{3,}|\[masked|xx|your|my[_-]|the[_-]|example|change|replace|insert"
    r"|todo|"
    r"placeholder|dummy|sample|test(?:ing)?$|pass(?:word|wd|phrase)?[\"'.,]*$|secret[\"'.,]*$|none|null|nil|true|false|"
    r"undefined|string|str$|int$|bool|required|optional|redacted|hidden|removed|env[.:]|os\.|process\.|config|settings|"
    r"self\.|this\.|args\.|get_|input\(|request|params|secrets?\.|vault|var\.|data\.|local\.|module\.)",
    re.IGNORECASE,
)
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+\Z")
_FILES = re.compile(
    r"\.(?:png|jpe?g|gif|svg|webp|ico|js|ts|css|py|json|html?|txt|md|ya?ml|toml|lock|zip|gz|so|exe)$", re.I
)
# By country, how long a number is.
_IBAN_LENGTHS = {
    pair[:2]: int(pair[2:])
    for pair in re.findall(
        r"\w+",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 "
        "ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
        "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 "
        "QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 ",
    )
}


def _all(text: str) -> int:
    return len(text)


def _luhn(text: str) -> int:
    """A payment card: of an issuer's range and length, and with the right check digit."""
    digits = [int(letter) for letter in text if letter.isdigit()]
    if len(set(digits)) < 2 or not _is_issued("".join(map(str, digits))):
        return 0
    total = sum(digits[-1::-2]) + sum(digit * 2 - (9 if digit > 4 else 0) for digit in digits[-2::-2])
    return len(text) if total % 10 == 0 else 0


def _is_issued(digits: str) -> bool:
    """Whether an issuer gives out numbers that begin so and are so long."""
    length, two, four = len(digits), int(digits[:2]), int(digits[:4])
    if digits[0] == "4":
        return length in (16, 19)
    if two in (34, 37):
        return length == 15
    if two in (36, 38, 39) or 300 <= int(digits[:3]) <= 305:
        return length in (14, 16)
    if 51 <= two <= 55 or 2221 <= four <= 2720:
        return length == 16
    return 16 <= length <= 19 and (two in (50, 56, 57, 58, 62, 63, 65, 67) or four == 6011 or 3528 <= four <= 3589)


def _iban(text: str) -> int:
    """An account number: as long as in its country, and with the right check digits. What follows it is left."""
    length = _IBAN_LENGTHS.get(text[:2].upper())
    if length is None:
        return 0
    places = [at for at, letter in enumerate(text) if letter not in " -"]
    if len(places) < length:
        return 0
    end = places[length - 1]
    if text[end + 1 : end + 2].isalnum():
        return 0
    number = "".join(letter for letter in text[: end + 1] if letter not in " -").upper()
    value = int("".join(str(int(letter, 36)) for letter in number[4:] + number[:4]))
    return end + 1 if value % 97 == 1 else 0


def _ssn(text: str) -> int:
    """A social security number: no part of it is all zeros, and its area is given out."""
    digits = "".join(letter for letter in text if letter.isdigit())
    is_given_out = digits[:3] not in ("000", "666") and digits[0] != "9"
    return len(text) if is_given_out and digits[3:5] != "00" and digits[5:] != "0000" else 0


def _email(text: str) -> int:
    """An address; no name of a file or of a package."""
    if (
        _FILES.search(text)
        or text.endswith((".lan", ".local", ".internal", ".localdomain"))
        or text.startswith("git@")
        or ".." in text
    ):
        return 0
    return len(text)


def _phone(text: str) -> int:
    digits = sum(letter.isdigit() for letter in text)
    return len(text) if 8 <= digits <= 15 else 0


def _digit(text: str) -> int:
    return len(text) if any(letter.isdigit() for letter in text) else 0


def _mixed(text: str) -> int:
    """Letters and digits, and many different ones: no words that are strung together."""
    has_digit = any(letter.isdigit() for letter in text)
    has_letter = any(letter.isalpha() for letter in text)
    return len(text) if has_digit and has_letter and len(set(text)) >= 8 and "****" not in text else 0


def _random(text: str) -> int:
    """As `_mixed`, and nothing that stands for a secret: no name of a variable, no version, no path, no date."""
    if _STAND_IN.match(text) or _NAME.match(text) or text[0] in "/." or (text.count("/") > 2 and "." in text):
        return 0
    words = re.split(r"[^A-Za-z0-9]", text)
    if not any(len(word) >= 8 and _changes(word) >= 2 for word in words) and max(map(len, words)) < 20:
        return 0
    return _mixed(text)


def _changes(word: str) -> int:
    """How often letters and digits follow each other."""
    return sum(before.isdigit() != letter.isdigit() for before, letter in zip(word, word[1:]))


def _given(text: str) -> int:
    """What is given to a name as a password: no stand-in, no call, no name of another variable, no sentence."""
    bare = text.strip("\"'`")
    if _quoted(bare) == 0 or (bare.isalpha() and (bare.islower() or bare.istitle() or bare.isupper())):
        return 0
    return len(text)


def _quoted(text: str) -> int:
    """As `_given`, in quotation marks: a single word may be one there."""
    if len(text) < 4 or _STAND_IN.match(text) or _NAME.match(text) or text.lower() in _WORDS:
        return 0
    return len(text) if " " not in text and not set(text) <= set("*.-_x#") else 0


_WORDS = frozenset(
    (
        *("string", "text", "required", "optional", "number", "email", "invalid", "incorrect", "missing", "expired"),
        *("reset", "login", "username", "passwort", "forgotten"),
    )
)


def _said(text: str) -> int:
    """A password in a sentence: it has digits or signs, unlike the words that follow in others."""
    bare = text.rstrip(".,!?;:)")
    if len(bare) < 6 or _STAND_IN.match(bare) or bare.startswith(("http", "/")):
        return 0
    has_letter = any(letter.isalpha() for letter in bare)
    return len(bare) if has_letter and any(not letter.isalpha() and letter not in "-'.," for letter in bare) else 0


def _field(text: str) -> int:
    """The value of a field that is named as a secret."""
    return len(text) if len(text) >= 4 and not _STAND_IN.match(text) else 0


def _aws_id(text: str) -> int:
    return len(text) if not text.endswith("EXAMPLE") else 0


def _jwt(text: str) -> int:
    """A token whose head, decoded, names an algorithm."""
    import base64
    import json

    head = text.partition(".")[0]
    try:
        found = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (ValueError, UnicodeDecodeError):
        return 0
    return len(text) if isinstance(found, dict) and ("alg" in found or "enc" in found) else 0


def _basic(text: str) -> int:
    """A name and a password with a colon between, in base64."""
    import base64

    try:
        said = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode()
    except (ValueError, UnicodeDecodeError):
        return 0
    name, colon, password = said.partition(":")
    return len(text) if colon and len(password) > 1 and (name + password).isprintable() else 0


def _pem(text: str) -> int:
    return len(text) if re.search(r"[A-Za-z0-9+/=]{24}", text[30:]) else 0


CHECKS: Mapping[str, Callable[[str], int]] = {
    "none": _all,
    "aws_id": _aws_id,
    "basic": _basic,
    "digit": _digit,
    "email": _email,
    "field": _field,
    "given": _given,
    "iban": _iban,
    "jwt": _jwt,
    "luhn": _luhn,
    "mixed": _mixed,
    "pem": _pem,
    "phone": _phone,
    "quoted": _quoted,
    "random": _random,
    "said": _said,
    "ssn": _ssn,
}
