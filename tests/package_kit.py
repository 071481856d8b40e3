"""`.skill` packages made in memory."""

from __future__ import annotations

import io
import zipfile

SKILL = "---\nname: tides\ndescription: Looks up tides\n---\n\nBody\n"

Entry = tuple[str | zipfile.ZipInfo, str | bytes]


def packed(*entries: Entry, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file with these entries, whatever their names are."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return out.getvalue()


def tides(*more: Entry, description: str = "Looks up tides") -> bytes:
    """A package of the skill `tides`, and what else shall be in it."""
    return packed(("tides/SKILL.md", SKILL.replace("Looks up tides", description)), *more)
