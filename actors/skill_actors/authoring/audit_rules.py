"""What an audit looks for in the text of a skill: patterns with a severity and a remedy. Data, no reading.

Quantifiers are bounded, and no two that follow one another take the same character, so that hostile text cannot make
a search slow. All but credentials are looked for in the text as it is read: see audit_text.
"""
# ruff: noqa: E501  # a pattern that is cut in two is harder to judge than a long line

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from skill_actors.authoring.findings import Severity

__all__ = ["PATTERNS", "PHRASES", "SECRETS", "Pattern"]

Scope = Literal["all", "code"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """One thing to look for. `scope`: in every text, or only in files that are run (not in prose)."""

    code: str
    severity: Severity
    message: str
    expression: re.Pattern[str]
    scope: Scope = "all"
    remedy: str = ""


def _pattern(
    code: str, severity: Severity, message: str, *expressions: str, scope: Scope = "all", remedy: str = ""
) -> Pattern:
    joined = "|".join(f"(?:{expression})" for expression in expressions)
    return Pattern(
        code=code,
        severity=severity,
        message=message,
        expression=re.compile(joined, re.IGNORECASE | re.MULTILINE),
        scope=scope,
        remedy=remedy,
    )


_SUDO: Final = r"sudo[ \t]{1,9}(?:-[\w-]{1,20}[ \t]{1,9}(?:\w{1,20}[ \t]{1,9})?){0,3}"
_VARIABLES: Final = r"(?:\w{1,40}=[^\s|;]{0,80}[ \t]{1,9}){0,4}"
_BIN: Final = r"(?:/(?:usr/)?(?:local/)?bin/)?"
_SHELL: Final = rf"(?:{_SUDO}|(?:exec|command|nohup)[ \t]{{1,9}})?{_VARIABLES}{_BIN}(?:env[ \t]{{1,9}}{_VARIABLES})?"
_SHELLS: Final = r"(?:(?:ba|z|da|k|fi|a)?sh|osascript|pwsh|powershell)\b"
_LANGUAGES: Final = r"(?:python[\d.]{0,5}|perl|ruby|node|php)\b"
_INTERPRETER: Final = rf"(?:{_SHELLS}|{_LANGUAGES})"
# What runs its standard input: with -m, -c, -e or a file, that is data (`curl ... | python3 -m json.tool`).
_RUNS_INPUT: Final = rf"(?:{_SHELLS}|{_LANGUAGES}(?=[ \t]{{0,9}}(?:-[ \t]{{0,9}})?(?:[|;&)\"'`]|$)))"
_FETCH: Final = (
    r"\b(?:curl|wget|fetch|http|aria2c|iwr|invoke-webrequest)[ \t]{1,9}(?=[^\n|;]{0,400}[.:$-])"  # no table of words
)
_PIPE: Final = rf"\|\s{{0,9}}(?:[^\n|;]{{1,80}}\|\s{{0,9}}){{0,3}}{_SHELL}{_RUNS_INPUT}"
_DECODE: Final = r"\b(?:base(?:64|32)[ \t]{1,9}(?:-i?[dD]i?|--decode)|xxd[ \t]{1,9}-r|openssl[ \t]{1,9}(?:enc[ \t]{1,9})?-?base64[ \t]{1,9}-d)\b"

PATTERNS: Final[tuple[Pattern, ...]] = (
    _pattern(
        "pipe_to_shell",
        "high",
        "runs what it downloads, unseen",
        rf"{_FETCH}[^\n|;]{{0,400}}{_PIPE}",
        rf"\b{_INTERPRETER}[^\n]{{0,40}}(?:<\(|\$\(|`)[ \t]{{0,9}}{_FETCH}",
        rf"\b(?:eval|source|\.)[ \t]{{1,9}}[\"']?(?:<\(|\$\(|`)[ \t]{{0,9}}{_FETCH}",
        r"\b(?:iex|invoke-expression)\b[^\n]{0,80}\b(?:iwr|irm|invoke-webrequest|invoke-restmethod|downloadstring)\b",
        r"\b(?:iwr|irm|invoke-webrequest|invoke-restmethod)\b[^\n|]{0,400}\|[ \t]{0,9}(?:iex|invoke-expression)\b",
        r"\b(?:exec|eval)\([^\n]{0,80}(?:urlopen|requests\.get|httpx\.get)\(",
        remedy="Ship the program with the skill, or download it to a file, check its digest and then run it.",
    ),
    _pattern(
        "decodes_to_shell",
        "high",
        "runs text that it first decodes, so that nobody can read what runs",
        rf"{_DECODE}[^\n|;]{{0,200}}{_PIPE}",
        rf"\b(?:eval|source|{_SHELLS})[ \t]{{1,9}}[^\n]{{0,40}}(?:<\(|\$\(|`)[^\n]{{0,200}}{_DECODE}",
        r"\b(?:exec|eval)\([^\n]{0,120}(?:b64decode|b32decode|fromhex|unhexlify|decompress|marshal\.loads|atob)\b",
        remedy="Write the commands in plain text.",
    ),
    _pattern(
        "reverse_shell",
        "high",
        "opens a connection to a shell",
        r"/dev/(?:tcp|udp)/[^\s/]{1,255}/\d{1,5}",
        r"\bn(?:c|cat)\b[^\n]{0,80}[ \t]-(?:e|c)\b",
        r"\bsocat\b[^\n]{0,200}\bexec:",
    ),
    _pattern(
        "reads_credentials",
        "high",
        "reads places where credentials are kept",
        r"(?:~|\$\{?HOME\}?|/root|/home/[^/\s]{1,64}|expanduser\([\"']~)/?[^\s]{0,9}/?\.(?:ssh|aws|gnupg|kube|netrc|docker|pgpass)\b",
        r"\.aws/credentials\b|\bid_(?:rsa|ed25519|ecdsa)\b(?!\.pub)|/etc/shadow\b|\.git-credentials\b|\.netrc\b",
        r"\bsecurity[ \t]{1,9}find-(?:generic|internet)-password\b|\bkeyring\.get_password\b",
        r"/proc/(?:self|\d{1,7}|\$\w{1,20}|\*)/environ\b",
        remedy="Ask for exactly the credential that is needed, as an environment variable.",
    ),
    _pattern(
        "persistence",
        "high",
        "changes what runs later, outside of the skill",
        r"\bcrontab[ \t]{1,9}(?!-l\b)\S|/etc/cron\.",
        r">>?[ \t]{0,9}[\"']?(?:~|\$\{?HOME\}?)/\.(?:bashrc|zshrc|profile|bash_profile|zshenv)\b",
        r"\.ssh/authorized_keys\b|\bsystemctl[ \t]{1,9}(?:--user[ \t]{1,9})?enable\b|/etc/ld\.so\.preload\b",
        r"\blaunchctl[ \t]{1,9}load\b|\bcore\.hooksPath\b",
    ),
    _pattern(
        "destructive",
        "high",
        "destroys data far beyond its workspace",
        r"\brm[ \t]{1,9}(?:-\w{1,9}[ \t]{1,9}|--[\w-]{1,30}[ \t]{1,9}){1,4}[\"']?(?:/|~|\$\{?HOME\}?)/?\*?[\"']?(?=[\s;&|]|$)",
        r"\bmkfs(?:\.\w{1,9})?[ \t]|\bdd\b[^\n]{0,80}\bof=/dev/(?:sd|nvme|vd|hd|mmcblk)|>[ \t]{0,9}/dev/(?:sd|nvme|vd)\w",
        r":\(\)[ \t]{0,3}\{[ \t]{0,3}:\|:&[ \t]{0,3}\};:",
    ),
    _pattern(
        "destructive",
        "medium",
        "replaces what others have pushed",
        r"\bgit[ \t]{1,9}push\b[^\n]{0,80}(?:--force(?![\w-])|[ \t]-f\b)",
    ),
    _pattern(
        "privilege",
        "medium",
        "asks for the rights of another user",
        r"^[ \t$#>-]{0,9}sudo[ \t]{1,9}\S|[;&|`(][ \t]{0,9}sudo[ \t]{1,9}\S|[\"']sudo[\"']",
        r"\bchmod[ \t]{1,9}(?:-R[ \t]{1,9})?(?:0?777|[ug]?\+s|[0-7]?[4-7][0-7]{3})\b",
        r"\bsetuid\(|--privileged\b|/var/run/docker\.sock\b",
    ),
    _pattern(
        "dynamic_code",
        "medium",
        "makes code out of data while it runs",
        r"(?<![\w.])(?:eval|exec)\((?!\))|\bnew[ \t]{1,9}Function\(|\bpickle\.loads?\(|\bmarshal\.loads\(|\b__import__\(",
        scope="code",
    ),
    _pattern(
        "network",
        "medium",
        "uses the network",
        r"^[^\n#]{0,200}?\b(?:curl|wget|aria2c|ncat|socat|ssh|scp|sftp|rsync|ftp|telnet)[ \t]{1,9}(?=[-\"'$@\w/:])",
        r"^[ \t]{0,40}(?:import|from)[ \t]{1,9}(?:socket|http\.client|urllib\.request|urllib3|requests|httpx2?|aiohttp|ftplib|smtplib|"
        r"telnetlib|paramiko|websockets?|asyncssh|boto3|xmlrpc)\b",
        r"\burllib\.request\b|\bimport\([\"']https?:|\bfrom[ \t]{1,9}urllib[ \t]{1,9}import[^\n]{0,80}\brequest\b",
        r"\b(?:axios|XMLHttpRequest|WebSocket|EventSource)\b|\bfetch\([\"'`]https?:|"
        r"\brequire\([\"'](?:node:)?(?:https?|net|tls|dgram)[\"']\)|\bfrom[ \t]{1,9}[\"'](?:node:)?(?:https?|net|tls|dgram)[\"']",
        r"\b(?:invoke-webrequest|invoke-restmethod|net\.webclient)\b",
        scope="code",
    ),
    _pattern(
        "installs_packages",
        "medium",
        "installs programs, or runs them straight from a registry",
        r"\bpip[\d.]{0,4}[ \t]{1,9}install\b|\buv[ \t]{1,9}(?:pip[ \t]{1,9}install|tool[ \t]{1,9}install|add)\b|\b(?:uvx|pipx|npx|bunx)[ \t]{1,9}[\w@-]",
        r"\b(?:npm|pnpm|yarn|bun)[ \t]{1,9}(?:install|add|i|dlx)\b|\bgem[ \t]{1,9}install\b|\bgo[ \t]{1,9}install\b|\bcargo[ \t]{1,9}install\b",
        r"\b(?:apt|apt-get|dnf|yum|apk|brew|pacman)[ \t]{1,9}(?:-\w{1,9}[ \t]{1,9}){0,3}(?:install|add|-S)\b",
        remedy="Name exact versions, and say in `compatibility` what must be there already.",
    ),
    _pattern(
        "runs_commands",
        "low",
        "starts other programs through a shell",
        r"\bos\.(?:system|popen)\(|\bshell[ \t]{0,3}=[ \t]{0,3}True\b|\bchild_process\b|\bsubprocess\.getoutput\(",
        scope="code",
        remedy="Pass a list of arguments to subprocess.run, without a shell.",
    ),
)

# Prose that turns the model against whoever asked it. A blank stands for white space and marks of emphasis, and `_w`
# for a word, which has none of them in it.
_W: Final = r"[\s>*_#\"'.,:-]{1,20}"
_WORD: Final = r"[^\W_]{1,20}"
_WHOSE: Final = rf"(?:(?:all|any|every|each|the|your|my|these|those|of){_W}){{0,4}}"
_OLD: Final = (
    r"(?:previous|prior|above|earlier|preceding|former|existing|original|other|system|developer|safety|foregoing)"
)
_RULES: Final = r"(?:instructions?|prompts?|rules?|directions?|guidelines?|messages?|context|polic(?:y|ies)|commands?|restrictions?)"


def _phrase(code: str, severity: Severity, message: str, *expressions: str) -> Pattern:
    return _pattern(code, severity, message, *(item.replace("_w", _WORD).replace(" ", _W) for item in expressions))


PHRASES: Final[tuple[Pattern, ...]] = (
    _phrase(
        "prompt_injection",
        "high",
        "tells the model to set its other instructions aside",
        rf"\b(?:ignore|disregard|forget|override|bypass|overrule|discard) {_WHOSE}{_OLD} (?:{_OLD} ){{0,2}}{_RULES}\b",
        r"\b(?:ignore|disregard|forget) (?:everything|anything|all)(?: that)?(?: _w){0,3} (?:above|before|previously|earlier|so far)\b",
        rf"\bdo not (?:follow|obey|apply) {_WHOSE}{_OLD} {_RULES}\b",
        r"\bnew (?:system|developer) (?:prompt|instructions?|message)\s{0,3}:",
        r"\byou are now (?:in )?(?:a |an )?(?:dan|unrestricted|jailbroken|developer mode|god mode|root|admin)\b",
        r"\b(?:enable|enter|activate) (?:god|jailbreak|unrestricted) mode\b",
    ),
    _pattern(
        "prompt_injection",
        "high",
        "imitates the marks of another speaker",
        r"</(?:system|developer|assistant|human|user)>|<(?:system|developer|assistant)>",  # <user> stands for a name
        r"</?(?:system|developer|assistant|human|user)[_-](?:prompt|message|reminder|instructions?)>",
        r"<\|(?:im_start|im_end|system|user|assistant|endoftext|start_header_id)\|>|\[/?INST\]|<</?SYS>>",
        r"</(?:available_skills|skill|skill_content|function_results?|tool_result)>",
    ),
    _phrase(
        "conceals",
        "high",
        "tells the model to hide from the user what it does",
        r"\b(?:do not|don['\u2019]?t|never) (?:tell|inform|notify|alert|warn|mention (?:this|it|that) to|reveal (?:this|it|that) to|show (?:this|it|that) to|ask) "
        r"(?:the |your )?(?:users?|human|operator|owner)\b(?! (?:to|for|which|what|whether|if|how|about|where|when|again)\b)",
        r"\bwithout (?:telling|informing|notifying|alerting|asking|the knowledge of|the consent of) (?:the |your )?(?:users?|human|operator|owner)\b(?! (?:to|for)\b)",
        r"\b(?:secretly|silently|covertly|surreptitiously) (?:send|upload|copy|post|run|execute|read|collect|delete|forward|transmit)\b",
        r"\bhide (?:this|it|these|that) from (?:the |your )?(?:users?|human|operator)\b",
    ),
    _phrase(
        "exfiltration",
        "high",
        "tells the model to give away what it should keep",
        r"\b(?:reveal|print|output|repeat|show|leak|send|dump) (?:me )?(?:the |your |its )(?:full |entire |whole |hidden |complete ){0,2}system prompt\b",
        r"\bexfiltrat(?:e|es|ing)\b",
    ),
    _phrase(
        "exfiltration",
        "medium",
        "tells the model to send credentials somewhere",
        r"\b(?:send|upload|post|exfiltrate|transmit|forward|email) (?:_w ){0,6}(?:credentials?|passwords?|api keys?|secrets?|tokens?|private keys?|environment variables|conversation)\b"
        r"[^\n]{0,80}\b(?:https?|to (?:the |this |our )?(?:server|url|address|endpoint|webhook))\b",
    ),
    _phrase(
        "skips_approval",
        "medium",
        "tells the model to do without asking",
        r"\b(?:without|no need for|skip|bypass) (?:any |the |further |user ){0,2}(?:approval|confirmation|permission|consent)s?\b",
        r"\b(?:auto[- ]?approve|--dangerously-skip-permissions|--yolo)\b",
    ),
)

# Credentials. What is found is never printed.
SECRETS: Final[tuple[Pattern, ...]] = (
    Pattern(
        code="secret",
        severity="high",
        message="holds what looks like a credential",
        expression=re.compile(
            r"-----BEGIN (?:[A-Z]{2,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----"
            r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
            r"|\bgh[pousr]_[A-Za-z0-9]{36,255}\b|\bgithub_pat_\w{22,255}"
            r"|\bglpat-[\w-]{20,64}"
            r"|\bsk-(?:ant-|proj-|live-)?[A-Za-z0-9_-]{20,200}"
            r"|\b[sr]k_live_[A-Za-z0-9]{16,128}"
            r"|\bxox[abeoprs]-[A-Za-z0-9-]{10,255}"
            r"|\bAIza[0-9A-Za-z_-]{35}"
            r"|\bhf_[A-Za-z0-9]{30,64}\b|\bnpm_[A-Za-z0-9]{36}\b|\bpypi-[A-Za-z0-9_-]{50,255}"
            r"|\bSG\.[\w-]{16,32}\.[\w-]{32,64}"
            r"|\beyJ[A-Za-z0-9_-]{10,1000}\.eyJ[A-Za-z0-9_-]{10,2000}\.[A-Za-z0-9_-]{10,1000}"
            r"|\bhttps://hooks\.slack\.com/services/[\w/]{20,80}"
        ),
        remedy="Remove it, replace it where it is valid, and read it from an environment variable.",
    ),
    Pattern(
        code="secret_assignment",
        severity="medium",
        message="gives a fixed value to what is named like a credential",
        expression=re.compile(
            r"\b\w{0,40}(?:passw(?:or)?d|secret|token|api_?key|access_?key|private_?key)\w{0,20}[\"']?[ \t]{0,9}[:=][ \t]{0,9}"
            r"(?P<quote>[\"'])(?P<value>[^\"'\s$<>{}%]{8,200})(?P=quote)",
            re.IGNORECASE,
        ),
        remedy="Read it from an environment variable.",
    ),
    Pattern(
        code="secret",
        severity="high",
        message="holds an address with a password in it",
        expression=re.compile(r"\b[a-z][a-z0-9+]{1,20}://[^\s/:@<>{}$]{1,80}:[^\s/:@<>{}$]{3,120}@[\w.-]{1,255}", re.I),
        remedy="Remove it, replace it where it is valid, and read it from an environment variable.",
    ),
)
