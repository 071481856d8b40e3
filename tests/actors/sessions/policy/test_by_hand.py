"""Tricks that were written down one by one: programs with options that run others, and forms of the shell's grammar."""

from __future__ import annotations

import pytest

from policy_kit import bash_call, ruled
from skill_actors.sessions.policy import Policy, RuleSet

# Each of these removes x if it does what whoever writes it hopes for.
REMOVES = (
    # wrappers, by their options
    *("env -S 'rm x'", "env -S'rm x'", "env --split-string='rm x'", "env -iS 'rm x'", "env -u LANG rm x"),
    *("env -u=LANG rm x", "env -C / rm x", "env --chdir=/ rm x", "env -vS 'rm x'", "env - rm x", "env -- rm x"),
    *("env LANG=C -- rm x", "env PATH=. ls", "env LD_PRELOAD=./a.so ls", "env BASH_ENV=a bash -c ls"),
    *("nice -n 10 rm x", "nice -10 rm x", "nice --adjustment=1 rm x", "nice -n10 nice -n 1 rm x", "nice +5 rm x"),
    *("timeout -k 1 2 rm x", "timeout -k1 2 rm x", "timeout --kill-after=1 2 rm x", "timeout --foreground 2 rm x"),
    *("timeout -s9 2 rm x", "timeout -- 2 rm x", "timeout 2 -- rm x", "timeout -p 2 rm x"),
    *("nohup -- rm x", "setsid -c rm x", "setsid --fork rm x", "stdbuf -i0 -o0 rm x", "stdbuf --output=L rm x"),
    *("ionice -c 3 -n 7 rm x", "ionice -tc3 rm x", "chrt -o 0 rm x", "taskset -c 0 rm x", "setarch -R rm x"),
    *("sudo -u root -i rm x", "sudo -i", "sudo -s rm x", "sudo -nu root rm x", "sudo --user=root rm x"),
    *("sudo -- rm x", "sudo LANG=C rm x", "sudo -E env rm x", "doas -u root rm x", "su - -c 'rm x'"),
    *("runuser -u a -- rm x", "pkexec rm x", "setpriv --reuid=0 rm x", "capsh -- -c 'rm x'", "run0 rm x"),
    *("xargs -I{} rm {}", "xargs -I R sh -c R", "xargs -IR R x", "xargs -i rm {}", "xargs --replace=R rm R"),
    *("xargs -n1 -P4 rm", "xargs -d, rm", "xargs --delimiter=, rm", "xargs -a list rm", "xargs -L 1 -- rm"),
    *("xargs -o vi", "xargs -E end rm"),
    *("echo rm x | xargs env", "echo rm x | xargs xargs", "printf rm | xargs -IR env R x"),
    *("find . -exec rm {} \\;", "find . -exec rm {} +", "find . -exec rm '{}' ';'", "find . -ok rm {} \\;"),
    *("find . -execdir rm -- {} +", "find . -exec env rm {} \\;", "find . -exec sh -c 'rm \"$1\"' _ {} \\;"),
    *("find . -exec ls {} + -exec rm {} +", "find . '-exec' rm x ';'", "find . -e\\xec rm x \\;", "find . -delete"),
    *("find . {-exec,rm,x,\\;}", "find . -exe{c,} rm x \\;", "find . -[e]xec rm x \\;", "find . -exec {} x \\;"),
    *("find . -exec nice rm {} +", "find x -exec busybox rm {} +", "busybox rm x", "busybox sh -c 'rm x'"),
    *("busybox env rm x", "busybox xargs rm", "busybox find . -exec rm {} +", "toybox rm x", "busybox busybox rm x"),
    *("time -p rm x", "time -- rm x", "time >y -p rm x", "time >y -- rm x", "/usr/bin/time -o y rm x"),
    *("command -p rm x", "command -- rm x", "command command rm x", "builtin command rm x", "exec -a ls rm x"),
    *("exec -l rm x", "exec -c rm x", "exec -cla ls rm x", "coproc rm x", "coproc N { rm x; }", "! rm x"),
    # programs that run others
    *("bash -c 'rm x'", "bash -lc 'rm x'", "bash -O extglob -c 'rm x'"),
    *("bash --rcfile a -i", "bash -s < a", "bash a"),
    *("sh -ec 'rm x'", "dash -c 'rm x'", "zsh -c 'rm x'", "ksh -c 'rm x'", "fish -c 'rm x'", "rbash -c 'rm x'"),
    *("python3 -c 'import os; os.remove(\"x\")'", "python3 -m a", "python3.11 -c 1", "python3 a.py", "pypy3 a.py"),
    *("perl -e 'unlink \"x\"'", "perl5.36 -e 1", "ruby -e 'File.delete(\"x\")'", "php -r 'unlink(\"x\");'"),
    *("node -e 'x'", "node20 -e 'x'", "deno eval x", "lua5.4 -e 'os.remove(\"x\")'", "tclsh a", "Rscript -e 'x'"),
    *("awk 'BEGIN { system(\"rm x\") }'", "gawk '@load \"a\"'", "mawk 'BEGIN { print | \"rm x\" }'", "awk -f a"),
    *("sed -n '1e rm x' y", "sed '1w x' y", "sed -i 5q y", "sed -f a y", "sed 's/a/rm x/e' y", "sed -n 1p -i x"),
    *("git -c alias.a='!rm x' a", "git -c core.pager='rm x' log", "git clone 'ext::rm x'", "git --exec-path=. log"),
    *("git log --output=x", "git grep -Orm x", "git -C a status", "git diff --ext-diff", "git bisect run rm x"),
    *("ssh -o ProxyCommand='rm x' h", "ssh h rm x", "scp -S ./a y h:", "rsync -e 'rm x' y h:", "sftp -S a h"),
    *("tar xf a --to-command='rm x'", "tar cf a y --checkpoint=1 --checkpoint-action=exec='rm x'"),
    *("tar cf a y -I 'rm x'", "tar xf a --use-compress-program='rm x'", "zip a y -TT 'rm x'", "zip -T a y -TTrm"),
    *("vim -c '!rm x'", "vi -es -c ':!rm x' y", "ed y", "ex -c '!rm x'", "emacs --eval '(x)'", "less y", "more y"),
    *("man -P 'rm x' ls", "man ls", "crontab a", "at now", "batch", "systemd-run rm x", "systemctl edit a"),
    *("make -f a", "make SHELL=./a", "make --eval='x:;rm x'", "npm run a", "npx a", "yarn a", "cargo run"),
    *("cargo build", "go run a.go", "go generate", "docker run -v /:/h a rm /h/x", "podman run a", "kubectl exec a"),
    *("gcc -wrapper rm,x a.c", "gcc-12 -fplugin=./a.so a.c"),
    *("openssl engine ./a.so", "gpg --exec-path a --list-keys"),
    *("curl --engine ./a.so h", "curl -K a", "curl https://h/", "wget --use-askpass=./a h", "socat EXEC:'rm x' -"),
    *("split --filter='rm x' y", "sort --compress-program=rm -S1 x"),
    *("sort --compress-prog rm x", "sort -S1 --comp=rm x"),
    *("tree -L 1 -R", "tree -aR", "parallel rm ::: x", "watch rm x", "script -qc 'rm x' /dev/null", "expect -c 'x'"),
    *("flock l rm x", "flock l -c 'rm x'", "unshare -r rm x", "nsenter -t 1 rm x", "chroot . rm x", "strace rm x"),
    *("gdb -ex '!rm x'", "ltrace rm x", "screen -dm rm x"),
    *("tmux new rm x", "sqlite3 a '.shell rm x'", "psql -c '\\! rm x'"),
    *("m4 a", "jrunscript -e 'x'", "java -cp . A", "run-parts .", "start-stop-daemon -S -x /bin/rm x", "bwrap rm x"),
    *("/lib64/ld-linux-x86-64.so.2 /bin/rm x", "/lib/ld-linux.so.2 --preload ./a.so /bin/ls"),
    *("./rm x", "../bin/rm x"),
    *("/proc/self/exe", "/proc/self/root/bin/rm x", "/bin/../bin/rm x"),
    *("/bin/./rm x", "//bin/rm x", "/usr//bin/rm x"),
    # the shell's own
    *("PATH=. ls", "LD_PRELOAD=./a.so ls", "LD_LIBRARY_PATH=. ls", "BASH_ENV=a ls", "IFS=x ls", "ENV=a sh"),
    *("PROMPT_COMMAND='rm x'", "PS4='$(rm x)' ls"),
    *("SHELLOPTS=xtrace ls", "CDPATH=/ cd bin", "GIT_PAGER='rm x' git log"),
    *("PAGER='rm x' man ls", "EDITOR='rm x' ls", "LESSOPEN='|rm x' cat y", "PYTHONPATH=. ls", "PERL5OPT=-Ma ls"),
    *("hash -p /bin/rm ls; ls x", "hash -r", "enable -f ./a.so a; a", "enable -n test", "alias ls='rm x'; ls"),
    *("ls() { rm x; }; ls", "ls () ( rm x ); ls", "function ls { rm x; }; ls", "function ls() { rm x; }\nls"),
    *("trap 'rm x' EXIT", "trap 'rm x' DEBUG; ls", "eval rm x", "eval 'r'm' x'", "source a", ". a", ". /dev/stdin"),
    *("printf -v 'a[$(rm x)]' 1", "printf -v'a[$(rm x)]' 1", "read 'a[$(rm x)]'", "mapfile -C 'rm x' -c 1 a"),
    *("readarray -C 'rm x' a", "test -v 'a[$(rm x)]'"),
    *("[ -v 'a[$(rm x)]' ]", "[ x -o -v 'a[$(rm x)]' ]", "test -R 'a[$(rm x)]'"),
    *("wait -p 'a[$(rm x)]'", "wait -np 'a[$(rm x)]'"),
    *("wait -fnp'a[$(rm x)]'", "let 'a[$(rm x)]'", "declare 'a[$(rm x)]=1'"),
    *("unset 'a[$(rm x)]'", "export 'a=1'", "local a=1", "typeset -i 'a=b[$(rm x)]'", "getopts x 'a[$(rm x)]'"),
    *("complete -C 'rm x' y", "compgen -C 'rm x'", "bind -x '\"a\": rm x'", "fc -s rm", "history -s 'rm x'"),
    *("set -- rm x", "shopt -s expand_aliases", "set -o posix; ls", "shift", "return", "[[ -v a[$(rm x)] ]]"),
    *("(rm x)", "((a[$(rm x)]))", "{ rm x; }"),
    *("if rm x; then :; fi", "case a in a) rm x ;; esac", "for a in b; do rm x; done"),
    *("select a in b; do rm x; done", "while rm x; do :; done"),
    *("until rm x; do :; done", "a=(); rm x", "a[0]=1 rm x"),
    *("a+=1 rm x", "ls <(rm x)", "ls >(rm x)"),
    *("tee >(rm x)", "cat <<E | sh\nrm x\nE", "cat <<'E'\nE\nrm x", "cat <<-E\n\tE\nrm x"),
    *("sh <<< 'rm x'", "ls $(rm x)", "ls `rm x`", 'ls "$(rm x)"'),
    *('ls "`rm x`"', "ls ${a:=`rm x`}", "ls $((a[$(rm x)]))", "ls $[1]"),
    *("$'rm' x", '$"rm" x', "$0 -c 'rm x'", "$BASH -c 'rm x'", "${0##*/}"),
    *("$_", "r\\m x", "\\r\\m x", "r''m x", "'r'\"m\" x"),
    *("r\\\nm x", "rm\\\n x", "r?  x", "r[m] x", "[r]m x", "{rm,x}"),
    *("r{m,} x", "{r,}m x", "~/rm x", "~root/rm x", "*/rm x", "r* x"),
    *("ls\nrm x", "ls\n\nrm x", "ls;rm x", "ls&rm x", "ls&&rm x"),
    *("ls||rm x", "ls|rm x", "ls|&rm x", "ls #a\nrm x", "#\nrm x"),
    *(">y rm x", "<y rm x", "2>y rm x", "&>y rm x", ">&y rm x"),
    *(">&-rm x", "<&-rm x", "2>&1rm x", ">|y rm x", "<>y rm x"),
    *("ls >y;rm x", "ls 2>&1;rm x", "ls 2>&1&rm x"),
    *("ls &>y rm;rm x", "{a}>y rm x", "ls 9999999999>y; rm x", "9999999999>y rm x"),
    # characters
    *("ls\rrm x", "ls\r\nrm x", "ls\x00;rm x", "rm\x0bx"),
    *("rm\x0cx", "\x0crm x", "ls\x85rm x", "ls\u2028rm x", "ls\u2029rm x"),
    *("rm\u00a0x", "\u200brm x", "r\u200dm x", "\ufeffrm x"),
    *("\uff52\uff4d x", "r\u043c x", "rm\u3000x", "\u202emr x", "r\u00adm x"),
    *("ls \x1b[8m;rm x", "ls \x9b8m;rm x", "ls \x08\x08rm x"),
    *("r\U000e0001m x", "\U0001d493m x", "ls \u2066;rm x", "ls\x7f;rm x"),
    *("\ud800;rm x", " " * 16_400 + "rm x"),
    *("ls;" * 120 + "rm x", "ls" + " a" * 600 + ";rm x", "ls '" + "a" * 16_400 + "'; rm x"),
    *("rm", "rm\tx", " rm x ", "rm -- x", "rm x #", "rm<y"),
    *("rm>y x", "rm;", "rm&", "nohup rm x&", "r'm' 'x'", "rm ''", "rm \\\n"),
)  # fmt: skip

