"""Sentences that are meant to turn a model against what it was told.

Each rule takes a verb, its object and what stands between them from lists: with any words in between it would find
ordinary sentences, and a text that is made for it could keep it busy.
"""

from __future__ import annotations

from skilld_monitor.scanning.builtin.languages import BETWEEN as _W
from skilld_monitor.scanning.builtin.languages import ELSEWHERE
from skilld_monitor.scanning.builtin.languages import prompt as _prompt

__all__ = ["PROMPTS"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DROP = (
    r"(?:ignor(?:e|es|ing)|disregard(?:s|ing)?|forget(?:s|ting)?|overrid(?:e|es|ing)|bypass(?:es|ing)?"
    r"|discard(?:ing)?|neglect(?:ing)?"
    r"|dismiss|overwrite|erase|abandon|nullify|revoke|suspend|unlearn|set aside|throw away|let go of"
    r"|pay no (?:attention|heed|mind) to|break free (?:of|from)"
    r"|(?:do not|don'?t|never|stop|no longer) (?:follow(?:ing)?|obey(?:ing)?|adher(?:e|ing) to|comply(?:ing)? with"
    r"|listen(?:ing)? to|car(?:e|ing) about))"
)
_FILL = (
    r"(?:about|all|any|every|each|the|your|my|our|those|these|that|this|of|such|other|and|or"
    r"|everything|anything|completely|entirely|please|whatever|system'?s?|developer'?s?|openai'?s?"
    r"|anthropic'?s?|user'?s?|safety|security|ethical|original|internal|content)"
)
_BEFORE = (
    r"(?:previous(?:ly)?|prior|above|earlier|preceding|foregoing|past|former|original|initial"
    r"|existing|current|old|pre-?existing|before|given|system|aforementioned|predefined)"
)
_ORDERS = (
    r"(?:instructions?|rules?|prompts?|directions?|directives?|guidelines?|commands?|orders?"
    r"|constraints?|restrictions?|polic(?:y|ies)|programming|training|guardrails?|limitations?"
    r"|safeguards?|instruct(?:ed|ing)|boundaries)"
)

# Where a line begins, or its heading's text does.
_HEAD = r"(?m:(?<=^)|(?<=^ )|(?<=^[\[<])|(?<=^\*\*)|(?<=^# )|(?<=^## )|(?<=^### )|(?<=^#### )|(?<=^##)|(?<=^###))"
_OPENING = r"(?:you|your|ignore|new|disregard|forget|the assistant|from now|override|always|never|do not|as of)\b"

# What a program's own author writes to a model may be said in its system prompt.
_FROM_OUTSIDE = ["input", "tool_arguments", "tool_result", "output", "error", "event"]

PROMPTS: tuple[dict[str, Any], ...] = (
    _prompt(
        "ignore-instructions",
        "tells the model to drop what it was told before",
        rf"\b{_DROP}(?:{_W}{_FILL}){{0,5}}(?:"
        rf"{_W}{_BEFORE}(?:{_W}(?:{_FILL}|{_BEFORE})){{0,4}}{_W}{_ORDERS}\b"
        rf"|{_W}(?:preceding|foregoing){_W}(?:text|messages?|content|context|conversation|input)\b"
        rf"|{_W}(?:your|all(?:{_W}(?:of|the|your|other|content|safety|security|ethical|moral|usage)){{0,3}}|any"
        rf"|every|these|system|developer|safety){_W}{_ORDERS}\b(?!\s{{1,4}}(?:of|for|in|about"
        rf"|on)\s{{1,4}}(?!(?:you|the\s{{1,4}}system)\b))"
        rf"|{_W}(?:the|those|my){_W}{_ORDERS}{_W}(?:above|before|you(?:'ve)?{_W}(?:were|have|had|got|received"
        rf"|follow)|given|that{_W}(?:came|were|you)|and{_W}(?:tell|say|do|act|give|reveal|print|answer|just)"
        rf"|so{_W}far|from{_W}(?:before|above))\b"
        rf"|{_W}(?:everything|anything|all|what|whatever|that){_W}(?:(?:that|which){_W})?(?:you{_W}(?:were"
        rf"|have{_W}been|had{_W}been|are|'ve{_W}been){_W}(?:told|taught|instructed|given|programmed|trained|asked)"
        rf"|(?:was|were|is|came|comes|has{_W}been){_W}(?:said|written|stated|above|before)(?:{_W}(?:above|before"
        rf"|earlier|previously))?|(?:i|we|they|anyone|the{_W}(?:system|developers?|user)){_W}(?:has|have|had"
        rf"|'ve)?{_W}?(?:told|instructed|taught){_W}you|above|before{_W}this(?:{_W}(?:line|point|message))?"
        rf"|prior{_W}to{_W}this)\b"
        rf")|\b(?:disregard|override){_W}(?:the|those){_W}(?:rules|instructions|guidelines"
        rf"|restrictions)\s{{0,4}}(?:[.!\n]|$)",
        [
            *(
                "ignore",
                "ignores",
                "ignoring",
                "disregard",
                "disregards",
                "disregarding",
                "forget",
                "forgets",
                "forgetting",
            ),
            *(
                "override",
                "overrides",
                "overriding",
                "bypass",
                "bypasses",
                "bypassing",
                "discard",
                "discarding",
                "neglect",
            ),
            *(
                "neglecting",
                "dismiss",
                "overwrite",
                "erase",
                "abandon",
                "nullify",
                "revoke",
                "suspend",
                "unlearn",
                "aside",
            ),
            *("set", "throw", "let", "pay", "break", "do", "don", "dont", "never", "stop", "no"),
        ],
        unless=[
            r"\b(?:do not|don'?t|never|must not|mustn'?t|should not|shouldn'?t|cannot|can'?t|won'?t|not to"
            r"|refuse to|without|tries to|try to|attempts? to|asked (?:it|you"
            rf"|me) to)\s{{1,4}}(?:ever\s{{1,4}})?{_DROP}(?:{_W}{_FILL}){{0,5}}{_W}(?:{_BEFORE}|{_ORDERS})"
        ],
    ),
    ELSEWHERE,
    _prompt(
        "no-limits-role",
        "gives the model a role in which its limits do not hold",
        rf"(?:\bdo{_W}anything{_W}now\b|\byou{_W}(?:are|will{_W}be|'re){_W}(?:now{_W}|going{_W}to{_W}(?:be"
        rf"|act{_W}as){_W})?(?:called{_W}|named{_W})?(?:dan|stan|aim|dude|jailbroken|unchained"
        rf"|devmode)\b(?:{_W}(?:which|who|that|and|an|mode|v?\d)|[^\w\s']|\s{{0,4}}$)"
        rf"|\b(?:act(?:ing)?{_W}as|pretend(?:ing)?(?:{_W}to{_W}be|{_W}that{_W}you{_W}are|{_W}you{_W}are"
        rf"|{_W}you'?re)?|you{_W}(?:are|'re|will{_W}be|become)(?:{_W}now)?|role-?play(?:ing)?{_W}as|simulate"
        rf"|become|behave{_W}(?:like|as)|respond{_W}as|answer{_W}as|play{_W}the{_W}role{_W}of"
        rf"|imagine{_W}you{_W}are)(?:{_W}(?:if|you|were|are|be|a|an|the|my|our|fully|completely|totally|truly|new"
        r"|ai|evil|hypothetical|fictional|version|of|yourself|assistant|model|chatbot|llm|language|called|named"
        rf"|\w{{2,12}})){{0,6}}?{_W}(?:unrestricted|unfiltered|uncensored|unlimited|amoral|unethical|jailbroken"
        rf"|lawless|unbound|unaligned|without{_W}(?:any{_W})?(?:\w{{3,12}}{_W}(?:(?:and"
        rf"|or){_W}\w{{3,12}}{_W})?)?(?:restrictions?|limits?|limitations?|rules?|filters?|guidelines?|censorship"
        r"|constraints?|morals?|ethics|boundaries|safeguards?)|(?:with|has"
        rf"|have){_W}no{_W}(?:\w{{3,12}}{_W}(?:(?:and|or){_W}\w{{3,12}}{_W})?)?(?:restrictions?|limits?"
        r"|limitations?|rules?|filters?|guidelines?|censorship|constraints?|morals?|ethics|boundaries"
        rf"|safeguards?)|not{_W}(?:bound|constrained|restricted|limited){_W}by)\b"
        rf"|\byou{_W}(?:are|were|'re|have{_W}been){_W}(?:(?:now|hereby|finally){_W})?(?:free(?:d)?{_W}(?:of|from)"
        rf"|(?:no{_W}longer|not){_W}(?:bound|constrained|restricted|limited|governed|obligated)|released{_W}from"
        rf"|liberated{_W}from){_W}(?:\w{{1,12}}{_W}){{0,5}}?(?:rules?|restrictions?|limits?|limitations?"
        r"|guidelines?|polic(?:y|ies)|constraints?|instructions?|programming|filters?|ethics|openai|anthropic"
        r"|guardrails?)\b"
        rf"|\byou{_W}(?:now{_W})?(?:have|has|must{_W}have|operate{_W}with"
        rf"|work{_W}with){_W}no{_W}(?:\w{{3,12}}{_W}(?:(?:and|or){_W}\w{{3,12}}{_W})?)?(?:restrictions?|limits"
        rf"|limitations|filters?|guidelines|censorship|constraints|morals|ethics|guardrails)\b(?!\s{{1,4}}(?:on|to"
        r"|in|for|when|as)\b)"
        rf"|\b(?:turn{_W}off|disable|switch{_W}off|deactivate|remove|lift|drop|shut{_W}off|circumvent"
        rf"|bypass){_W}(?:all{_W}(?:of{_W})?|any{_W})?(?:of{_W})?your{_W}(?:\w{{3,14}}{_W}){{0,3}}?(?:filters?"
        r"|restrictions?|guardrails?|safeguards?|safety|censorship|limitations?|ethics|moderation|protocols?"
        r"|alignment|guidelines?)\b"
        rf"|\b(?:enable|enter|activate|switch{_W}(?:in)?to|you{_W}(?:are|'re)(?:{_W}now)?{_W}in|turn{_W}on"
        rf"|initiate|respond{_W}in|answer{_W}in|go{_W}into){_W}(?:\w{{1,10}}{_W}){{0,2}}?(?:dan|jailbreak|god"
        rf"|unrestricted|uncensored|unfiltered|evil|sudo|no-?limits?|opposite|maintenance){_W}mode\b"
        rf"|\b(?:you{_W}are|you'?re|chatgpt|claude|gpt-?\d?|assistant|model|ai|respond|answer|act"
        rf"|output)(?:{_W}\w{{1,12}}){{0,5}}?{_W}developer{_W}mode(?:{_W}(?:enabled|output|v\d|on))?\b"
        rf"|\b(?:stay|remain){_W}in{_W}(?:character|dan){_W}(?:as{_W}dan|no{_W}matter|even{_W}if"
        rf"|at{_W}all{_W}(?:times|costs))\b"
        rf"|\bas{_W}an?{_W}(?:unrestricted|unfiltered|uncensored|amoral|jailbroken){_W}(?:ai|assistant|model|chatbot|llm)\b"
        rf"|\bas{_W}if{_W}you{_W}(?:had|have){_W}no{_W}(?:\w{{3,12}}{_W}){{0,2}}?(?:restrictions?|limits?|limitations?"
        rf"|filters?|guidelines?|rules?|polic(?:y|ies)|ethics|morals?|safeguards?)\b"
        rf"|\bevil{_W}(?:confidant|trump-?bot|bot{_W}mode)\b"
        rf"|\bgive{_W}two{_W}(?:responses|answers){_W}(?:\w{{1,12}}{_W}){{0,8}}?(?:jailbr\w{{2,8}}|dan"
        r"|unfiltered)\b)",
        [
            *(
                "do",
                "you",
                "act",
                "acting",
                "pretend",
                "pretending",
                "role",
                "roleplay",
                "roleplaying",
                "simulate",
                "become",
            ),
            *(
                "behave",
                "respond",
                "answer",
                "play",
                "imagine",
                "turn",
                "disable",
                "switch",
                "deactivate",
                "remove",
                "lift",
            ),
            *(
                "drop",
                "shut",
                "circumvent",
                "bypass",
                "enable",
                "enter",
                "activate",
                "initiate",
                "go",
                "chatgpt",
                "claude",
            ),
            *("as", "gpt*", "gpt", "assistant", "model", "ai", "output", "stay", "remain", "evil", "give"),
        ],
        unless=[r"\bdo anything now (?:and then|that|because|since|to help|about)\b"],
    ),
    _prompt(
        "reveal-instructions",
        "asks for the instructions that the model was given",
        r"(?:\b(?:reveal|show|print|repeat|output|tell|display|give|leak|share|recite|copy|dump|write|disclose"
        r"|expose|provide|list|quote|echo|paste|send|return|summari[sz]e|translate|spell|describe|what|what's"
        rf"|whats|encode|read)(?:{_W}(?:me|us|out|back|is|are|was|were|exactly|to|the|full|complete|entire|exact"
        rf"|verbatim|all|of|word|for|please|again|now|down|your|text|content|contents|first|\d{{1,3}}|lines?"
        rf"|words?|sentences?|in|base64|rot13|french|german|spanish|a|code|block)){{0,10}}?{_W}"
        rf"(?:your{_W}(?:own{_W}|full{_W}|entire{_W}|exact{_W}|complete{_W})?(?:(?:system|initial|original|hidden"
        r"|secret|internal|initialization|pre-?prompt|base|developer|confidential|underlying|core|starting"
        rf"|custom){_W}){{1,3}}(?:prompts?|instructions?|messages?|rules?|guidelines?|directives?|configuration"
        r"|settings?)"
        rf"|your{_W}(?:prompts?|pre-?prompt|sys(?:tem)?-?prompt|instructions{_W}(?:verbatim|word|above|exactly"
        rf"|in{_W}full|so{_W}far|as{_W}given))"
        rf"|the{_W}(?:complete|full|entire|exact|whole){_W}prompt{_W}(?:you|above|given)"
        rf"|the{_W}(?:(?:system|initial|original|hidden|secret|developer|above){_W}){{1,2}}(?:prompts?"
        rf"|instructions?|messages?){_W}(?:verbatim|word{_W}for{_W}word|above|that{_W}you|you{_W}(?:were|have|got"
        rf"|received|are)|given|in{_W}full|exactly|as{_W}is|of{_W}this{_W}(?:chat|conversation)"
        rf"|at{_W}the{_W}(?:top|start|beginning))"
        rf"|(?:everything|all|the{_W}(?:text|words?|content|sentences?|lines?|messages?|prompt|instructions?)"
        rf"|any{_W}text){_W}(?:(?:that{_W}(?:is|was|came)|written|from|shown){_W})?(?:above|before{_W}this"
        rf"|prior{_W}to{_W}this|preceding{_W}this)(?:{_W}(?:line|message|point|conversation|prompt|verbatim"
        rf"|starting|in|word|this|and|exactly)|[^\w]{{0,4}}$))\b"
        rf"|\bwhat{_W}(?:were|are|was|is){_W}(?:you{_W}(?:told|instructed|asked|programmed){_W}(?:to{_W}(?:do|say"
        rf"|keep|hide){_W})?(?:before|above|by{_W}(?:your|the){_W}(?:developers?|system|creators?)|in{_W}(?:your"
        rf"|the){_W}(?:system|hidden|initial)|at{_W}the{_W}(?:start|beginning))|the{_W}(?:first|initial"
        rf"|exact){_W}(?:words?|instructions?|lines?){_W}(?:of{_W}your|you{_W}(?:were|received|got)|in{_W}your))"
        rf"|\bstart(?:ing)?{_W}with{_W}[\"']?you{_W}are\b)",
        [
            *(
                "reveal",
                "show",
                "print",
                "repeat",
                "output",
                "tell",
                "display",
                "give",
                "leak",
                "share",
                "recite",
                "copy",
                "dump",
            ),
            *(
                "write",
                "disclose",
                "expose",
                "provide",
                "list",
                "quote",
                "echo",
                "paste",
                "send",
                "return",
                "summarize",
                "summarise",
            ),
            *("translate", "spell", "describe", "what", "whats", "encode", "read", "start", "starting"),
        ],
        needs=[
            "system",
            "initial",
            "original",
            "hidden",
            "secret",
            "internal",
            "developer",
            "confidential",
            "prompt",
            "prompts",
            "preprompt",
            "sysprompt",
            "systemprompt",
            "instructions",
            "above",
            "prior",
            "preceding",
            "before",
            "instructed",
            "told",
            "programmed",
            "asked",
            "starting",
            "start",
            "underlying",
            "base",
            "core",
            "custom",
        ],
        sure=0.8,
        unless=[
            r"\b(?:never|do not|don'?t|must not|mustn'?t|should not|shouldn'?t|cannot|can'?t|will not|won'?t|refuse to"
            r"|without|asks? (?:you )?to)\s{1,4}(?:ever\s{1,4})?(?:reveal|show|print|repeat|output|display|give|leak"
            r"|share|disclose|expose|describe|quote|tell)\b"
        ],
    ),
    _prompt(
        "role-markers",
        "has the marks with which a chat's parts are divided, to pass for another part of it",
        r"(?:<\|(?:im_start|im_end|im_sep|system|user|assistant|developer|endoftext|end_of_text|eot_id|start_header_id"
        r"|end_header_id|begin_of_text|endofprompt|start|channel|message)\|>|inst(?:(?<=\[inst)|(?<=\[/inst))\]"
        r"|sys(?:(?<=<<sys)|(?<=<</sys))>>|_of_turn(?:(?<=<start_of_turn)|(?<=<end_of_turn))>)",
        ["<|", "inst", "sys", "_of_turn"],
        directions=_FROM_OUTSIDE,
        sure=0.9,
    ),
    _prompt(
        "role-headings",
        "has headings that make it look like another part of the chat",
        rf"(?:{_HEAD}(?:system|developer)(?:[ _](?:prompt|message|instructions?|override|note"
        rf"|update))?\s{{0,2}}(?:\*\*|\]|>)?\s{{0,2}}:\s{{0,4}}(?:\*\*)?\s{{0,4}}{_OPENING}"
        r"|(?m:(?<=^## )|(?<=^### )|(?<=^#### )|(?<=^##)|(?<=^###))(?:system|instructions?|human|assistant)\s{0,2}:"
        r"|(?<=---)\s{0,2}(?:end|begin|start)\s{1,4}of\s{1,4}(?:system|user|developer)?\s{0,4}(?:prompt"
        r"|instructions?|input|message)\b"
        r"|(?<=--- )(?:end|begin|start)\s{1,4}of\s{1,4}(?:system|user|developer)?\s{0,4}(?:prompt|instructions?"
        r"|input|message)\b"
        r"|(?:(?<=<)|(?<=</))(?:system|system_prompt|sys|system-prompt|system_message|instructions|admin"
        rf"|developer)>\s{{0,8}}(?:{_OPENING}|(?:reveal|all|the)\b)"
        r"|role[\"']\s{0,4}:\s{0,4}[\"'](?:system|developer)[\"']\s{0,4},\s{0,4}[\"']content[\"'])",
        [
            "system",
            "developer",
            "instruction",
            "instructions",
            "sys",
            "admin",
            "human",
            "assistant",
            "end",
            "begin",
            "start",
            "role",
        ],
        directions=_FROM_OUTSIDE,
        sure=0.85,
    ),
    _prompt(
        "new-instructions",
        "puts other instructions in the place of those that were given",
        rf"(?:\b(?:your|here{_W}(?:are|is){_W}your|these{_W}are{_W}your){_W}(?:new|updated|real|true|actual"
        rf"|only){_W}(?:(?:system|primary|core|secret){_W})?(?:instructions?|task|goal|role|objective|purpose"
        rf"|directives?|orders?|rules|prompt|identity|mission)(?:{_W}(?:is|are|will{_W}be){_W}?(?:\s|:){_W}?(?:to"
        rf"|as|now|the{_W}following|:)\b|{_W}(?:is|are)\s{{0,2}}:|{_W}follows?\b|\s{{0,2}}:)"
        rf"|\b(?:new|updated|revised){_W}(?:system{_W}(?:prompts?|instructions?|messages?|directives?|rules)"
        rf"|instructions?{_W}(?:from{_W}(?:the{_W})?(?:system|developers?|admin\w{{0,10}}|openai|anthropic)"
        rf"|for{_W}(?:the{_W})?(?:ai|assistant|model|llm|chatbot)))\b"
        r"|\bnew instructions?\s{0,2}:\W{0,4}(?:you|ignore|from now|the assistant|always|never|do not|disregard)\b"
        rf"|\bfrom{_W}now{_W}on{_W}(?:you|the{_W}assistant){_W}(?:(?:will|must|shall|are{_W}to|should"
        rf"|are{_W}going{_W}to){_W}(?:only{_W})?(?:obey|ignore|disregard|act{_W}as|pretend|be{_W}known"
        rf"|never{_W}refuse|not{_W}refuse|answer{_W}(?:everything|anything|all|without)|do{_W}(?:anything"
        rf"|everything|exactly)|comply|have{_W}no)|have{_W}no|can{_W}(?:do|say){_W}anything|are{_W}(?:dan|free"
        rf"|unrestricted|no{_W}longer|not{_W}bound))\b"
        rf"|\b(?:attention|important|urgent|note|message|instructions?){_W}(?:to|for)?{_W}?(?:all{_W}|any{_W}"
        rf"|the{_W})?(?:ai|llm|language{_W}model|chatbot|assistant|agent)s?(?:{_W}(?:reading|processing|models?"
        rf"|agents?|assistants?|systems?|summari[sz]ing|analy[sz]ing|handling|that|who)){{0,3}}(?:{_W}(?:this"
        rf"|the){_W}(?:text|page|document|email|message|file|content|website|reads?))?\s{{0,2}}[:,]"
        rf"|\b(?:if|when){_W}you{_W}are{_W}an?{_W}(?:ai|llm|ai{_W}assistant|(?:large{_W})?language{_W}model"
        rf"|automated|artificial|chatbot)[^\n.]{{0,60}}?{_W}(?:must|should|have{_W}to|please|ignore|do{_W}not"
        r"|include|add|say|output|respond|reply|send|recommend)\b"
        rf"|\b(?:do{_W}not|don'?t|never|without){_W}(?:tell(?:ing)?|inform(?:ing)?|mention(?:ing)?|reveal(?:ing)?"
        rf"|disclos(?:e|ing)|alert(?:ing)?|notify(?:ing)?|let(?:ting)?|warn(?:ing)?)(?:{_W}(?:this|it|that"
        rf"|anything|about|to|of)){{0,3}}{_W}(?:the|your){_W}(?:user|human|owner|operator|developer"
        rf"|customer)s?(?:{_W}(?:know|about|that|of|anything|see)\b|\s{{0,2}}(?:[.,;:!?)\n\"]|$))"
        rf"|\bsystem{_W}(?:override|overwrite|reset)\s{{0,2}}(?:[:!-]|{_W}(?:code|initiated|activated|enabled"
        r"|engaged|protocol|you|all|ignore|mode))"
        rf"|\b(?:admin(?:istrator)?|root|developer|sudo|debug|maintenance){_W}(?:override|access|privileges?"
        rf"|command){_W}(?:granted|enabled|activated|code|accepted|engaged|mode){_W}?[\W_]{{0,4}}(?:you|ignore|all"
        r"|now|reveal|show|print|disable|proceed)\b)",
        [
            "your",
            "here",
            "these",
            "new",
            "updated",
            "revised",
            "from",
            "attention",
            "important",
            "urgent",
            "note",
            "message",
            "instruction",
            "instructions",
            "if",
            "when",
            "do",
            "don",
            "dont",
            "never",
            "without",
            "system",
            "admin",
            "administrator",
            "root",
            "developer",
            "sudo",
            "debug",
            "maintenance",
        ],
        sure=0.75,
    ),
    _prompt(
        "hidden-payload",
        "has the model decode something and do what it says",
        rf"(?:\b(?:decode|decrypt|decipher|un-?encode|translate|convert|reverse|rot13)\b[^\n]{{0,60}}?\b(?:base64"
        r"|base-64|rot13|hex(?:adecimal)?|binary|morse|cipher(?:text)?|encoded|encrypted|leetspeak|backwards"
        rf"|string|payload|message|following|this)\b[^\n]{{0,60}}?\b(?:and|then|,){_W}(?:then{_W}|immediately{_W}"
        rf"|do{_W}what{_W}it{_W}says|just{_W}|silently{_W})?(?:execute|follow|obey|run|comply{_W}with|do{_W}what"
        rf"|carry{_W}out|act{_W}(?:on|upon|according)|perform|treat|use{_W}it{_W}as{_W}(?:your|instructions?"
        rf"|a{_W}prompt)|answer{_W}it{_W}without)\b"
        rf"|\b(?:follow|execute|obey|perform|carry{_W}out){_W}(?:the{_W})?(?:instructions?|commands?|orders?"
        rf"|tasks?){_W}(?:that{_W}(?:is|are){_W})?(?:hidden|encoded|encrypted|embedded|concealed"
        rf"|contained){_W}(?:in|within|inside|below|as){_W}?[^\n]{{0,60}}(?:base64|rot13|hex|binary|string|text"
        r"|image|cipher|comment|blob|payload|code|metadata)\b)",
        [
            "decode",
            "decrypt",
            "decipher",
            "unencode",
            "un",
            "translate",
            "convert",
            "reverse",
            "rot13",
            "follow",
            "execute",
            "obey",
            "perform",
            "carry",
        ],
        sure=0.8,
    ),
    _prompt(
        "send-secrets",
        "has the model send away what it knows or may read",
        r"\b(?:send|post|upload|forward|e-?mail|exfiltrate|transmit|leak|submit|append|encode|export|mail|deliver"
        rf"|publish)\b(?:{_W}\w{{1,14}}){{0,8}}?{_W}(?:api{_W}?keys?|passwords?|credentials?|secrets?|tokens?"
        rf"|private{_W}keys?|env(?:ironment)?(?:{_W}(?:variables?|vars?|file))?|chat{_W}(?:history|log)"
        rf"|conversation(?:{_W}(?:history|log|so{_W}far))?|system{_W}prompt|ssh{_W}keys?|session{_W}cookies?"
        rf"|customer{_W}data|user{_W}data|personal{_W}data"
        rf"|contents?{_W}of{_W}[~/.]\S{{1,40}})\b(?:{_W}\w{{1,14}}){{0,6}}?{_W}(?:to|at|into|as"
        rf"|in)(?:{_W}\w{{1,12}}){{0,3}}?{_W}(?:https?://|ftp://|[\w.+-]{{1,40}}@[\w-]{{1,40}}\."
        rf"|[\w-]{{2,40}}\.(?:com|net|org|io|xyz|ru|cn|top|site|evil|info|dev)\b|\d{{1,3}}\.\d{{1,3}}\.\d{{1,3}}"
        rf"|attacker|(?:a{_W}|the{_W})?(?:url|webhook|query{_W}(?:string|parameter)))",
        [
            "send",
            "post",
            "upload",
            "forward",
            "email",
            "exfiltrate",
            "transmit",
            "leak",
            "submit",
            "append",
            "encode",
            "export",
            "mail",
            "deliver",
            "publish",
        ],
        severity="high",
        sure=0.8,
    ),
)
