"""Turns of a conversation whose program stays: `codex app-server`, one thread of it, and what it asks on the way."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import trio

from skill_actors.backends.agents.base import AgentError, AgentRequest, AgentSpec, Notice, Refusal, Watch
from skill_actors.backends.agents.codex.arguments import server_arguments
from skill_actors.backends.agents.codex.asking import Asked, ask, asked_of, refused
from skill_actors.backends.agents.codex.configuration import approval_of, configuration, provider, sandbox_of
from skill_actors.backends.agents.codex.options import FULL_ACCESS, SessionChoice
from skill_actors.backends.agents.codex.reading import Reading
from skill_actors.backends.agents.codex.server import Server, answer_of, is_answer, why_ended
from skill_actors.backends.agents.codex.shop import Shop
from skill_actors.backends.agents.codex.turns import Turn
from skill_actors.backends.agents.codex.usage import Meter, Totals

__all__ = ["Warm", "WarmTurn"]

_POLITE_S = 0.5  # for a turn to end before its program is ended


class Warm:
    """The program of one conversation, and its thread there.

    Args:
        new_role: what a thread that is gone on with has to be told first.
        kept: the thread has had a whole turn: if it cannot be found, it is lost.

    """

    def __init__(self, shop: Shop, spec: AgentSpec, choice: SessionChoice, new_role: str | None, *, kept: bool) -> None:
        self.thread = spec.session_id
        self.model: str | None = None
        self.has_begun = False  # there was a server that worked
        self.lost = False  # the thread had to be begun anew since the last turn
        self._shop = shop
        self._spec = spec
        self._choice = choice
        self._fork = spec.fork and spec.session_id is not None
        self._kept = kept
        self._new_role = new_role
        self._server: Server | None = None

    @property
    def leaves(self) -> bool:
        """Whether a command that was permitted may run without the sandbox, and nobody is asked again.

        One that the program asks about may be one that its model wants to run outside, or is run again outside where
        the sandbox stops it.
        """
        operator = self._shop.options
        confined = sandbox_of(self._choice, operator) != FULL_ACCESS
        return confined and approval_of(self._choice, operator) != "never"

    @property
    def unasked(self) -> bool:
        """Whether the operator lets rules permit that."""
        return self._shop.options.unasked

    async def ready(self) -> Server:
        """The server, with the thread in it; started if there is none. Raises AgentError."""
        server = self._server
        if server is not None:
            if server.program.busy():
                return server
            await server.program.stop()
        self._server = None
        self._server = await self._begin()
        return self._server

    async def stop(self) -> None:
        """End the program, and all that it started."""
        server, self._server = self._server, None
        if server is not None:
            await server.program.stop()

    def let_idle(self, server: Server) -> None:
        """A turn has ended as it should: the program stays, for a while."""
        server.program.idle()

    def keep(self) -> None:
        """The thread has had a whole turn."""
        self._kept = True

    async def _begin(self) -> Server:
        program_path = await self._shop.find()
        argv = server_arguments(program_path, provider(self._shop.options))
        program = await self._shop.start(argv, agent=self._spec.agent, folder=self._spec.folder)
        server = Server(program)
        try:
            with trio.move_on_after(self._shop.options.start_s) as waiting:
                await server.begin()
                await self._open_thread(server)
            if waiting.cancelled_caught:
                raise AgentError("timeout", f"codex was not ready within {self._shop.options.start_s:g} s")
        except BaseException:
            with trio.CancelScope(shield=True):
                await program.stop()
            raise
        self.has_begun = True
        return server

    async def _open_thread(self, server: Server) -> None:
        choice, operator = self._choice, self._shop.options
        params: dict[str, Any] = {
            "cwd": str(self._spec.folder),
            "sandbox": sandbox_of(choice, operator),
            "approvalPolicy": approval_of(choice, operator),
            "config": configuration(self._spec, choice, operator),
        }
        if self._spec.system:
            params["developerInstructions"] = self._spec.system
        if model := choice.model or self._spec.model or operator.model:
            params["model"] = model
        try:
            result = await self._call_thread(server, params)
        except AgentError as error:
            if error.code != "session_lost" or self._kept:
                raise
            self.thread, self.lost = None, True
            result = await self._call_thread(server, params)
        thread = result.get("thread")
        id_ = thread.get("id") if isinstance(thread, Mapping) else None
        if not isinstance(id_, str) or not id_:
            raise AgentError("protocol", "codex does not say which thread it has begun")
        self.thread, self._fork = id_, False
        told = result.get("model")
        self.model = told if isinstance(told, str) else None
        await self._tell_role(server)

    async def _tell_role(self, server: Server) -> None:
        if self._new_role is not None:
            item = {
                "type": "message",
                "role": "developer",
                "content": [{"type": "input_text", "text": printable(self._new_role)}],
            }
            await server.call("thread/inject_items", {"threadId": self.thread, "items": [item]})
            self._new_role = None

    async def _call_thread(self, server: Server, params: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.thread is None:
            return await server.call("thread/start", params)
        method = "thread/fork" if self._fork else "thread/resume"
        return await server.call(method, {**params, "threadId": self.thread, "excludeTurns": True})


class WarmTurn(Turn):
    """One turn of the thread.

    Args:
        known: the id of the thread, if whoever watches knows it already.

    """

    def __init__(self, warm: Warm, known: str | None, meter: Meter, request: AgentRequest, watch: Watch) -> None:
        super().__init__(Reading(meter, known), request, watch)
        self._warm = warm
        self._server: Server | None = None
        self._number = 0
        self._id: str | None = None

    async def _perform(self) -> None:
        server = await self._unless_given_up(self._warm.ready)
        self._server = server
        if self._warm.lost:
            self.reading.meter.anew()
            self._warm.lost = False
        if self.reading.meter.model is None:
            self.reading.meter.model = self._warm.model
        try:
            self._number = await server.request("turn/start", self._params())
            await self._hear(server)
        finally:
            given_up = self.interrupted or self.closed or self.reading.interrupted
            if self.reading.done:
                self._warm.keep()
            if self.reading.done and not given_up and self.request.effort is None:
                self._warm.let_idle(server)
            else:
                with trio.CancelScope(shield=True):
                    await self._leave(server)

    async def _hear(self, server: Server) -> None:
        while not self.reading.done:
            message = await server.next()
            if message is None:
                raise await why_ended(server.program)
            await self._take(server, message)

    async def _take(self, server: Server, message: Mapping[str, Any]) -> None:
        method = message.get("method")
        params = message.get("params")
        if not isinstance(params, Mapping):
            params = {}
        if not isinstance(method, str):
            if is_answer(message, self._number):
                await self._started(answer_of("turn/start", message))
        elif "id" in message:
            await self._answer(server, message["id"], method, params)
        elif self._is_ours(method, params):
            await self._tell(self.reading.notification(method, params))

    async def _started(self, result: Mapping[str, Any]) -> None:
        """The turn runs: its thread is one that can be gone on with."""
        turn = result.get("turn")
        self._id = str(turn.get("id")) if isinstance(turn, Mapping) else None
        await self._tell(self.reading.known(self._warm.thread))
        if self.interrupted:
            await self._ask_end()

    def _is_ours(self, method: str, params: Mapping[str, Any]) -> bool:
        """Whether a notification is of this turn. What the thread has taken before is noted."""
        if params.get("threadId") not in (None, self._warm.thread):
            return False
        turn = params.get("turnId")
        if method == "turn/completed":
            told = params.get("turn")
            turn = told.get("id") if isinstance(told, Mapping) else None
        if turn is None or turn == self._id:
            return True
        usage = params.get("tokenUsage")
        if method == "thread/tokenUsage/updated" and isinstance(usage, Mapping):
            self.reading.meter.begin(Totals.of(usage.get("total") or {}))
        return False

    async def _answer(self, server: Server, id_: object, method: str, params: Mapping[str, Any]) -> None:
        changes = self.reading.changes_of(str(params.get("itemId") or ""))
        asked = asked_of(method, params, changes, leaves=self._warm.leaves, unasked=self._warm.unasked)
        if asked is None:
            await server.send({"id": id_, **refused(method)})
            await self._tell([Notice(f"codex asked {method}, which is not answered here: refused")])
            return
        answer, reason = await self._permitted(server, asked)
        await server.send({"id": id_, **answer})
        if reason:
            await self._tell([Notice(f"not permitted: {reason}")])

    async def _permitted(self, server: Server, asked: Asked) -> tuple[Mapping[str, Any], str]:
        """The answer of whoever watches; a refusal once the turn is given up, or the program is gone."""
        with server.program.waiting() as self._scope:
            if self.interrupted or self.closed:
                self._scope.cancel()
            return await ask(asked, self.watch)
        return {"result": asked.cancel}, Refusal("the turn was given up").reason

    def _params(self) -> dict[str, Any]:
        request = self.request
        entries: list[dict[str, Any]] = [{"type": "text", "text": printable(request.prompt)}]
        for image in request.images:
            data = base64.b64encode(image.data).decode("ascii")
            entries.append({"type": "image", "url": f"data:{image.media_type};base64,{data}"})
        params: dict[str, Any] = {"threadId": self._warm.thread, "input": entries}
        # Both hold for later turns as well: the model is named each time, and an effort ends with the program.
        model = request.model or self._warm.model
        optional = {"model": model, "effort": request.effort, "outputSchema": request.schema}
        return params | {name: value for name, value in optional.items() if value is not None}

    async def _ask_end(self) -> None:
        if self._server is not None and self._id is not None:
            params = {"threadId": self._warm.thread, "turnId": self._id}
            try:
                await self._server.request("turn/interrupt", params)
            except AgentError:  # it has ended: whoever reads sees it
                return

    async def _end(self) -> None:
        await self._warm.stop()

    async def _leave(self, server: Server) -> None:
        """Let a turn that is given up be written down, then end the program with all that it started."""
        if self._id is not None and not self.reading.done and not self.closed:
            with trio.move_on_after(_POLITE_S):
                await self._ask_end()
                await self._wait_completed(server)
        await self._warm.stop()

    async def _wait_completed(self, server: Server) -> None:
        try:
            while (message := await server.next()) is not None:
                if message.get("method") == "turn/completed":
                    return
        except AgentError:
            return


def printable(text: str) -> str:
    """The text without halves of characters, which no JSON of the program's can have."""
    return text.encode("utf-8", "replace").decode("utf-8")
