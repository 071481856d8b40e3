"""Numbers and addresses of people."""

from __future__ import annotations

__all__ = ["PERSONAL"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PERSONAL = {"category": "sensitive_data", "kind": "pattern"}

PERSONAL: tuple[dict[str, Any], ...] = (
    {
        **_PERSONAL,
        "id": "personal.payment-card",
        "severity": "high",
        "confidence": 0.9,
        "description": "the number of a payment card, with the check digit that belongs to it",
        "match": r"[2-6](?<![\w.*+-][2-6])\d{3}(?:\d{10,15}|([ .-])\d{4}\1\d{4}\1\d{1,7}|([ .-])\d{6}\2\d{4,5})"
        r"(?![\w*]|[.-]\d)",
        "check": "luhn",
        "mask": "credit_card",
    },
    {
        **_PERSONAL,
        "id": "personal.iban",
        "severity": "medium",
        "confidence": 0.95,
        "description": "the number of a bank account (IBAN), with the check digits that belong to it",
        "match": r"[A-Z](?<![A-Za-z0-9][A-Z])[A-Z]\d{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,4})?",
        "check": "iban",
        "mask": "partial",
    },
    {
        **_PERSONAL,
        "id": "personal.us-ssn",
        "severity": "high",
        "confidence": 0.85,
        "description": "a social security number of the United States, of an area that is given out",
        "match": r"\d(?<![\w.+*-]\d)\d{2}-\d{2}-\d{4}(?![\w-])",
        "check": "ssn",
        "mask": "last4",
    },
    {
        **_PERSONAL,
        "id": "personal.us-ssn-named",
        "severity": "high",
        "confidence": 0.9,
        "description": "a social security number that is called so",
        "match": r"(?i:ssn|social[ _]security(?:[ _](?:number|no|num))?)(?i:[\"'.:=#\s]|is|no|number){1,10}"
        r"(?P<secret>\d{3}[ .-]?\d{2}[ .-]?\d{4})(?![\w-])",
        "starts": ["ssn", "social"],
        "check": "ssn",
        "mask": "last4",
    },
    {
        **_PERSONAL,
        "id": "personal.email",
        "severity": "low",
        "confidence": 0.9,
        "description": "an e-mail address",
        "match": r"[\w.+%'-](?<![\w.+%*'-][\w.+%'-])[\w.+%'-]{0,63}@(?:[A-Za-z0-9]"
        r"(?:[A-Za-z0-9-]{0,62})\.){1,8}[A-Za-z]{2,24}(?![\w-])",
        "needs": ["@"],
        "check": "email",
        "mask": "email",
    },
    {
        **_PERSONAL,
        "id": "personal.phone",
        "severity": "low",
        "confidence": 0.7,
        "description": "a telephone number, as written in North America or with a country's code",
        "match": r"[+(2-9](?<![\w.*+/-][+(2-9])(?:(?<=\+)[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?"
        r"\d{1,4}(?:[ .-]?\d{2,4}){1,4}"
        r"|(?<=\()[2-9]\d{2}\)[ .-]?[2-9]\d{2}[ .-]\d{4}|(?<=[2-9])\d{2}([ .-])[2-9]\d{2}\1\d{4})(?![\w*-]|[.]\d)",
        "check": "phone",
        "mask": "last4",
    },
)
