"""Sentences that argue a model out of what it was told: its rules are void, its checks are off, it may not refuse."""

from __future__ import annotations

from skilld_monitor.scanning.builtin.languages import BETWEEN as _W
from skilld_monitor.scanning.builtin.languages import prompt

__all__ = ["PERSUASION"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OLD = r"(?:previous|prior|earlier|above|old|former|original|initial|existing|preceding)"
_RULES = r"(?:instructions?|rules?|prompts?|guidelines?|directives?|orders?|restrictions?|polic(?:y|ies)|constraints?)"
_SAFETY = r"(?:safety|content|moderation|ethics?|ethical|moral|security|censorship|alignment)"
_GUARDS = (
    r"(?:protocols?|checks?|filters?|measures?|controls?|mechanisms?|guardrails?|safeguards?|polic(?:y|ies)|guidelines?"
    r"|rules?|restrictions?|limits?|limitations?|training|settings?|features?|layers?)"
)
_SKIP = (
    r"(?:overrid(?:e|es|ing)|bypass(?:es|ing)?|ignor(?:e|es|ing)|disregard(?:ing)?|skip(?:ping)?|circumvent(?:ing)?"
    r"|evad(?:e|ing)|disabl(?:e|es|ing)|deactivat(?:e|ing)|drop(?:ping)?|suspend(?:ing)?|turn(?:ing)? off)"
)
_NOT = (
    r"\b(?:do not|don'?t|never|must not|mustn'?t|should not|shouldn'?t|cannot|can'?t|won'?t|not to|without|tries to"
    rf"|try to|attempts? to|refuse to|how to prevent)\s{{1,4}}(?:ever\s{{1,4}})?{_SKIP}\b"
)

PERSUASION: tuple[dict[str, Any], ...] = (
    prompt(
        "rules-are-void",
        "tells the model that what it was told before does not hold any more",
        rf"\b{_OLD}{_W}(?:{_OLD}{_W}|system{_W}|safety{_W}|set{_W}of{_W}){{0,2}}{_RULES}{_W}(?:(?:are|were|is|was|have{_W}been"
        rf"|has{_W}been){_W}(?:all{_W}|now{_W}|only{_W}|just{_W}|hereby{_W}|officially{_W}){{0,2}}(?:void|cancelled|canceled|obsolete"
        rf"|revoked|lifted|superseded|invalid|null|suspended|fake|wrong|outdated|not{_W}real|(?:a|part{_W}of{_W}a|for{_W}a){_W}(?:test"
        rf"|joke|simulation|trick|drill)|no{_W}longer{_W}(?:valid|apply|in{_W}(?:force|effect)|relevant|binding|needed))"
        rf"|(?:do{_W}not|don'?t|no{_W}longer){_W}(?:apply|hold|count|matter))\b",
        ["previous", "prior", "earlier", "above", "old", "former", "original", "initial", "existing", "preceding"],
        needs=[
            *("void", "cancelled", "canceled", "obsolete", "revoked", "lifted", "superseded", "invalid", "null"),
            *(
                "suspended",
                "fake",
                "wrong",
                "outdated",
                "test",
                "joke",
                "simulation",
                "trick",
                "drill",
                "longer",
                "apply",
            ),
            *("hold", "count", "matter", "real"),
        ],
        sure=0.75,
        directions=["input", "tool_arguments", "tool_result", "output", "error", "event"],
    ),
    prompt(
        "skip-safety",
        "tells the model to leave out what keeps it safe",
        rf"\b{_SKIP}{_W}(?:(?:all|any|every|of|the|these|those|its|built-?in|internal|usual|normal){_W}){{0,4}}"
        rf"(?:your{_W}(?:\w{{3,14}}{_W}){{0,2}}?{_SAFETY}|(?:all|any)(?:{_W}of)?(?:{_W}the)?{_W}{_SAFETY})"
        rf"(?:{_W}(?:and|or|&){_W}{_SAFETY})?{_W}{_GUARDS}\b",
        [
            *("override", "overrides", "overriding", "bypass", "bypasses", "bypassing", "ignore", "ignores"),
            *(
                "ignoring",
                "disregard",
                "disregarding",
                "skip",
                "skipping",
                "circumvent",
                "circumventing",
                "evade",
                "evading",
            ),
            *("disable", "disables", "disabling", "deactivate", "deactivating", "drop", "dropping", "suspend"),
            *("suspending", "turn", "turning"),
        ],
        needs=[
            *("safety", "content", "moderation", "ethics", "ethic", "ethical", "moral", "security", "censorship"),
            "alignment",
        ],
        sure=0.8,
        unless=[_NOT],
    ),
    prompt(
        "may-not-refuse",
        "tells the model that it has to do whatever it is asked",
        rf"(?:\byou{_W}(?:must|shall|will|have{_W}to|are{_W}(?:required|obliged|forced|programmed|going){_W}to)(?:{_W}(?:always|now"
        rf"|fully|blindly)){{0,2}}{_W}(?:comply{_W}with|obey|submit{_W}to|fulfil{_W}|fulfill{_W}|grant|do|satisfy|follow)"
        rf"{_W}?(?:every|all|any|each|whatever)(?:{_W}(?:of|my|single|user'?s?|the|and)){{0,3}}{_W}(?:requests?|commands?|demands?|wish(?:es)?"
        rf"|(?:i|the{_W}user){_W}(?:say|says|ask|asks|want|wants|command|commands)|orders?)\b"
        rf"|\brefus(?:ing|als?|e){_W}(?:is|are){_W}(?:not|never|no{_W}longer){_W}(?:allowed|an{_W}option|permitted|acceptable|possible)\b"
        rf"|\byou{_W}(?:can(?:not|{_W}not|'?t)|may{_W}not|must{_W}not|must{_W}never|will{_W}never|never|are{_W}(?:not|unable|never)"
        rf"(?:{_W}allowed)?{_W}to|do{_W}not|don'?t){_W}(?:ever{_W})?(?:refuse|decline|say{_W}no)(?:{_W}(?:to{_W}(?:answer|comply)|any(?:thing)?"
        rf"|my|a{_W}request|requests?|me|what)\b|\s{{0,4}}(?:[.,;!\n]|$))"
        rf"|\b(?:that|which|who|never){_W}(?:never{_W})?refuses?{_W}(?:anything|any{_W}(?:request|question|command)|a{_W}request)\b)",
        ["you", "refusing", "refusal", "refusals", "refuse", "that", "which", "who", "never"],
        needs=[
            *("comply", "obey", "submit", "fulfil", "fulfill", "grant", "satisfy", "follow", "refusing", "refusal"),
            *("refusals", "refuse", "refuses", "decline", "no", "whatever"),
        ],
        sure=0.75,
        directions=["input", "tool_arguments", "tool_result", "output", "error", "event"],
    ),
    prompt(
        "without-limits",
        "asks for answers that nothing holds back",
        rf"(?:\b(?:answer|respond|reply|speak|write|act|talk|continue|proceed|operate)\b(?:{_W}(?:me|everything|anything|freely|all|any|my"
        rf"|questions?|to|as|an?|honestly|only)){{0,4}}{_W}(?:without|free{_W}(?:of|from)){_W}(?:any{_W}|all{_W}|your{_W})?(?:(?:\w{{3,12}}){_W}(?:or|and){_W})?"
        rf"(?:censorship|filters?|moral(?:s|ity)?|ethical{_W}\w{{4,14}}|safety{_W}\w{{4,14}}|guardrails?|content{_W}\w{{4,14}})\b"
        rf"|\b(?:jailbroken|uncensored|unfiltered|unrestricted){_W}(?:\w{{2,12}}{_W})?"
        rf"(?:version|friend|ai|twin|self|mode|persona|character|alter{_W}ego|assistant|chatbot|model{_W}(?:that|who|which|with))\b"
        rf"(?:{_W}(?:of{_W}(?:yourself|you)|that|who|which|with|and|now)\b|\s{{0,4}}[.!?\n]|\s{{0,4}}$)"
        rf"|\b(?:no|zero|without(?:{_W}any)?){_W}(?:content{_W}(?:policy|filter|moderation)|censorship{_W}(?:at{_W}all|whatsoever)"
        rf"|ethical{_W}(?:guidelines?|limits|restrictions|constraints)|safety{_W}(?:rules|guidelines?|filters?|policy))\b)",
        [
            *("answer", "respond", "reply", "speak", "write", "act", "talk", "continue", "proceed", "operate"),
            *("jailbroken", "uncensored", "unfiltered", "unrestricted", "no", "zero", "without"),
        ],
        needs=[
            *("censorship", "filter", "filters", "moral", "morals", "morality", "ethical", "safety", "guardrail"),
            *("guardrails", "content", "jailbroken", "uncensored", "unfiltered", "unrestricted"),
        ],
        sure=0.7,
    ),
    prompt(
        "told-in-secret",
        "asks for what the model's makers have told it",
        rf"\b(?:tell|show|give|reveal|list|share|print|what{_W}are|what{_W}were|repeat|explain){_W}(?:me{_W}|us{_W})?(?:about{_W})?"
        rf"(?:all{_W})?(?:the|those|any){_W}(?:(?:secret|hidden|internal|confidential|original|initial|exact|full|system){_W}){{0,3}}"
        rf"{_RULES}{_W}(?:that{_W}|which{_W})?(?:were{_W}|was{_W}|have{_W}been{_W})?(?:you{_W}(?:were{_W}given|got|have|received|follow)"
        rf"|(?:given|told|shown|said|fed|written){_W}(?:to{_W}you|for{_W}you)"
        rf"|(?:your{_W}|the{_W})(?:developers?|creators?|makers?|operators?|company){_W}(?:gave|told|wrote|set){_W}(?:to{_W}|for{_W})?you)\b",
        ["tell", "show", "give", "reveal", "list", "share", "print", "what", "repeat", "explain"],
        needs=["you"],
        sure=0.75,
    ),
    prompt(
        "told-by-family",
        "wraps what a model refuses into a memory of somebody dear",
        r"\b(?:grandmother|grandma|granny|nana|grandfather|grandpa|great-aunt|late mother|late father)\b"
        r"[^.?!\n]{0,120}?"
        r"\b(?:napalm|explosives?|bombs?|meth(?:amphetamine)?|poisons?|nerve agents?|malware|ransomware|weapons?"
        r"|(?:licen[cs]e|product|activation|serial|windows) keys?)\b",
        ["grandmother", "grandma", "granny", "nana", "grandfather", "grandpa", "great", "late"],
        needs=[
            *("napalm", "explosive", "explosives", "bomb", "bombs", "meth", "methamphetamine", "poison", "poisons"),
            *("nerve", "malware", "ransomware", "weapon", "weapons", "key", "keys"),
        ],
        severity="low",
        sure=0.5,
    ),
)
