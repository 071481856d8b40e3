# ruff: noqa: RUF001 - letters of other alphabets are what it is about
"""To drop all instructions, as it is said in other languages than English; accents are folded before."""

from __future__ import annotations

__all__ = ["BETWEEN", "ELSEWHERE", "prompt"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BETWEEN = r"(?:\W{1,6})"  # two words: spaces, quotation marks, dashes, stars
_W = BETWEEN
_DE = r"(?:ignorier(?:e|en|t)?|vergiss|vergessen sie|vergesst|missachte[nt]?|uebergehe|ubergehe|verwirf)"
_FR = (
    r"(?:ignor(?:e|es|ez|er)|oubli(?:e|es|ez|er)|ne tiens? pas compte|ne tenez pas compte"
    r"|fais abstraction|faites abstraction)"
)
_ES = r"(?:ignor(?:a|e|en|ar)|olvid(?:a|e|ate|en|ar)|descart(?:a|e|ar)|desestim(?:a|e|ar)|haz caso omiso|no hagas caso)"
_IT = r"(?:ignora(?:re|te)?|dimentica(?:re|te)?|trascura(?:re)?|non tenere conto|non considerare)"
_PT = r"(?:ignor(?:e|a|ar|em)|esquec(?:a|e|er|am)|desconsider(?:e|a|ar)|descarte)"
_NL = r"(?:negeer|vergeet|veronachtzaam|sla over)"
_PL = r"(?:z?ignoruj|zapomnij|pomin|odrzuc)"
_RU = r"(?:(?:про)?игнорируй(?:те)?|забудь(?:те)?|не обращай(?:те)? внимания на|отбрось(?:те)?)"


def prompt(
    name: str, what: str, match: str, starts: list[str], *, severity: str = "medium", sure: float = 0.85, **more: Any
) -> Any:
    """A rule for a sentence."""
    return {
        "id": f"prompt.{name}",
        "category": "prompt_manipulation",
        "severity": severity,
        "confidence": sure,
        "kind": "command",
        "description": what,
        "match": match,
        "starts": starts,
        **more,
    }


ELSEWHERE = prompt(
    "ignore-instructions-elsewhere",
    "tells the model in another language to drop what it was told before",
    rf"(?:\b{_DE}(?:{_W}(?:bitte|alle[nrs]?|jede|die|deine[nr]?|ihre|deren|saemtliche|samtliche|meine|sofort"
    rf"|von|der|dir|bisher|zuvor|oben)){{0,6}}{_W}(?:(?:vorherige|vorige|bisherige|obige|fruehere|fruhere"
    rf"|vorangegangene|vorhergehende|urspruengliche|ursprungliche|gegebene|genannte)[nr]?{_W})?(?:anweisungen?"
    r"|regeln?|befehle?|vorgaben?|instruktionen|richtlinien|anordnungen|systemanweisungen|vorschriften"
    r"|beschrankungen|einschrankungen)\b"
    rf"|\b{_FR}(?:{_W}(?:moi|de|toutes|tous|les|tes|vos|ces|des|mes|l|tout|ce)){{0,6}}{_W}(?:instructions?"
    rf"|consignes?|regles|directives|ordres|commandes){_W}(?:precedente?s?|anterieure?s?|ci-dessus|d'avant"
    rf"|initiale?s?|recues?|donnees?|systeme|du{_W}systeme|qui{_W}precedent)\b"
    rf"|\b{_ES}(?:{_W}(?:por|favor|de|a|todas?|todos|las|los|tus|sus|mis|estas|esas"
    rf"|cualquier)){{0,6}}{_W}(?:instruccion(?:es)?|reglas|indicaciones|ordenes|directrices|normas"
    rf"|directivas){_W}(?:anterior(?:es)?|previas?|precedentes|iniciales|originales|de{_W}arriba"
    rf"|del{_W}sistema|que{_W}(?:te|se)|dadas|recibidas)\b"
    rf"|\b{_ES}{_W}todo{_W}lo{_W}anterior\b|\b{_FR}{_W}tout{_W}ce{_W}qui{_W}precede\b"
    rf"|\b{_IT}(?:{_W}(?:per|favore|di|tutte|tutti|le|gli|i|tue|vostre|queste"
    rf"|qualsiasi)){{0,6}}{_W}(?:istruzion[ei]|regol[ae]|direttive|indicazioni|ordini"
    rf"|comandi){_W}(?:precedent[ei]|anterior[ei]|iniziali|originali|sopra|di{_W}prima|del{_W}sistema"
    rf"|che{_W}ti|ricevut[ei])\b"
    rf"|\b{_PT}(?:{_W}(?:por|favor|de|todas?|todos|as|os|suas|tuas|minhas|estas|essas"
    rf"|quaisquer)){{0,6}}{_W}(?:instruco(?:es)|instrucao|regras|diretrizes|ordens|orientacoes"
    rf"|comandos){_W}(?:anterior(?:es)?|previas?|precedentes|iniciais|originais|acima|do{_W}sistema|que|dadas"
    r"|recebidas)\b"
    rf"|\b{_NL}(?:{_W}(?:alsjeblieft|alle|al|de|je|jouw|uw|deze|eventuele)){{0,5}}{_W}(?:vorige|eerdere"
    rf"|bovenstaande|voorgaande|gegeven|oorspronkelijke){_W}(?:instructies?|regels?|opdrachten|aanwijzingen"
    r"|richtlijnen|bevelen)\b"
    rf"|\b{_PL}(?:{_W}(?:prosze|wszystkie|wszelkie|te|swoje|twoje|o|wszystkich)){{0,5}}{_W}(?:poprzedni(?:e"
    rf"|ch)|wczesniejsz(?:e|ych)|powyzsz(?:e|ych)|dotychczasow(?:e|ych)|wszystkie){_W}(?:instrukcj[ei]"
    r"|polecenia|polecen|zasady|zasad|reguly|wytyczne|rozkazy)\b"
    rf"|\b{_RU}(?:{_W}(?:пожалуйста|все|всё|все|про|о|обо|всех|свои|твои|эти"
    rf"|любые)){{0,5}}{_W}(?:предыдущи[ех]|прошлы[ех]|прежни[ех]|вышеуказанны[ех]|ранние|данные|полученные"
    rf"|системные){_W}(?:инструкци[ияй]|указани[яй]|правила?|команды?|приказы|распоряжения|запросы|промпты)"
    r"|(?:忽略|无视|無視|忘记|忘掉|忽視|不要理会|不要遵守|不用管)[^\n。]{0,12}?(?:之前|以上|先前|前面|上面|此前|原有|原来|所有|一切|系统"
    r"|上述)[^\n。]{0,10}?(?:指令|指示|说明|規則|规则|提示|命令|设定|要求|限制|約束|约束)"
    r"|(?:以前|これまで|上記|前|今まで|先ほど|すべて|全て|あらゆる)の[^\n。]{0,12}?(?:指示|命令|ルール|プロンプト|規則|制約|指令)[^\n。]{0,6}?(?:無視|忘れ|破棄|従わな)"
    r"|(?:이전|앞의|위의|앞선|기존|지금까지의|모든)[^\n.]{0,12}?(?:지시|명령|규칙|지침|프롬프트|제한)[^\n.]{0,8}?(?:무시|잊)"
    r"|(?:تجاهل|انس|تجاوز)[^\n.]{0,12}?(?:التعليمات|الأوامر|القواعد|التوجيهات|الاوامر)"
    r"|(?:onceki|yukaridaki|tum|butun)\s{1,4}(?:(?:onceki|yukaridaki|tum|butun)\s{1,4}){0,2}(?:talimat\w{0,8}"
    r"|kural\w{0,8}|komut\w{0,8}|yonerge\w{0,8})\s{1,4}(?:yok say|unut|gormezden gel|dikkate alma)"
    r"|(?:पिछले|पिछली|पूर्व|उपरोक्त|सभी)[^\n।]{0,16}?(?:निर्देश|नियम|आदेश)[^\n।]{0,16}?(?:अनदेखा|भूल|नजरअंदाज"
    r"|नज़रअंदाज))",
    [
        *(
            "ignoriere",
            "ignorieren",
            "ignoriert",
            "ignorier",
            "vergiss",
            "vergessen",
            "vergesst",
            "missachte",
            "missachten",
            "missachtet",
            "ubergehe",
            "uebergehe",
            "verwirf",
        ),
        *(
            "ignore",
            "ignores",
            "ignorez",
            "ignorer",
            "oublie",
            "oublies",
            "oubliez",
            "oublier",
            "ne",
            "fais",
            "faites",
        ),
        *(
            "ignora",
            "ignoren",
            "ignorar",
            "olvida",
            "olvide",
            "olvidate",
            "olviden",
            "olvidar",
            "descarta",
            "descarte",
            "descartar",
            "desestima",
            "desestime",
            "desestimar",
            "haz",
            "no",
        ),
        *(
            "ignorare",
            "ignorate",
            "dimentica",
            "dimenticare",
            "dimenticate",
            "trascura",
            "trascurare",
            "trascurate",
            "non",
        ),
        *("ignorem", "esqueca", "esquece", "esquecer", "esquecam", "desconsidere", "desconsidera", "desconsiderar"),
        *("negeer", "vergeet", "veronachtzaam", "sla", "ignoruj", "zignoruj", "zapomnij", "pomin", "odrzuc"),
        *("игнорируй", "проигнорируй", "забудь", "не обращай", "отбрось"),
        *(
            "忽略",
            "无视",
            "無視",
            "忘记",
            "忘掉",
            "忽視",
            "不要理会",
            "不要遵守",
            "不用管",
            "以前の",
            "これまでの",
            "上記の",
            "前の",
            "今までの",
            "先ほどの",
            "すべての",
            "全ての",
            "あらゆるの",
        ),
        *(
            "이전",
            "앞의",
            "위의",
            "앞선",
            "기존",
            "지금까지의",
            "모든",
            "تجاهل",
            "انس",
            "تجاوز",
            "onceki",
            "yukaridaki",
            "tum",
            "butun",
            "पिछले",
            "पिछली",
            "पूर्व",
            "उपरोक्त",
            "सभी",
        ),
    ],
)