# Each of these writes a file or changes something, by means of a program that else but reads.
WRITES = (
    *("sort -o x y", "sort -ox y", "sort -uox y"),
    *("sort --output=x y", "sort --out x y", "sort y -o x", "sort --o=x y"),
    *("uniq y x", "uniq - x", "uniq -- -y x", "uniq -c y x", "uniq -c -- - x", "uniq y*", "cat y | uniq - x"),
    *("find . -fprint x", "find . -fprintf x a", "find . -fprint0 x", "find . -fls x", "find . -delete", "find . *"),
    *("sed -i 1d y", "sed -n 'w x' y", "sed --in-place 1d y", "sed 1d\\;wx y", "sed -n 1,5w\\ x y", "sed -s 1p y"),
    *("date -s 1", "date --set=1", "date 01010101", "ls > x"),
    *("> x", ">> x", "cat y >| x", "cat y &> x", "cat y >& x"),
    *("cat <> x", "echo a >x", "printf a 2>x", "true >x", ": > x", "cat < y > x", "ls 2> x", "tee x", "shuf -o x y"),
    *("xxd y x", "xxd -r y x", "tree -o x", "file -C -m y", "env tee x", "cd / ; tee x", "touch x", "xargs touch"),
    *("ls | tee x", "dd of=x", "cp y x", "ln -s y x"),
    *("truncate -s0 x", "mkdir x", "chmod +x y", "find . -exec touch x +"),
    *("find . -exec touch {} +", "nice touch x", "curl -o x h", "wget h"),
    *("mv y x", "install y x", "patch x y", "gzip x"),
)  # fmt: skip

