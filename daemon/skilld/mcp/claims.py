"""Items of the board that were claimed through the bridge: their tokens, kept from the caller, and their leases.

claimed --renewed, again and again--> claimed --completed, failed--> forgotten
claimed --the lease was lost--> forgotten, and whoever says something of it then is told so
When the bridge ends, what is still claimed counts as an attempt that failed: the item is there for others at once.
"""

from __future__ import annotations

import logging
from typing import Final

import trio

from skilld.client import AsyncClient, SkilldError
from skilld.mcp.tool import ToolFailure

__all__ = ["LEASE_S", "Claims"]

LEASE_S: Final = 120.0

_RENEW_S: Final = 30.0
_GIVE_BACK_S: Final = 3.0
_LEFT: Final = "the program that had it has ended"
_LOG: Final = logging.getLogger(__name__)


class Claims:
    """The claims of one bridge. `run` renews them until it is cancelled."""

    def __init__(self, client: AsyncClient, *, renew_s: float = _RENEW_S) -> None:
        self._client = client
        self._renew_s = renew_s
        self._tokens: dict[str, str] = {}

    def add(self, id: str, token: str) -> None:
        """Keep the token of an item."""
        self._tokens[id] = token

    def token(self, id: str) -> str:
        """The token of an item. Raises ToolFailure where it was not claimed here, or is lost."""
        found = self._tokens.get(id)
        if found is None:
            raise ToolFailure(
                f"item {id[:80]!r} was not claimed here, or its lease was lost: claim it first with claim_work"
            )
        return found

    def forget(self, id: str) -> None:
        """There is nothing to renew any more."""
        self._tokens.pop(id, None)

    async def run(self) -> None:
        """Renew all leases, again and again."""
        while True:
            await trio.sleep(self._renew_s)
            await self.renew_all()

    async def renew_all(self) -> None:
        """Renew each lease once."""
        for id, token in list(self._tokens.items()):
            await self._renew(id, token)

    async def _renew(self, id: str, token: str) -> None:
        try:
            await self._client.renew_item(id, token)
        except SkilldError as error:
            if error.retryable:
                _LOG.warning("item %s: its lease was not renewed: %s", id, error)
            elif self._tokens.get(id) == token:
                _LOG.warning("item %s: its lease is lost: %s", id, error)
                self.forget(id)

    async def give_back(self) -> None:
        """Say of all that is still claimed that it was not done. Takes 3 s at most; leases see to the rest."""
        with trio.move_on_after(_GIVE_BACK_S, shield=True):
            for id, token in list(self._tokens.items()):
                self.forget(id)
                try:
                    await self._client.fail_item(id, token, _LEFT)
                except SkilldError as error:
                    _LOG.warning("item %s: not given back, its lease will run out: %s", id, error)
