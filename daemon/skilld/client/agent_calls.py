"""What the clients say about agents of the workshop: made, spoken to, waited for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

from skilld.client import wire
from skilld.client.wire import LONG_S, REQUEST_TIMEOUT_S, Accepted, Call, Json

__all__ = ["AgentCalls", "AsyncAgentCalls"]

T = TypeVar("T")

Gather = Literal["none", "all", "quorum", "first", "best"]

_WORKSHOP: Final = "/v1/workshop"
_AGENTS: Final = "/v1/workshop/agents"
_WAIT_S: Final = 300.0  # for one request
_UNBOUND_S: Final = 7 * 86_400.0  # a pipe or a fan without a time of its own
_OPEN: Final = frozenset({"queued", "running"})


class AgentCalls:
    """A part of `Client`, which brings the connection."""

    def _do(self, call: Call[T]) -> T:
        raise NotImplementedError

    def turn(self, turn: str, *, wait_s: float = 0.0) -> Json:
        raise NotImplementedError

    def agents(self, *, dismissed: bool = False, owner: int | Literal["all"] | None = None) -> list[Json]:
        """One's own agents by name: what each is, does, and has cost; with `dismissed` also those that are gone.

        Args:
            owner: those of this user, or of "all", for the role admin; here and in what follows.

        """
        return list(self._do(_agents(dismissed, owner))["items"])

    def agent(self, name: str, *, owner: int | None = None) -> Json:
        """Everything about one agent, its `settings` and `system_prompt` too."""
        return self._do(wire.get(wire.of_owner(_path(name), owner)))

    def define_agent(self, name: str, *, replace: bool = True, **settings: Any) -> Json:
        """Define an agent and return it.

        Args:
            replace: put it in the place of the one of this name; else SkilldError (`conflict`) where there is one.
            settings: role, profile, backend, options, fallback, model, effort, max_turns, policy, skill, skills,
                context, system, max_cost_usd, timeout_s, queue, cwd, git_context, labels.

        """
        return self._do(_define(name, settings, replace))

    def dismiss_agent(self, name: str) -> None:
        """Dismiss an agent: what it does is cancelled, what it has cost stays known."""
        self._do(wire.write("DELETE", _path(name)))

    def reset_agent(self, name: str) -> Json:
        """Give an agent a conversation anew, with all its options, and return it."""
        return self._do(wire.write("POST", _path(name, "/reset")))

    def revive_agent(self, name: str) -> Json:
        """Let an agent that crashed too often go on, and return it."""
        return self._do(wire.write("POST", _path(name, "/revive")))

    def agent_history(self, name: str, *, last: int = 10, owner: int | None = None) -> list[Json]:
        """The latest turns of an agent that have ended, oldest first."""
        return list(self._do(_history(name, last, owner))["items"])

    def agents_cost(self, *, owner: int | None = None) -> Json:
        """What each agent has ever cost, and all together: {"items", "total"}."""
        return self._do(wire.get(wire.of_owner(f"{_WORKSHOP}/cost", owner)))

    def agent_git(self, name: str) -> Json:
        """How the repository of an agent's folder stands."""
        return self._do(wire.get(_path(name, "/git")))

    def agent_diff(self, name: str) -> Json:
        """What is not committed there, or not merged of its worktree: {"diff", "cut"}."""
        return self._do(wire.get(_path(name, "/git/diff")))

    def agent_worktrees(self) -> list[Json]:
        """The worktrees of one's own agents, those that were dismissed too."""
        return list(self._do(wire.get(f"{_WORKSHOP}/worktrees"))["items"])

    def merge_worktree(self, name: str, *, commit: str | None = None) -> Json:
        """Merge an agent's worktree into its repository: {"merged", "commit", "conflicts"}; with conflicts nothing is.

        Args:
            commit: first commit what is not committed in it, with this message.

        """
        return self._do(_merge(name, commit))

    def remove_worktree(self, name: str, *, force: bool = False) -> None:
        """Remove the worktree of an agent that was dismissed; with `force` also what is not merged."""
        self._do(_remove_tree(name, force))

    def profiles(self) -> list[Json]:
        """One's own profiles, by name."""
        return list(self._do(wire.get(f"{_WORKSHOP}/profiles"))["items"])

    def profile(self, name: str) -> Json:
        """One profile."""
        return self._do(wire.get(_profile(name)))

    def define_profile(self, name: str, **settings: Any) -> Json:
        """Define a profile, from which agents can be made, and return it; settings as `define_agent`."""
        return self._do(wire.write("PUT", _profile(name), settings))

    def remove_profile(self, name: str) -> None:
        """Remove a profile; agents that were made from it stay."""
        self._do(wire.write("DELETE", _profile(name)))

    def agents_config(self) -> Json:
        """What holds for agents that are defined from now on: {"context", "defaults", "max_cost_usd"}."""
        return self._do(wire.get(f"{_WORKSHOP}/config"))

    def configure_agents(self, **changes: Any) -> Json:
        """Change context, defaults or max_cost_usd for later agents, None takes one away; all of them."""
        return self._do(wire.write("PATCH", f"{_WORKSHOP}/config", changes))

    def ask_agent(
        self,
        name: str,
        text: str,
        *,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        schema: Mapping[str, Any] | None = None,
        force: bool = False,
    ) -> Json:
        """Ask an agent, wait for the end of its turn, and return the turn.

        Args:
            timeout_s: the turn is cancelled then, in the queue or at work; what it has said by then is its text.
            force: also if the agent's program has crashed under this message before.

        """
        said = _said(text, timeout_s, options, schema, force)
        found = self._do(_ask(name, said, idempotency_key))
        while found["status"] in _OPEN:
            found = {**self.turn(found["turn"], wait_s=_WAIT_S), "agent": name}
        return found

    def cast_agent(
        self,
        name: str,
        text: str,
        *,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        schema: Mapping[str, Any] | None = None,
        force: bool = False,
    ) -> Accepted:
        """Tell an agent something and wait for nothing; SkilldError (`overloaded`) where its queue is full."""
        return self._do(_cast(name, _said(text, timeout_s, options, schema, force), idempotency_key))

    def await_agents(self, *names: str, wait_s: float = 300.0) -> Json:
        """Wait until these agents, or all, have nothing to do: {"items", "idle"}. At most 600 seconds at once."""
        return self._do(_await(names, wait_s))

    def pipe_agents(
        self,
        source: str,
        target: str,
        message: str | None = None,
        *,
        template: str | None = None,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Wait for `source`, ask `target` about its last result, and return the turn; that of `source` if it failed.

        Args:
            message: comes before the result.
            template: with {result}, {message} and {from}, instead.

        """
        return self._do(_pipe(source, target, message, template, timeout_s, idempotency_key))

    def fan_agents(
        self,
        names: Sequence[str],
        text: str,
        *,
        gather: Gather = "all",
        quorum: int | None = None,
        judge: str | None = None,
        criterion: str | None = None,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Tell several agents the same and gather their turns: {"gather", "reached", "results", "best"}.

        Args:
            gather: "all" waits for all; "quorum" for so many good answers, "first" for one, and cancels the others;
                "best" has `judge` choose one by `criterion`; "none" waits for nothing.

        """
        asked = {"gather": gather, "quorum": quorum, "judge": judge, "criterion": criterion}
        return self._do(_fan(names, _said(text, timeout_s, None, None, False), asked, idempotency_key))


class AsyncAgentCalls:
    """A part of `AsyncClient`, which brings the connection. The same calls as `AgentCalls`, to be awaited."""

    async def _do(self, call: Call[T]) -> T:
        raise NotImplementedError

    async def turn(self, turn: str, *, wait_s: float = 0.0) -> Json:
        raise NotImplementedError

    async def agents(self, *, dismissed: bool = False, owner: int | Literal["all"] | None = None) -> list[Json]:
        """One's own agents by name. See `Client.agents`."""
        return list((await self._do(_agents(dismissed, owner)))["items"])

    async def agent(self, name: str, *, owner: int | None = None) -> Json:
        """Everything about one agent."""
        return await self._do(wire.get(wire.of_owner(_path(name), owner)))

    async def define_agent(self, name: str, *, replace: bool = True, **settings: Any) -> Json:
        """Define an agent and return it. See `Client.define_agent`."""
        return await self._do(_define(name, settings, replace))

    async def dismiss_agent(self, name: str) -> None:
        """Dismiss an agent."""
        await self._do(wire.write("DELETE", _path(name)))

    async def reset_agent(self, name: str) -> Json:
        """Give an agent a conversation anew, with all its options, and return it."""
        return await self._do(wire.write("POST", _path(name, "/reset")))

    async def revive_agent(self, name: str) -> Json:
        """Let an agent that crashed too often go on, and return it."""
        return await self._do(wire.write("POST", _path(name, "/revive")))

    async def agent_history(self, name: str, *, last: int = 10, owner: int | None = None) -> list[Json]:
        """The latest turns of an agent that have ended, oldest first."""
        return list((await self._do(_history(name, last, owner)))["items"])

    async def agents_cost(self, *, owner: int | None = None) -> Json:
        """What each agent has ever cost, and all together: {"items", "total"}."""
        return await self._do(wire.get(wire.of_owner(f"{_WORKSHOP}/cost", owner)))

    async def agent_git(self, name: str) -> Json:
        """How the repository of an agent's folder stands."""
        return await self._do(wire.get(_path(name, "/git")))

    async def agent_diff(self, name: str) -> Json:
        """What is not committed there, or not merged of its worktree: {"diff", "cut"}."""
        return await self._do(wire.get(_path(name, "/git/diff")))

    async def agent_worktrees(self) -> list[Json]:
        """The worktrees of one's own agents, those that were dismissed too."""
        return list((await self._do(wire.get(f"{_WORKSHOP}/worktrees")))["items"])

    async def merge_worktree(self, name: str, *, commit: str | None = None) -> Json:
        """Merge an agent's worktree into its repository. See `Client.merge_worktree`."""
        return await self._do(_merge(name, commit))

    async def remove_worktree(self, name: str, *, force: bool = False) -> None:
        """Remove the worktree of an agent that was dismissed; with `force` also what is not merged."""
        await self._do(_remove_tree(name, force))

    async def profiles(self) -> list[Json]:
        """One's own profiles, by name."""
        return list((await self._do(wire.get(f"{_WORKSHOP}/profiles")))["items"])

    async def profile(self, name: str) -> Json:
        """One profile."""
        return await self._do(wire.get(_profile(name)))

    async def define_profile(self, name: str, **settings: Any) -> Json:
        """Define a profile and return it."""
        return await self._do(wire.write("PUT", _profile(name), settings))

    async def remove_profile(self, name: str) -> None:
        """Remove a profile; agents that were made from it stay."""
        await self._do(wire.write("DELETE", _profile(name)))

    async def agents_config(self) -> Json:
        """What holds for agents that are defined from now on."""
        return await self._do(wire.get(f"{_WORKSHOP}/config"))

    async def configure_agents(self, **changes: Any) -> Json:
        """Change what holds for later agents. See `Client.configure_agents`."""
        return await self._do(wire.write("PATCH", f"{_WORKSHOP}/config", changes))

    async def ask_agent(
        self,
        name: str,
        text: str,
        *,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        schema: Mapping[str, Any] | None = None,
        force: bool = False,
    ) -> Json:
        """Ask an agent, wait for the end of its turn, and return the turn. See `Client.ask_agent`."""
        said = _said(text, timeout_s, options, schema, force)
        found = await self._do(_ask(name, said, idempotency_key))
        while found["status"] in _OPEN:
            found = {**await self.turn(found["turn"], wait_s=_WAIT_S), "agent": name}
        return found

    async def cast_agent(
        self,
        name: str,
        text: str,
        *,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        schema: Mapping[str, Any] | None = None,
        force: bool = False,
    ) -> Accepted:
        """Tell an agent something and wait for nothing. See `Client.cast_agent`."""
        return await self._do(_cast(name, _said(text, timeout_s, options, schema, force), idempotency_key))

    async def await_agents(self, *names: str, wait_s: float = 300.0) -> Json:
        """Wait until these agents, or all, have nothing to do: {"items", "idle"}."""
        return await self._do(_await(names, wait_s))

    async def pipe_agents(
        self,
        source: str,
        target: str,
        message: str | None = None,
        *,
        template: str | None = None,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Ask `target` about the last result of `source`. See `Client.pipe_agents`."""
        return await self._do(_pipe(source, target, message, template, timeout_s, idempotency_key))

    async def fan_agents(
        self,
        names: Sequence[str],
        text: str,
        *,
        gather: Gather = "all",
        quorum: int | None = None,
        judge: str | None = None,
        criterion: str | None = None,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Tell several agents the same and gather their turns. See `Client.fan_agents`."""
        asked = {"gather": gather, "quorum": quorum, "judge": judge, "criterion": criterion}
        return await self._do(_fan(names, _said(text, timeout_s, None, None, False), asked, idempotency_key))


def _path(name: str, tail: str = "") -> str:
    return f"{_AGENTS}/{wire.segment('agent', name)}{tail}"


def _profile(name: str) -> str:
    return f"{_WORKSHOP}/profiles/{wire.segment('profile', name)}"


def _agents(dismissed: bool, owner: int | Literal["all"] | None) -> Call[Json]:
    return wire.get(wire.of_owner(_AGENTS + ("?dismissed=true" if dismissed else ""), owner))


def _define(name: str, settings: Mapping[str, Any], replace: bool) -> Call[Json]:
    return wire.write("PUT", _path(name), settings, {} if replace else {"if-none-match": "*"})


def _history(name: str, last: int, owner: int | None) -> Call[Json]:
    return wire.get(wire.of_owner(_path(name, f"/history?last={last}"), owner))


def _merge(name: str, commit: str | None) -> Call[Json]:
    body = {} if commit is None else {"commit": commit}
    return wire.write("POST", _path(name, "/worktree/merge"), body).within(LONG_S)


def _remove_tree(name: str, force: bool) -> Call[Json]:
    return wire.write("DELETE", _path(name, "/worktree" + ("?force=true" if force else "")))


def _said(
    text: str,
    timeout_s: float | None,
    options: Mapping[str, Any] | None,
    schema: Mapping[str, Any] | None,
    force: bool,
) -> Json:
    """A message, with nothing of what is so anyway."""
    said: Json = {"text": text}
    for name, value in (("timeout_s", timeout_s), ("options", options), ("schema", schema), ("force", force or None)):
        if value is not None:
            said[name] = dict(value) if isinstance(value, Mapping) else value
    return said


def _headers(key: str | None) -> Mapping[str, str]:
    return {"idempotency-key": wire.checked_key(key or wire.new_key())}


def _ask(name: str, said: Json, key: str | None) -> Call[Json]:
    body = {"agent": name, "wait_s": _WAIT_S, **said}
    return wire.write("POST", f"{_WORKSHOP}/ask", body, _headers(key)).within(_WAIT_S + REQUEST_TIMEOUT_S)


def _cast(name: str, said: Json, key: str | None) -> Call[Accepted]:
    key = wire.checked_key(key or wire.new_key())
    call = wire.write("POST", f"{_WORKSHOP}/cast", {"agent": name, **said}, {"idempotency-key": key})
    return Call(call.request, lambda response: wire.accepted(response, key))


def _await(names: Sequence[str], wait_s: float) -> Call[Json]:
    body: Json = {"wait_s": wait_s, **({"agents": list(names)} if names else {})}
    return wire.write("POST", f"{_WORKSHOP}/await", body).within(wait_s + REQUEST_TIMEOUT_S)


def _pipe(
    source: str, target: str, message: str | None, template: str | None, timeout_s: float | None, key: str | None
) -> Call[Json]:
    given = {"from": source, "to": target, "message": message, "template": template, "timeout_s": timeout_s}
    body = {name: value for name, value in given.items() if value is not None}
    return wire.write("POST", f"{_WORKSHOP}/pipe", body, _headers(key)).within(_patience_s(timeout_s))


def _fan(names: Sequence[str], said: Json, asked: Mapping[str, Any], key: str | None) -> Call[Json]:
    body = {"agents": list(names), **said, **{name: value for name, value in asked.items() if value is not None}}
    return wire.write("POST", f"{_WORKSHOP}/fan", body, _headers(key)).within(_patience_s(said.get("timeout_s")))


def _patience_s(timeout_s: float | None) -> float:
    return _UNBOUND_S if timeout_s is None else timeout_s + 2 * LONG_S