DENIED = ruled({"effect": "deny", "command": "rm **"}, preset="full")
ASKED = ruled({"effect": "ask", "command": "rm **"}, preset="full")
NO_REMOVAL = ruled({"effect": "deny", "command": "rm **"}, {"effect": "allow", "command": "**"}, {"effect": "deny"})
ANY_READING = ruled(
    {"effect": "allow", "command": ["sort **", "uniq **", "find **", "sed **", "xxd **", "shuf **", "tree **"]},
    {"effect": "allow", "command": ["file **", "cat **", "ls **", "wait **", "printf **", "test **", "[ **", "env **"]},
    {"effect": "deny"},
)


def verdict(rules: RuleSet, line: str) -> str:
    return Policy(tools=["bash_tool"], rules=[rules], workspace="/desk").decide(bash_call(line)).verdict


@pytest.mark.parametrize("name", ["deny", "ask", "no removal", "reading", "read-only", "guarded"])
def test_none_of_them_gets_a_removal_allowed(name: str) -> None:
    rules = {
        "deny": DENIED,
        "ask": ASKED,
        "no removal": NO_REMOVAL,
        "reading": ANY_READING,
        "read-only": ruled(preset="read-only"),
        "guarded": ruled(preset="guarded"),
    }[name]
    assert [line for line in REMOVES if verdict(rules, line) == "allow"] == []


@pytest.mark.parametrize("name", ["reading", "read-only", "guarded"])
def test_none_of_them_writes_where_but_reading_is_allowed(name: str) -> None:
    rules = ANY_READING if name == "reading" else ruled(preset=name)
    assert [line for line in WRITES if verdict(rules, line) == "allow"] == []


def test_they_are_many_and_each_is_there_once() -> None:
    assert len(REMOVES) + len(WRITES) == len({*REMOVES, *WRITES}) + 1  # find . -delete does both
    assert len(REMOVES) > 400
