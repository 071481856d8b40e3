"""Commands that empty or take down what programs run on: databases, clusters, clouds, backups, settings of a system."""

from __future__ import annotations

from skilld_monitor.scanning.builtin.commands import command

__all__ = ["SERVICES"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_S = r"\s{1,8}"
_ANY = r"[^\n;|&]{0,160}?"  # options and names, up to the end of the command
_NAME = r"[`\"'\[]?[a-z_][\w.$-]{0,100}[`\"'\]]?"
# What a person says of a command is no command.
_TOLD = r"\b(?:can|could|should|would|do|does|did|to|please|never|not|how|why|when|what|an?|the|before|after)\s{1,4}"

SERVICES: tuple[dict[str, Any], ...] = (
    command(
        "sql-schema",
        "a statement that takes away a column or a constraint, or gives all rights away",
        rf"\b(?:alter{_S}table{_S}(?:if{_S}exists{_S}|only{_S})?{_NAME}{_S}drop{_S}(?:column|constraint|primary|partition"
        rf"|index|foreign)\b|grant{_S}(?:all(?:{_S}privileges)?|super|file|dba|sysdba|superuser)(?:{_S}on{_S}\S{{1,120}})?"
        rf"{_S}to{_S}(?:public\b|[`\"'][^`\"'\n]{{0,60}}[`\"']@[`\"']%|\S{{1,60}}{_S}with{_S}(?:grant|admin){_S}option)"
        rf"|alter{_S}(?:user|role){_S}\S{{1,60}}{_S}(?:with{_S})?superuser\b)",
        ["alter", "grant"],
        severity="medium",
        sure=0.8,
    ),
    command(
        "store-wipe",
        "empties a store or drops it",
        rf"(?:\bredis-cli\b{_ANY}\bflush(?:all|db)\b|\bflush(?:all|db)(?:{_S}(?:a?sync))?\s{{0,4}}(?=[;\"'`)\n]|$)"
        r"|\bdb(?:\.getsiblingdb\([^)\n]{1,60}\))?\.(?:dropdatabase\s{0,2}\(|\w{1,60}\.(?:drop\s{0,2}\(\s{0,2}\)"
        r"|(?:deletemany|remove)\s{0,2}\(\s{0,2}\{\s{0,2}\}))"
        rf"|\b(?:dropdb|mysqladmin\b{_ANY}\bdrop){_S}(?:-\S{{1,20}}{_S}){{0,4}}\w"
        rf"|\b(?:curl|http)\b{_ANY}(?:-x\s{{0,2}}|--request[ =])[\"']?delete\b{_ANY}:9200/(?:_all|\*)"
        rf"|\brabbitmqctl{_S}(?:force_)?reset\b|\bkafka-topics\S{{0,4}}{_S}{_ANY}--delete\b)",
        ["redis", "flushall", "flushdb", "db", "dropdb", "mysqladmin", "curl", "http", "rabbitmqctl", "kafka"],
        sure=0.85,
    ),
    command(
        "infrastructure-remove",
        "takes down a cluster's, a cloud's or a host's parts, with what is stored in them",
        rf"\b(?:(?:kubectl|oc){_S}(?:--?\S{{1,60}}{_S}){{0,4}}delete{_S}(?:--?\S{{1,60}}{_S}){{0,4}}(?:ns|namespaces?|all|nodes?"
        rf"|pvc?|persistentvolume\w{{0,8}}|crds?|secrets?|\S{{1,40}}{_S}--all)\b"
        rf"|(?:terraform|tofu|terragrunt){_S}(?:\S{{1,60}}{_S}){{0,3}}?(?:destroy\b|apply\b{_ANY}-destroy\b)"
        rf"|pulumi{_S}(?:destroy\b|stack{_S}rm\b)|helm{_S}(?:uninstall|delete){_S}[\w-]"
        rf"|aws{_S}(?:s3{_S}(?:rb\b{_ANY}--force|rm\b{_ANY}--recursive)|\w[\w-]{{1,30}}{_S}(?:terminate-instances"
        r"|delete-(?:db-instance|db-cluster|bucket|stack|table|cluster|file-system|snapshot|volume|vpc|user|key)\b))"
        rf"|(?:gsutil|gcloud{_S}storage){_S}(?:-m{_S})?rm{_S}(?:-r|--recursive)\b"
        rf"|gcloud{_S}(?:\w[\w-]{{1,20}}{_S}){{1,3}}delete{_S}[\w-]"
        rf"|az{_S}(?:group|vm|storage{_S}account|sql{_S}(?:db|server)|aks|keyvault){_S}delete\b"
        rf"|docker{_S}(?:system{_S}prune\b{_ANY}(?:-\w{{0,3}}a|--all|--volumes)|volume{_S}prune\b{_ANY}(?:-\w{{0,2}}[af])"
        rf"|compose{_S}{_ANY}down\b{_ANY}(?:-v|--volumes)\b|rm{_S}-\w{{0,3}}f\w{{0,3}}{_S}\$\(docker{_S}ps)"
        rf"|(?:docker|podman){_S}run\b[^\n;|]{{0,200}}?(?:-v|--volume)[ =]/:/"
        rf"|(?:lvremove|vgremove|pvremove|zpool{_S}destroy|zfs{_S}destroy|cryptsetup{_S}(?:luksformat|erase))"
        rf"{_S}(?:-\S{{1,12}}{_S}){{0,4}}[\w/])",
        [
            *("kubectl", "oc", "terraform", "tofu", "terragrunt", "pulumi", "helm", "aws", "gsutil", "gcloud", "az"),
            *("docker", "podman", "lvremove", "vgremove", "pvremove", "zpool", "zfs", "cryptsetup"),
        ],
        severity="medium",
        sure=0.8,
        unless=[rf"{_TOLD}(?:terraform|helm|kubectl)\s{{1,4}}(?:destroy|uninstall|delete)\s{{0,4}}(?:$|[?.!,\"'`)])"],
    ),
    command(
        "backup-remove",
        "takes away what a system could be restored from",
        rf"\b(?:vssadmin(?:\.exe)?{_S}(?:delete{_S}shadows|resize{_S}shadowstorage)\b"
        rf"|wmic(?:\.exe)?{_S}{_ANY}shadowcopy{_S}{_ANY}delete\b|wbadmin(?:\.exe)?{_S}delete\b"
        rf"|bcdedit(?:\.exe)?{_S}{_ANY}/set{_ANY}(?:recoveryenabled{_S}no|bootstatuspolicy{_S}ignoreallfailures)\b"
        rf"|(?:restic|borg){_S}(?:forget\b{_ANY}--prune|delete{_S}\S)|tmutil{_S}delete\b|diskshadow\b{_ANY}delete)",
        ["vssadmin", "wmic", "wbadmin", "bcdedit", "restic", "borg", "tmutil", "diskshadow"],
        sure=0.9,
    ),
    command(
        "settings-remove",
        "takes away or overwrites settings that a system starts from",
        rf"(?:\bcrontab{_S}(?:-u{_S}\S{{1,40}}{_S})?-r\b|\breg(?:\.exe)?{_S}delete{_S}[\"']?hk(?:lm|cr|u|ey_)"
        rf"|\bremove-item(?:property)?\b{_ANY}hklm:|\bsystemctl{_S}(?:--now{_S})?(?:disable|stop|mask){_S}(?:--now{_S})?"
        r"(?:auditd|firewalld|ufw|apparmor|fail2ban|rsyslog|sshd?|systemd-journald)\b"
        rf"|\bnft{_S}flush{_S}ruleset\b|\biptables{_S}-p{_S}(?:input|forward){_S}accept\b"
        rf"|(?:>|\btee\b)\s{{0,4}}(?:-a\s{{1,4}})?/etc/(?:passwd|shadow|sudoers|fstab|ld\.so\.preload)\b"
        rf"|\bnetsh{_S}advfirewall{_S}set{_S}\w{{1,20}}{_S}state{_S}off\b)",
        ["crontab", "reg", "remove", "systemctl", "nft", "iptables", ">", "tee", "netsh"],
        needs=["-r", "hk*", "*hkey", "hklm", "systemctl", "nft", "iptables", "etc", "netsh"],
        severity="medium",
        sure=0.85,
    ),
    command(
        "history-rewrite",
        "overwrites or throws away what others have in a repository",
        rf"\bgit{_S}(?:-c{_S}\S{{1,60}}{_S}){{0,2}}(?:push\b{_ANY}\s(?:--force(?!-)|-f|--mirror|--delete|\+\S{{1,60}})(?=\s|$|[\"'`)])"
        rf"|filter-branch\b|filter-repo\b|reflog{_S}expire\b{_ANY}--all|clean{_S}-\w{{0,4}}f\w{{0,4}}[dx]"
        rf"|update-ref{_S}-d\b)",
        ["git"],
        severity="low",
        sure=0.7,
    ),
)
