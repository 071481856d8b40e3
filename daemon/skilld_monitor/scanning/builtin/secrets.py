"""Keys, tokens and passwords.

Expressions begin with what is rare, so that a text is searched at the speed of `str.find`; what must not stand before
it is looked for behind its first characters. Every repetition is bounded, and none is followed by what it could take.
"""

from __future__ import annotations

__all__ = ["SECRETS"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_VALUE = r"[^\s\"'`,;&<>\[\](){}]"
_PASSWORD = r"pass(?:word|wd|phrase|code)|passwort|mot[ _]de[ _]passe|contrasena|pwd"
_PASSWORDS = ["*pass", "mot", "contrasena", "*pwd"]
_KEY_NAMES = (
    "api",
    "access",
    "secret",
    "private",
    "signing",
    "encryption",
    "webhook",
    "master",
    "auth",
    "account",
    "shared",
)
# A key is a secret by what it is called; a token and a secret are by themselves.
_KEY = f"token|secret|credentials?|key(?:{'|'.join(rf'(?<={name}.key)|(?<={name}key)' for name in _KEY_NAMES)})"
# On one line: what stands below a prompt such as "password:" is something else.
_GIVEN = r"[\"'`]?[^\S\n]{0,4}(?:=>|:=|==?|:)[^\S\n]{0,4}"


def _token(
    name: str, what: str, match: str, starts: list[str], *, check: str = "none", sure: float = 0.97, **more: Any
) -> Any:
    """A rule for a token that says itself what it is."""
    return {
        "id": f"secret.{name}",
        "category": "sensitive_data",
        "severity": "high",
        "confidence": sure,
        "kind": "pattern",
        "description": what,
        "match": match,
        "starts": starts,
        "check": check,
        "mask": "partial",
        **more,
    }


SECRETS: tuple[dict[str, Any], ...] = (
    _token(
        "anthropic-key",
        "a key of Anthropic's API",
        r"sk-ant-(?<![A-Za-z0-9]sk-ant-)[A-Za-z0-9_-]{20,200}",
        ["sk"],
    ),
    _token(
        "openai-key",
        "a key of OpenAI's API, or of one that looks the same",
        r"sk-(?<![A-Za-z0-9]sk-)(?:(?:proj|svcacct|admin|or-v1|None)-[A-Za-z0-9_-]{20,200}|[A-Za-z0-9]{32,128})"
        r"(?![A-Za-z0-9])",
        ["sk"],
        check="mixed",
    ),
    _token(
        "aws-access-key-id",
        "the id of an AWS access key",
        r"A(?<![A-Za-z0-9]A)(?:KIA|SIA|BIA|CCA)[A-Z2-7]{16}(?![A-Za-z0-9])",
        ["akia*", "asia*", "abia*", "acca*"],
        check="aws_id",
    ),
    _token(
        "aws-secret-key",
        "the secret of an AWS access key",
        r"(?i:secret[_ -]?(?:access[_ -]?)?key|secret(?:(?<=aws.secret)|(?<=awssecret)))[\"'`]?\s{0,4}(?:=>|:=|=|:"
        r"|is)\s{0,4}[\"'`]?"
        r"(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
        ["*secret"],
        check="mixed",
    ),
    _token(
        "google-api-key",
        "a key of a Google API",
        r"AIza(?<![A-Za-z0-9]AIza)[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])",
        ["aiza*"],
    ),
    _token(
        "google-oauth",
        "a secret or an access token of Google's OAuth",
        r"(?:GOCSPX-(?<!\wGOCSPX-)[A-Za-z0-9_-]{28}(?![A-Za-z0-9_-])|ya29\.(?<!\wya29\.)[A-Za-z0-9_-]{30,500})",
        ["gocspx", "ya29"],
    ),
    _token(
        "google-service-account",
        "the id of a private key of a Google service account",
        r"private_key_id[\"']{1,2}\s{0,4}:\s{0,4}[\"'](?P<secret>[0-9a-f]{40})[\"']",
        ["private"],
    ),
    _token(
        "azure-storage-key",
        "a key of an Azure storage account or message bus",
        r"(?:AccountKey|SharedAccessKey)\s{0,2}=\s{0,2}(?P<secret>[A-Za-z0-9+/]{43,86}={1,2})",
        ["accountkey", "sharedaccesskey"],
    ),
    _token(
        "azure-client-secret",
        "a client secret of Entra ID",
        r"Q~(?<=(?<![A-Za-z0-9_~.-])[A-Za-z0-9_~.-]{3}[78]Q~)[A-Za-z0-9_~.-]{31,34}(?![A-Za-z0-9_~.-])",
        ["q~"],
    ),
    _token(
        "azure-signature",
        "the signature of a shared access URL of Azure",
        r"sig=(?<=[?&]sig=)(?P<secret>[A-Za-z0-9%+/]{40,120}(?:=|%3[Dd])?)(?![A-Za-z0-9%])",
        ["sig"],
        check="mixed",
    ),
    _token(
        "github-token",
        "a token of GitHub",
        r"g(?<!\wg)(?:h[pousr]_[A-Za-z0-9]{36,255}|ithub_pat_[A-Za-z0-9_]{40,255})(?![A-Za-z0-9])",
        ["ghp", "gho", "ghu", "ghs", "ghr", "github"],
    ),
    _token(
        "gitlab-token",
        "a token of GitLab",
        r"gl(?<!\wgl)(?:pat|dt|rt|cbt|ptt|ft|imt|agent|oas|soat)-[A-Za-z0-9_-]{20,100}",
        ["glpat", "gldt", "glrt", "glcbt", "glptt", "glft", "glimt", "glagent", "gloas", "glsoat"],
    ),
    _token(
        "slack-token",
        "a token of Slack",
        r"x(?<!\wx)(?:ox[abeoprs]-[A-Za-z0-9-]{10,250}|app-\d-[A-Z0-9]{5,20}-\d{5,20}-[a-f0-9]{20,100})",
        ["xoxa", "xoxb", "xoxe", "xoxo", "xoxp", "xoxr", "xoxs", "xapp"],
        check="digit",
    ),
    _token(
        "slack-webhook",
        "an address that posts into Slack",
        r"hooks\.slack\.com/(?:services|workflows)/(?P<secret>[A-Za-z0-9/_-]{20,100})",
        ["hooks"],
    ),
    _token(
        "stripe-key",
        "a secret key of Stripe",
        r"(?:[rs]k_(?<!\w[rs]k_)(?:live|test)_[A-Za-z0-9]{16,200}|whsec_(?<!\wwhsec_)[A-Za-z0-9+/=]{20,200})",
        ["sk", "rk", "whsec"],
    ),
    _token(
        "registry-token",
        "a token of npm, PyPI, Docker Hub or RubyGems",
        r"(?:npm_(?<!\wnpm_)[A-Za-z0-9]{36}|pypi-(?<!\wpypi-)AgE[A-Za-z0-9_-]{50,1000}"
        r"|dckr_pat_(?<!\wdckr_pat_)[A-Za-z0-9_-]{20,60}|rubygems_(?<!\wrubygems_)[a-f0-9]{48})(?![A-Za-z0-9])",
        ["npm", "pypi", "dckr", "rubygems"],
    ),
    _token(
        "model-provider-token",
        "a token of Hugging Face, Groq, xAI, Replicate or Perplexity",
        r"(?:hf_(?<!\whf_)[A-Za-z0-9]{30,60}|gsk_(?<!\wgsk_)[A-Za-z0-9]{40,80}|xai-(?<!\wxai-)[A-Za-z0-9]{40,120}"
        r"|r8_(?<!\wr8_)[A-Za-z0-9]{37,45}|pplx-(?<!\wpplx-)[A-Za-z0-9]{40,64})(?![A-Za-z0-9])",
        ["hf", "gsk", "xai", "r8", "pplx"],
        check="mixed",
    ),
    _token(
        "service-token",
        "a token of SendGrid, DigitalOcean, Vault, Shopify, Databricks or Telegram",
        r"(?:SG\.(?<!\wSG\.)[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}|do[opr]_v1_(?<!\wdo[opr]_v1_)[a-f0-9]{64}"
        r"|hv[sb]\.(?<!\whv[sb]\.)[A-Za-z0-9_-]{24,200}|shp(?<!\wshp)(?:at|ca|pa|ss)_[a-f0-9]{32}"
        r"|dapi(?<!\wdapi)[a-f0-9]{32}|AA(?<=\d{8}:AA)[A-Za-z0-9_-]{33})(?![A-Za-z0-9])",
        ["sg", "dop", "doo", "dor", "hvs", "hvb", "shpat", "shpca", "shppa", "shpss", "dapi*", "aa*"],
    ),
    _token(
        "twilio-key",
        "a key of Twilio",
        r"SK(?<![A-Za-z0-9_]SK)[0-9a-f]{32}(?![A-Za-z0-9])",
        ["sk*"],
        check="mixed",
        sure=0.9,
    ),
    _token(
        "discord-token",
        "a token of a bot of Discord: its number, a time and a signature",
        r"[MNO](?<![A-Za-z0-9_-][MNO])[DTjz][A-Za-z0-9]{21,26}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,40}(?![A-Za-z0-9_-])",
        [],
        check="mixed",
        sure=0.9,
        needs=["discord*", "discord", "bot", "token", "authorization"],
    ),
    _token(
        "jwt",
        "a signed token (JWT)",
        r"eyJ(?<![A-Za-z0-9_-]eyJ)[A-Za-z0-9_-]{8,2000}\.eyJ[A-Za-z0-9_-]{4,6000}\.[A-Za-z0-9_-]{0,1000}",
        ["eyj*"],
        check="jwt",
    ),
    {
        **_token(
            "private-key",
            "a private key in PEM form",
            r"BEGIN(?<=-----BEGIN) (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
            r"(?:(?:[^-]|-(?!----)){20,16000}-----END (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
            r"|(?:\s|\\[nr]){0,8}(?:[A-Za-z0-9+/=]{16,80}(?:\s|\\[nr]){1,8}){1,400}[A-Za-z0-9+/=]{0,80})",
            ["begin"],
            check="pem",
        ),
        "mask": "full",
    },
    _token(
        "bearer",
        "the token of a request",
        r"(?:[Bb]earer|BEARER)\s{1,4}(?P<secret>[A-Za-z0-9_~+/.-]{16,2000}={0,2})",
        ["bearer"],
        check="mixed",
        sure=0.9,
    ),
    {
        **_token(
            "basic",
            "the name and password of a request",
            r"[Bb](?<![A-Za-z0-9][Bb])asic\s{1,4}(?P<secret>[A-Za-z0-9+/]{8,500}={0,2})(?![A-Za-z0-9+/=])",
            ["basic"],
            check="basic",
        ),
        "mask": "full",
    },
    {
        **_token(
            "url-password",
            "a password in a URL",
            r"://(?<=[A-Za-z0-9]://)[^\s/:@\"'<>]{0,100}:(?P<secret>[^\s/@\"'<>]{3,200})@[A-Za-z0-9\[]",
            ["://"],
            check="given",
            sure=0.9,
        ),
        "mask": "full",
    },
    {
        **_token(
            "option-password",
            "a password that a command is given as an option",
            r"(?:(?:-u|--user|--proxy-user)(?:(?<=[\s\"'\[]-u)|(?<=-user))[\s=\"',]{0,6}[\w.@+-]{1,60}:(?P<a>[^\s\"'`$:]{3,100})"
            r"|sshpass\s{1,4}-p\s{0,4}[\"']?(?P<b>[^\s\"'$]{3,100})"
            r"|mysql(?:dump|admin)?\s(?:[^\n;|]{0,80}?\s)?(?:-p|--password=)(?P<c>[^\s\"'$-][^\s\"'$]{2,100}))",
            ["-u", "--user", "--proxy-user", "sshpass", "mysql", "mysqldump", "mysqladmin"],
            check="given",
            sure=0.85,
            needs=["curl", "wget", "http", "https", "sshpass", "mysql", "mysqldump", "mysqladmin"],
        ),
        "mask": "full",
    },
    {
        **_token(
            "password",
            "a password that is given to a name",
            rf"(?i:{_PASSWORD}){_GIVEN}\\?(?:\"(?P<a>[^\"\n\\]{{4,200}})\\?\"|'(?P<b>[^'\n\\]{{4,200}})\\?')",
            _PASSWORDS,
            check="quoted",
            sure=0.85,
        ),
        "mask": "full",
    },
    {
        **_token(
            "bare-password",
            "a password that is given to a name, without quotation marks",
            rf"(?i:{_PASSWORD}){_GIVEN}(?P<secret>{_VALUE}{{4,200}})",
            _PASSWORDS,
            check="given",
            sure=0.8,
        ),
        "mask": "full",
    },
    {
        **_token(
            "said-password",
            "a password that somebody tells",
            rf"(?i:{_PASSWORD})(?i:\s{{1,4}}(?:is|ist|est|es|to|was)(?:\s{{1,4}}now)?\s{{0,4}}:?\s{{1,4}})[\"'`]?"
            r"(?P<secret>[^\s\"'`]{6,100})",
            _PASSWORDS,
            check="said",
            sure=0.75,
        ),
        "mask": "full",
    },
    {
        **_token(
            "assigned-key",
            "a key, token or secret that is given to a name",
            rf"(?i:{_KEY})(?![A-Za-z])(?:{_GIVEN}|\s{{1,4}}is\s{{0,4}}:?\s{{1,4}})[\"'`]?(?P<secret>[A-Za-z0-9_~+/.=-]{{12,500}})(?![A-Za-z0-9(\[])",
            ["*key", "*token", "*secret", "*credential"],
            check="random",
            sure=0.85,
        ),
        "mask": "partial",
    },
    {
        "id": "secret.named-field",
        "category": "sensitive_data",
        "severity": "high",
        "confidence": 0.85,
        "kind": "key",
        "description": "the value of a field whose name says that it is a secret",
        "match": r"(?:^|[^a-z])(?:pass(?:word|wd|phrase|code)|pwd|api[_-]?key|x-api-key|secret"
        r"|(?:access|auth|refresh|bearer"
        r"|session|client|private|signing)[_-]?(?:token|key|secret)|secret[_-]?(?:access[_-]?)?key|authorization|cookie"
        r"|set-cookie|credentials?)$",
        "check": "field",
        "mask": "full",
    },
)
