"""PDF documents made by hand."""

from __future__ import annotations

import zlib


def pdf(pages: int = 1, *, packed: bool = False, padding: int = 0) -> bytes:
    """A document of empty pages; packed, its objects are in a stream."""
    kids = " ".join(f"{number + 3} 0 R" for number in range(pages))
    tree = f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>"
    page = "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] >>"
    body = b"%PDF-1.5\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n"
    if packed:
        data = zlib.compress(" ".join([tree, *[page] * pages]).encode())
        head = (
            f"9 0 obj\n<< /Type /ObjStm /N {pages + 1} /First 10 /Filter /FlateDecode /Length {len(data)} >>\nstream\n"
        )
        body += head.encode() + data + b"\nendstream\nendobj\n"
    else:
        objects = [tree, *[page] * pages]
        body += b"".join(f"{number} 0 obj\n{text}\nendobj\n".encode() for number, text in enumerate(objects, 2))
    return body + b"% " + b"x" * padding + b"\ntrailer\n<< /Root 1 0 R >>\nstartxref\n0\n%%EOF\n"
