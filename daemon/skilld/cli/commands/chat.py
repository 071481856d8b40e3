"""skillctl chat: a conversation at the terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import click

from skilld.cli.app import App
from skilld.cli.aside import Aside
from skilld.cli.commands.options import complete_backends, complete_sessions, complete_skills, pass_app
from skilld.cli.context_gauge import context_text
from skilld.cli.exchange import Exchange
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import Console, size_text
from skilld.cli.prompt import Prompt, history_file
from skilld.cli.target import Target
from skilld.client import Client, SkilldError

__all__ = ["chat_command"]

_COMPACT_S: Final = 300.0

_HELP: Final = """\
Type a message and press Enter. A line that ends in a backslash goes on in the next one; \"\"\" on a line of its own
begins and ends a longer text. Tab completes. A line that you type while an answer is written is said to the turn that
writes it: the model hears it before its next step. Ctrl-C gives up what is typed, or cancels the turn that runs.
Ctrl-D leaves.
  /NAME ARGUMENTS  run a skill's command
  :approval        ask again about the call that waits for an approval
  :compact         put a summary in the place of the earlier part
  :context         how full the model's window is
  :skills          the skills there are
  :files           the files of the conversation
  :session         the conversation's id
  :new             begin another conversation
  :help            this
  :quit            leave; the conversation stays: skillctl chat -s SESSION"""


@click.command("chat")
@click.option("-s", "--session", metavar="SESSION", help="Go on with this session.", shell_complete=complete_sessions)
@click.option("-c", "--continue", "latest", is_flag=True, help="Go on with your latest session.")
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="B",
    help="Where its tools run; as for send.",
    shell_complete=complete_backends,
)
@click.option(
    "--mcp",
    "servers",
    multiple=True,
    metavar="NAME",
    help="Give the new session the tools of this tool server; repeatable.",
)
@click.option(
    "--skill",
    "skills",
    multiple=True,
    metavar="S",
    help="Let the new session use this skill; repeatable.",
    shell_complete=complete_skills,
)
@click.option("--model", metavar="M", help="The new session's model.")
@click.option("--no-history", is_flag=True, help="Remember nothing of what is typed.")
@pass_app
def chat_command(
    app: App,
    session: str | None,
    latest: bool,
    backends: tuple[str, ...],
    servers: tuple[str, ...],
    skills: tuple[str, ...],
    model: str | None,
    no_history: bool,
) -> int:
    """Talk with a model, message by message.

    Answers appear as they are written; what you type meanwhile is said to the turn that writes them. Ctrl-C cancels the
    turn and not the program. What is typed is remembered in ~/.local/state/skilld/chat_history. From a pipe, each line
    is a message.

    \b
    Examples:
      skillctl chat
      skillctl chat -c
      skillctl chat --backend docker --skill log-analyzer
    """
    target = Target(
        session=session,
        latest=latest,
        backends=backends,
        servers=servers,
        skills=skills,
        denied=(),
        cwd=None,
        model=model,
    )
    target.check(new=False)
    with app.client() as client:
        talk = _Talk(client, target)
        if latest or session is not None:
            talk.open()
        with Prompt(None if no_history else history_file(os.environ), talk.complete) as prompt:
            return talk.run(prompt)


class _Talk:
    """The conversation, begun with its first message; and what can be asked beside it."""

    def __init__(self, client: Client, target: Target) -> None:
        self._client = client
        self._target = target
        self._session: str | None = None
        self._exchange: Exchange | None = None
        self._listens = False  # to what is typed while an answer is written
        self._later: list[str] = []  # what was typed then, and is to be taken at the prompt
        self._console = Console(notes_on_stdout=True)
        self._commands: Mapping[str, Callable[[], object]] = {
            ":approval": self._approval,
            ":compact": self._compact,
            ":context": self._context,
            ":files": self._files,
            ":help": lambda: click.echo(_HELP),
            ":new": self._begin_anew,
            ":quit": _leave,
            ":session": lambda: click.echo(self._session or "none yet: it begins with the first message"),
            ":skills": self._skills,
        }

    def open(self) -> str:
        """The session's id; a new one is made now."""
        if self._session is None:
            self._session, made = self._target.open(self._client)
            self._console.note(f"{'session' if made else 'going on with session'} {self._session}")
        return self._session

    def run(self, prompt: Prompt) -> int:
        """Until the user leaves. Returns the exit code."""
        self._console.note(":help tells what can be typed")
        self._listens = prompt.is_edited
        while True:
            try:
                text = self._later.pop(0) if self._later else prompt.ask()
            except EOFError:
                print(flush=True)
                return EXIT.DONE
            except KeyboardInterrupt:
                print(flush=True)
                continue
            try:
                if self._take(text) == EXIT.WAITING_FOR_APPROVAL and not prompt.is_edited:
                    return EXIT.WAITING_FOR_APPROVAL
            except _Leave:
                return EXIT.DONE
            except KeyboardInterrupt:
                print(flush=True)
            except Failure as failure:
                failure.show()
            except SkilldError as error:
                Failure.of(error).show()
            except ValueError as error:
                Failure(str(error)).show()

    def complete(self, word: str) -> Sequence[str]:
        """Commands and skills that begin so; nothing if the daemon cannot be asked."""
        if word.startswith(":"):
            return [name for name in self._commands if name.startswith(word)]
        if not word.startswith("/"):
            return []
        try:
            found = self._client.skills()["items"]
        except SkilldError:
            return []
        names = [f"/{item['name']}" for item in found if item.get("entry")]
        return [name for name in names if name.startswith(word) and name.isprintable()]

    def _take(self, text: str) -> int:
        said = text.strip()
        if not said:
            return EXIT.DONE
        if said.startswith(":"):
            self._command(said)
            return EXIT.DONE
        text.encode("utf-8")  # half a surrogate pair from a terminal in another encoding: a ValueError
        session = self.open()
        if self._exchange is not None and self._exchange.go_on() == EXIT.WAITING_FOR_APPROVAL:
            raise Failure("not sent: the turn before waits for an approval; Ctrl-C at the question cancels it")
        aside = Aside(self._client, session, self._console) if self._listens else None
        self._exchange = Exchange(self._client, session, made=False, aside=aside)
        try:
            return self._exchange.run(text, None, None)
        finally:
            self._follow(session, aside)

    def _follow(self, session: str, aside: Aside | None) -> None:
        """Write the answers to what was typed too late for the turn before."""
        while aside is not None and aside.queued and not (self._exchange is not None and self._exchange.is_left):
            accepted = aside.queued.pop(0)
            self._exchange = Exchange(self._client, session, made=False, aside=aside)
            self._exchange.follow(accepted.turn, accepted.seq)
        if aside is not None:
            self._later.extend(aside.later)

    def _approval(self) -> None:
        if self._exchange is None or not self._exchange.is_left:
            click.echo("none waits here")
            return
        self._exchange.go_on()

    def _compact(self) -> None:
        if self._session is None:
            click.echo("there is nothing yet: the conversation begins with the first message")
            return
        turn = self._client.compact(self._session).turn
        result = self._client.turn(turn, wait_s=_COMPACT_S).get("result") or {}
        click.echo(result.get("text") or (result.get("error") or {}).get("message") or "it is still under way")

    def _context(self) -> None:
        gauge = None if self._session is None else context_text(self._client.session(self._session))
        click.echo(gauge or "not known before a model has answered")

    def _command(self, said: str) -> None:
        name = said.split()[0]
        near = [command for command in self._commands if command.startswith(name)]
        if len(near) != 1:
            raise Failure(f"there is no {name}; there are {', '.join(sorted(self._commands))}")
        self._commands[near[0]]()

    def _begin_anew(self) -> None:
        self._session = self._exchange = None
        self._target = Target(
            session=None,
            latest=False,
            backends=self._target.backends,
            skills=self._target.skills,
            denied=(),
            cwd=None,
            model=self._target.model,
        )
        self._console.note("the next message begins another conversation")

    def _skills(self) -> None:
        for item in self._client.skills()["items"]:
            name = f"/{item['name']}" if item.get("entry") else f" {item['name']}"
            self._console.note(f"{name}: {item.get('description', '')}")

    def _files(self) -> None:
        if self._session is None:
            click.echo("none yet: the conversation begins with the first message")
            return
        found = self._client.files(self._session)["items"]
        for item in found:
            self._console.note(f"{item['path']}  {size_text(item.get('size'))}")
        if not found:
            click.echo("none")


class _Leave(Exception):
    """The user wants to."""


def _leave() -> None:
    raise _Leave
