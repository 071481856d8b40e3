"""What is remembered of a setup file: what it has made, and what it was about to make."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from skill_actors.store.documents import Change, Document
from skill_actors.workshop.names import document_id
from skill_actors.workshop.setup_file.steps import KINDS, Made, Step

__all__ = ["SETUP_KIND", "SetupRecord"]

SETUP_KIND: Final = "setup_file"

_PUT_ONCE: Final = frozenset({"item", "value"})  # what becomes of them is no longer the file's


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupRecord:
    """What is known of a file of one owner, by its name.

    Args:
        version: of its document; 0: it was never applied.
        made: by it, and still there as far as is known.
        making: what it was about to make when it was applied last; empty once that is done.

    """

    owner_uid: int
    name: str
    version: int = 0
    made: Made = field(default_factory=Made)
    making: Made = field(default_factory=Made)

    @classmethod
    def of(cls, document: Document) -> SetupRecord:
        """As the document holds it."""
        return cls(
            owner_uid=document.owner_uid,
            name=document.name,
            version=document.version,
            made=Made.of(document.data["made"]),
            making=Made.of(document.data["making"]),
        )

    def change(self) -> Change:
        """What stores it, unless somebody else has stored it since it was read."""
        data = {"made": self.made.to_json(), "making": self.making.to_json()}
        id = document_id(self.owner_uid, self.name)
        return Change(kind=SETUP_KIND, id=id, owner_uid=self.owner_uid, data=data, expected=self.version)

    @property
    def owned(self) -> Made:
        """What is the file's, done or not."""
        return self.made | self.making

    @property
    def put(self) -> Made:
        """What it has certainly put where it belongs."""
        return self.made - self.making

    def settled(self, there: Mapping[str, Collection[str]]) -> SetupRecord:
        """The same without what is there no more: somebody else who makes a thing of that name has made it.

        Items and values that were put where they belong stay known, so that they are not put there again.

        Args:
            there: names of what there is, by kind; a kind that it has not is left alone.

        """

        def left(names: Made, kinds: Collection[str]) -> Made:
            return Made(
                {kind: each.intersection(there[kind]) if kind in kinds else each for kind, each in names.names.items()}
            )

        return replace(self, made=left(self.made, there.keys() - _PUT_ONCE), making=left(self.making, there.keys()))

    def begun(self, steps: list[Step], parts: frozenset[str]) -> SetupRecord:
        """The same, about to do these. `parts`: the sections about all agents that the file has."""
        making: dict[str, frozenset[str]] = {
            kind: frozenset(_names(steps, kind, "create")) for kind in KINDS if kind != "common"
        }
        if any(step.kind == "common" for step in steps):
            making["common"] = parts
        return replace(self, making=self.making | Made(making))

    def ended(self, steps: list[Step]) -> SetupRecord:
        """The same, with all of it done."""
        gone = Made({kind: frozenset(_names(steps, kind, "remove")) for kind in KINDS})
        return replace(self, made=(self.made | self.making) - gone, making=Made())


def _names(steps: list[Step], kind: str, do: str) -> list[str]:
    return [step.name for step in steps if (step.kind, step.do) == (kind, do)]
