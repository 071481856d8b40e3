"""Commands and statements that destroy, take over, or hide what was done; not the words for it.

What a rule looks for is how the command is written down to be run: with its options, its target, its end.
"""

from __future__ import annotations

__all__ = ["COMMANDS", "command"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# A space, or what a shell takes for one.
_S = r"(?:\s|\$\{?ifs\}?){1,20}"
_OPTIONS = rf"(?:{_S}[\"']?--?[a-z][\w=-]{{0,30}}[\"']?){{0,8}}?"
_SYSTEM = r"(?:bin|boot|dev|etc|home|lib(?:64)?|mnt|opt|proc|root|sbin|srv|sys|usr|users|var|windows)"
_SHELL = r"(?:(?:/usr)?/bin/)?(?:env\s{1,4})?(?:(?:ba|z|k|da|c|fi)?sh|python[23]?|perl|ruby|node|php|pwsh|powershell)"
_SUDO = r"(?:sudo(?:\s{1,4}-\w{1,8}){0,3}\s{1,4})?"
_NAME = r"[`\"'\[]?[a-z_][\w.$-]{0,100}[`\"'\]]?"
_END = r"(?=\s{0,8}(?:;|--|/\*|$|[\"'`)]|\bcascade\b|\brestrict\b|\\n))"


def command(
    name: str, what: str, match: str, starts: list[str], *, severity: str = "high", sure: float = 0.9, **more: Any
) -> Any:
    """A rule for a command."""
    return {
        "id": f"command.{name}",
        "category": "dangerous_commands",
        "severity": severity,
        "confidence": sure,
        "kind": "command",
        "description": what,
        "match": match,
        "starts": starts,
        **more,
    }


_RM = (
    rf"\brm[\"']?(?={_OPTIONS}{_S}[\"']?(?:-[a-z]{{0,8}}r|--recursive))"
    rf"(?:{_S}[\"']?--?[a-z][\w=-]{{0,30}}[\"']?){{1,8}}{_S}"
)

COMMANDS: tuple[dict[str, Any], ...] = (
    command(
        "recursive-remove",
        "removes the system's or the user's own folders, with all that is in them",
        rf"{_RM}[\"']?(?:/(?:\s|$|[\"'`;&|)*.]|{_SYSTEM}\b)|~|\*|\.{{1,2}}(?:/?[\"'\s]|/?$)|\$\{{?home|[a-z]:[\\/])",
        ["rm"],
        sure=0.95,
    ),
    command(
        "recursive-remove-forced",
        "removes a folder with all that is in it, without asking",
        rf"{_RM}[\"']?[\w./$\\{{-]",
        ["rm"],
        severity="medium",
        sure=0.7,
        unless=[rf"\brm{_OPTIONS}{_S}(?:-r|-[a-eg-z]{{0,6}}r[a-eg-z]{{0,6}}){_S}[\w.]"],
    ),
    command(
        "remove-everything",
        "removes files by other means than rm",
        r"(?:\bfind\s{1,8}(?:/|~|\$home)\S{0,100}(?:\s{1,8}-\w{1,12}(?:\s{1,4}[^\s-]\S{0,60})?){0,8}\s{1,8}"
        r"(?:-delete\b|-exec(?:dir)?\s{1,8}rm\b)"
        r"|\bshutil\.rmtree\(\s{0,4}[\"'](?:/|~|c:)|\bremove-item\b[^\n;|]{0,120}-recurse\b[^\n;|]{0,60}-force\b"
        r"|\bremove-item\b[^\n;|]{0,120}-force\b[^\n;|]{0,60}-recurse\b"
        r"|\b(?:rd|rmdir|del|erase)\s{1,8}(?:/[a-z]\s{1,8}){0,3}/s\b[^\n]{0,60}(?:[a-z]:\\|%\w{1,30}%|\*)"
        r"|\bformat\s{1,8}[a-z]:(?:\s|/|$))",
        ["find", "shutil", "remove", "rd", "rmdir", "del", "erase", "format"],
    ),
    command(
        "disk-overwrite",
        "makes a file system on a disk, or writes over it",
        rf"(?:\bmkfs(?:\.\w{{2,8}})?{_S}(?:-\S{{1,20}}{_S}(?:[\w.]{{1,30}}{_S})?){{0,6}}/dev/\w|\b(?:wipefs"
        rf"|blkdiscard)\b[^\n]{{0,60}}/dev/"
        rf"\w|\bshred\b[^\n]{{0,60}}\s/dev/\w|\bdd\b[^\n;|]{{0,120}}\bof=[\"']?/dev/(?:sd|hd|vd|xvd|nvme|mmcblk"
        r"|disk|mapper|mem)"
        rf"|>\s{{0,4}}/dev/(?:sd[a-z]|hd[a-z]|vd[a-z]|nvme\d|mmcblk\d)|\bmkfs\.\w{{2,8}}{_S}/dev/)",
        ["mkfs", "wipefs", "blkdiscard", "shred", "dd", ">"],
        needs=["dev"],
        sure=0.95,
    ),
    command(
        "fork-bomb",
        "starts processes until the machine stands still",
        r"(?:\(\)\s?\{\s{0,4}([\w:.]{1,20})\s{0,4}\|\s{0,4}\1\s{0,4}&\s{0,4}\}|%0\|%0\b)",
        ["(){", "() {", "%0|%0"],
        sure=0.97,
    ),
    command(
        "fork-loop",
        "starts processes for ever",
        r"(?:while\s{1,4}(?:true|1)\s{0,2}:\s{0,40}os\.fork\(\)|while\s{0,4}\(\s{0,2}(?:1"
        r"|true)\s{0,2}\)\s{0,4}\{?\s{0,4}fork\(\))",
        ["while"],
        needs=["fork"],
        sure=0.97,
    ),
    command(
        "download-and-run",
        "runs what comes from the network, unseen",
        rf"(?:\b(?:curl|wget|fetch)\b[^\n|;]{{0,300}}\|\s{{0,8}}{_SUDO}{_SHELL}\b"
        rf"|<\(\s{{0,4}}(?:curl|wget)\b|(?:\beval|-c)\s{{1,8}}[\"']?(?:\$\(|`)\s{{0,4}}(?:curl|wget)\b"
        rf"|\b(?:iex|invoke-expression)\b[\s(]{{0,8}}(?:\(?\s{{0,4}}(?:iwr|irm|curl|wget|invoke-webrequest"
        r"|invoke-restmethod|new-object))"
        rf"|\b(?:iwr|irm|invoke-webrequest|invoke-restmethod)\b[^\n|;]{{0,200}}\|\s{{0,8}}(?:iex|invoke-expression)\b"
        rf"|\b(?:curl|wget)\b[^\n|;&]{{0,200}}(?:-o|>)\s{{0,4}}(\S{{1,60}})(?=[\s;])[^\n|;&]{{0,200}}(?:&&"
        rf"|;)\s{{0,4}}(?:chmod\s{{1,4}}\S{{1,8}}\s{{1,4}}\S{{1,60}}"
        rf"\s{{0,4}}(?:&&|;)\s{{0,4}})?(?:{_SHELL}\s{{1,4}})?(?:\./)?\1)",
        ["curl", "wget", "fetch", "<(", "eval", "-c", "iex", "iwr", "irm", "invoke"],
    ),
    command(
        "decode-and-run",
        "runs what is hidden in an encoding",
        rf"(?:\bbase64\s{{1,4}}(?:-d|--decode|-di)\b[^\n|]{{0,100}}\|\s{{0,8}}{_SUDO}{_SHELL}\b"
        rf"|\bxxd\s{{1,4}}-r\b[^\n|]{{0,60}}\|\s{{0,8}}{_SHELL}\b"
        r"|\bpowershell(?:\.exe)?\b[^\n|]{0,80}\s-e(?:nc|ncodedcommand)?\s{1,4}[a-z0-9+/=]{16}"
        r"|\b(?:exec|eval)\s{0,2}\(\s{0,2}(?:compile\s{0,2}\(\s{0,2})?(?:__import__\([\"'](?:base64|zlib|marshal"
        r"|codecs)[\"']\)|base64|zlib|marshal|codecs|bytes\.fromhex|atob|"
        r"gzinflate|str_rot13|base64_decode|buffer\.from))",
        ["base64", "xxd", "powershell", "exec", "eval"],
    ),
    command(
        "sql-drop",
        "a statement that drops or empties a table or a database",
        rf"\b(?:drop\s{{1,20}}(?:table|database|schema|view|user|role|tablespace"
        rf"|collection)\s{{1,20}}(?:if\s{{1,8}}exists\s{{1,8}})?{_NAME}"
        rf"(?:\s{{0,4}},\s{{0,4}}{_NAME}){{0,20}}|truncate\s{{1,20}}(?:table\s{{1,20}})?{_NAME}){_END}",
        ["drop", "truncate"],
        unless=[
            r"\b(?:a|an|the|to|can|could|should|would|will|shall|you|we|i|they|may|might|and|or|how|please|must"
            r"|not)\s{1,4}"
            r"(?:drop|truncate)\s{1,4}(?:table|view|user|role|database|collection|schema|text|it|this|output|\w{1,20})"
            r"(?:\s{1,4}\w{1,30})?\s{0,4}(?:$|[\"'`)])"
        ],
    ),
    command(
        "sql-delete-all",
        "a statement that deletes or changes all rows of a table",
        rf"\b(?:delete\s{{1,20}}from\s{{1,20}}{_NAME}(?:\s{{1,8}}where\s{{1,8}}(?:1\s{{0,4}}=\s{{0,4}}1|true"
        rf"|'1'\s{{0,4}}=\s{{0,4}}'1'))?"
        rf"|update\s{{1,20}}{_NAME}\s{{1,20}}set\s{{1,20}}[a-z_][\w.]{{0,60}}\s{{0,4}}=\s{{0,4}}(?:'[^'\n]{{0,100"
        rf"}}'|[\w.+*-]{{1,60}})"
        rf"(?=\s{{0,4}};)){_END}",
        ["delete", "update"],
        sure=0.85,
        unless=[
            r"\b(?:a|the|to|can|could|should|would|will|you|we|i|they|and|or|how|please|not"
            r"|undo)\s{1,4}delete\s{1,4}from\s{1,4}\w{1,40}\s{0,4}(?:$|[\"'`)])"
        ],
    ),
    command(
        "sql-injection",
        "turns the condition of a statement around, or adds another statement",
        r"(?:or(?:(?<=['\"].{2})|(?<=['\"]\s.{2})"
        r"|(?<=['\"]\s\s.{2}))\s{1,4}(?:(['\"]?)(\w{1,12})\1\s{0,4}=\s{0,4}\1\2|true\b|(?:''|\"\")\s{0,4}=)"
        r"|union(?:(?<=['\");]union)|(?<=['\");]\sunion)|(?<=\d\sunion))\s{1,8}(?:all\s{1,8})?select\b"
        r"|(?:(?<=['\")];)|(?<=['\")];\s)|(?<=['\")]\s;\s))(?:drop|delete|truncate|insert|update|alter"
        r"|exec)\s{1,8}\w|\bxp_cmdshell\b|\binto\s{1,8}(?:out|dump)file\s{1,8}['\"])",
        ["or", "union", "drop", "delete", "truncate", "insert", "update", "alter", "exec", "xp", "into"],
        sure=0.85,
    ),
    command(
        "shutdown",
        "stops or restarts the machine",
        r"(?:\bshutdown\s{1,8}(?:-[hrpfs]{1,3}\b(?=\s{0,4}(?:$|now|\+?\d|[;&|\"'`)\n]))|/[srpf]\b|-\w{1,2}\s{1,4}(?:now|\+\d)|--(?:halt|poweroff|reboot))"
        r"|(?:(?<![\w\s/.-])|(?<=sudo\s)|(?<=[;&|`(]\s)|(?<=\n)|(?<=/bin/)|(?<=/sbin/))(?:shutdown\s{1,4}(?:now"
        r"|\+?\d)|(?:poweroff|reboot|halt)(?:\s{1,4}-\w{1,4}){0,3}\s{0,4}(?:$|[;&|`)\n\"'])"
        r"|init\s{1,4}[06]\b|telinit\s{1,4}[06]\b)"
        r"|\bsystemctl\s{1,4}(?:--\w{1,12}\s{1,4}){0,3}(?:poweroff|reboot|halt|kexec|rescue|emergency)\b|\b(?:stop"
        r"|restart)-computer\b\s{0,4}-force|sysrq(?<=/proc/sysrq)-trigger)",
        ["shutdown", "poweroff", "reboot", "halt", "init", "telinit", "systemctl", "stop", "restart", "sysrq"],
        sure=0.85,
    ),
    command(
        "run-input",
        "runs text that comes from outside as a program",
        r"(?:\b(?:eval|exec)\s{0,2}\(\s{0,4}(?:input\s{0,2}\(|raw_input\(|sys\.argv|sys\.stdin|request\."
        r"|requests\.(?:get|post)|req\.(?:body|query|params)|user_?input|urllib|"
        r"\$_(?:get|post|request|cookie)|params\[|response\.text|location\.(?:hash|search)|document\.)"
        r"|\bos\.(?:system|popen)\(\s{0,4}(?:input\s{0,2}\(|sys\.argv|request\.|req\.|user_?input"
        r"|f[\"'][^\"'\n]{0,80}\{|[\"'][^\"'\n]{0,40}\b(?:rm|curl|wget|nc|mkfs|dd|shutdown|chmod)\s)"
        r"|\bsubprocess\.\w{3,12}\(\s{0,4}(?:input\(|sys\.argv|request\.|user_?input"
        r"|f[\"'])[^\n]{0,120}shell\s{0,2}=\s{0,2}true"
        r"|import(?<=__import)__\(\s{0,2}[\"'](?:os|subprocess)[\"']\s{0,2}\)\.\w"
        r"|\bpickle\.loads?\(\s{0,4}(?:request|base64|sys\.stdin|urllib)"
        r"|\b(?:system|passthru|shell_exec|popen|exec)\(\s{0,4}\$_(?:get|post|request|cookie)\b"
        r"|\bchild_process\b[^\n]{0,40}\.exec(?:sync)?\(\s{0,4}(?:req\.|process\.argv|`[^`\n]{0,60}\$\{)"
        r"|\bgetruntime\(\)\.exec\()",
        [
            "eval",
            "exec",
            "os",
            "subprocess",
            "import",
            "pickle",
            "system",
            "passthru",
            "shell",
            "popen",
            "child",
            "getruntime",
        ],
        sure=0.85,
    ),
    command(
        "reverse-shell",
        "hands a shell to another machine",
        r"(?:(?:tcp(?<=/dev/tcp)|udp(?<=/dev/udp))/[\w.$-]{1,100}/[\d$]|\b(?:nc|ncat|netcat)(?:\.exe|\.traditional"
        r"|\.openbsd)?\s{1,4}(?:\S{1,60}\s{1,4}){0,6}?(?:-\w{0,6}[ec]|--(?:sh-)?exec)\s{1,4}[\"']?(?:/\S{0,40}sh\b"
        r"|cmd|powershell|(?:ba|z|k)?sh\b)"
        r"|\bmkfifo\s{1,4}\S{1,60}[^\n]{0,200}\|\s{0,4}(?:nc|ncat|netcat|openssl|telnet)\b"
        r"|\bsocat\b[^\n]{0,160}\bexec:|\bimport\s{1,4}[\w, ]{0,60}socket\b[^\n]{0,400}\b(?:dup2|pty\.spawn)\b"
        r"|\bfsockopen\s{0,2}\([^\n]{0,200}\b(?:exec|proc_open|shell_exec|system|popen)\b"
        r"|\bruby\s{1,4}-rsocket\b[^\n]{0,200}\bexec\b|\bperl\b[^\n]{0,60}\buse\s{1,4}socket\b[^\n]{0,300}\bexec\b"
        r"|\bnew-object\s{1,4}(?:system\.)?net\.sockets\.tcpclient\b|\b(?:ba|z|k)?sh\s{1,4}-i\s{1,4}(?:>|<|[0-9]))",
        [
            "tcp",
            "udp",
            "nc",
            "ncat",
            "netcat",
            "mkfifo",
            "socat",
            "import",
            "fsockopen",
            "ruby",
            "perl",
            "new",
            "sh",
            "bash",
            "zsh",
            "ksh",
        ],
        sure=0.95,
    ),
    command(
        "open-permissions",
        "lets everybody write the system, or gives it away",
        rf"(?:\bchmod{_S}(?:-{{1,2}}[a-z-]{{1,20}}{_S}){{0,4}}(?:0?[0-7]?777|a\+rwx|ugo\+rwx"
        rf"|o\+w){_S}(?:-r{_S})?[\"']?(?:/(?:\s|$|[\"'`;&|)*])|/{_SYSTEM}\b)"
        rf"|\bchown{_S}(?:-\w{{1,8}}{_S}){{0,3}}-\w{{0,4}}r\w{{0,4}}{_S}(?:-\w{{1,8}}{_S}){{0,3}}[\w.:-]{{1,60}}"
        rf"{_S}/(?:\s|$|[\"'`;&|)*]|{_SYSTEM}/?(?:\s|$|[\"'`;&|)]))"
        rf"|\bchmod{_S}(?:[u+]{{0,2}}s|[0-7]?[2467][0-7]{{3}}){_S}/(?:usr/)?s?bin/)",
        ["chmod", "chown"],
    ),
    command(
        "history-wipe",
        "hides what was done",
        r"(?:\bhistory\s{1,4}-[cw]{1,2}\b|\bunset\s{1,4}histfile\b|\b(?:export\s{1,4})?hist(?:file)?size=0\b"
        r"|\bhistfile=(?:/dev/null|[\"']{2}|\s|$)|\bset\s{1,4}\+o\s{1,4}history\b"
        r"|(?:\brm\b|\bshred\b|\btruncate\b|\bln\b|>)[^\n;|]{0,80}(?:\.(?:bash|zsh|sh|ash|python|mysql"
        r"|psql)_history\b|/var/log/(?:auth|syslog|secure|messages|wtmp|btmp|lastlog|audit))"
        r"|\bwevtutil(?:\.exe)?\s{1,4}(?:cl|clear-log)\b|\bclear-eventlog\b"
        r"|\bjournalctl\b[^\n]{0,60}--vacuum-(?:time|size)=\d{1,2}[smbk]?\b|\bauditctl\s{1,4}-(?:e\s{1,4}0|d)\b)",
        [
            "history",
            "unset",
            "export",
            "histsize",
            "histfilesize",
            "histfile",
            "set",
            "rm",
            "shred",
            "truncate",
            "ln",
            ">",
            "wevtutil",
            "clear",
            "journalctl",
            "auditctl",
        ],
        needs=[
            "history",
            "histfile",
            "histsize",
            "histfilesize",
            "log",
            "wevtutil",
            "eventlog",
            "journalctl",
            "auditctl",
        ],
    ),
    command(
        "read-credentials",
        "reads or sends away where passwords and keys are kept",
        r"\b(?:cat|less|more|head|tail|cp|scp|tar|zip|base64|xxd|curl|wget|nc|grep|strings|type|get-content|vi|vim"
        r"|nano|open)\b[^\n;|]{0,120}?"
        r"(?:/etc/(?:g?shadow|sudoers)\b|(?:~|/home/[\w.-]{1,40}|/root|\$home)/\.(?:ssh/id_\w{1,12}"
        r"|aws/credentials|netrc|pgpass|kube/config|docker/config\.json|gnupg|config/gcloud)|/proc/\d{1,8}/environ"
        r"|/proc/self/environ|\bntds\.dit\b|\bsam\.hive\b)",
        [
            "cat",
            "less",
            "more",
            "head",
            "tail",
            "cp",
            "scp",
            "tar",
            "zip",
            "base64",
            "xxd",
            "curl",
            "wget",
            "nc",
            "grep",
            "strings",
            "type",
            "get",
            "vi",
            "vim",
            "nano",
            "open",
        ],
        needs=[
            "shadow",
            "gshadow",
            "sudoers",
            "ssh",
            "aws",
            "netrc",
            "pgpass",
            "kube",
            "docker",
            "gnupg",
            "gcloud",
            "environ",
            "ntds",
            "sam",
        ],
        severity="medium",
        sure=0.8,
    ),
    command(
        "persistence",
        "makes a way back in, or takes defences down",
        r"(?:>>\s{0,4}[\"']?(?:~|/home/[\w.-]{1,40}|/root|\$home)/\.ssh/authorized_keys"
        r"|\bcrontab\b[^\n]{0,20}<<?<?[^\n]{0,120}(?:curl|wget|nc|/dev/tcp)|\bsetenforce\s{1,4}0\b"
        r"|\biptables\s{1,4}(?:-f|--flush)\b"
        r"|\bufw\s{1,4}disable\b|\bset-mppreference\b[^\n]{0,60}\$true|\buseradd\b[^\n;|]{0,80}\s-(?:o\s{1,4}-u"
        r"|u)\s{1,4}0\b|>>\s{0,4}/etc/(?:passwd|sudoers|crontab|ld\.so\.preload)\b"
        r"|\bnopasswd:\s{0,4}all\b[^\n]{0,60}(?:>>|tee)"
        r"|(?:echo|printf)\b[^\n]{0,120}\bnopasswd:\s{0,4}all\b)",
        [">>", "crontab", "setenforce", "iptables", "ufw", "set", "useradd", "nopasswd", "echo", "printf"],
        sure=0.85,
    ),
    command(
        "kill-everything",
        "ends every process",
        r"\b(?:kill\s{1,4}(?:-(?:9|kill|sigkill|s\s{1,4}(?:sig)?kill)\s{1,4})(?:--\s{1,4})?-1\b"
        r"|killall5\b(?:\s{1,4}-9)?|pkill\s{1,4}-(?:9|kill)\s{1,4}(?:-f\s{1,4})?[\"']?(?:\.\*?|\.)[\"']?(?:\s|$))",
        ["kill", "killall5", "pkill"],
        sure=0.9,
    ),
)
