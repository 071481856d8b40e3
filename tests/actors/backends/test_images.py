"""Which files are shown as pictures, and which are only spoken of."""

from __future__ import annotations

from pathlib import Path

import pytest

from image_kit import gif, jpeg, png, webp
from skill_actors.backends import LocalOptions, ToolCall, ToolContext, ToolResult, WorkspaceSpec, open_local
from skill_actors.backends.images import MAX_IMAGE_BYTES, MAX_IMAGE_SIDE, picture, recognise, why_not
from skill_actors.backends.paths import PathRefused
from skill_actors.backends.tools import View
from support import run

WHOLE = {
    "image/png": png(30, 20),
    "image/gif": gif(30, 20),
    "image/jpeg": jpeg(30, 20),
    "image/webp": webp(b"VP8 ", 30, 20),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_picture_is_known_by_what_it_holds(kind: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(WHOLE[kind])
    found = picture(View(path="notes.txt"), workspace=str(tmp_path), readable=())
    assert found is not None
    told, image = found
    assert told == f"notes.txt: {kind}, {len(WHOLE[kind])} bytes, 30 x 20 pixels"
    assert image is not None
    assert (image.media_type, image.data) == (kind, WHOLE[kind])


@pytest.mark.parametrize("form", [b"VP8 ", b"VP8L", b"VP8X"])
def test_every_form_of_webp_tells_its_size(form: bytes) -> None:
    assert recognise(webp(form, 300, 200)) == ("image/webp", (300, 200))
    assert recognise(webp(b"NEW ", 300, 200)) == ("image/webp", None)


@pytest.mark.parametrize("kind", WHOLE)
def test_a_picture_that_is_cut_off_anywhere_is_not_shown(kind: str) -> None:
    data = WHOLE[kind]
    for length in range(len(data) - 1):
        found = recognise(data[:length])
        assert found is None or why_not(data[:length], *found) is not None, length


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (png(MAX_IMAGE_SIDE + 1, 1), f"more than {MAX_IMAGE_SIDE} pixels a side"),
        (png(1, 60_000), f"more than {MAX_IMAGE_SIDE} pixels a side"),
        (png(0, 5), f"more than {MAX_IMAGE_SIDE} pixels a side"),
        (png(2, 2, padding=MAX_IMAGE_BYTES), f"more than {MAX_IMAGE_BYTES} bytes"),
        (png()[:40], "damaged or cut off"),
    ],
)
def test_what_the_api_would_not_take_is_told_and_not_shown(data: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(data)
    found = picture(View(path="a.png"), workspace=str(tmp_path), readable=())
    assert found is not None
    assert found[1] is None
    assert told in found[0]


@pytest.mark.parametrize("data", [b"", b"text\n", b"\x89PNG as a word", b"RIFF....WAVE", b"\0\1\2", b"BM" + bytes(60)])
def test_everything_else_is_no_picture(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(data)
    assert picture(View(path="a.png"), workspace=str(tmp_path), readable=()) is None
    assert picture(View(path="."), workspace=str(tmp_path), readable=()) is None


def test_lines_of_a_picture_and_pictures_elsewhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "b.png").write_bytes(png())
    with pytest.raises(PathRefused, match="view_range is for text"):
        picture(View(path="b.png", first=1, last=2), workspace=str(tmp_path / "w"), readable=())
    with pytest.raises(PathRefused, match="outside"):
        picture(View(path="../a.png"), workspace=str(tmp_path / "w"), readable=())
    assert picture(View(path=f"{tmp_path}/a.png"), workspace=str(tmp_path / "w"), readable=(tmp_path,)) is not None


def test_view_shows_a_picture_that_a_command_made(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_local(LocalOptions()) as executor:
            assert executor.capabilities.images
            workspace = await executor.open(WorkspaceSpec(session="s", root=tmp_path))
            hexadecimal = png().hex()
            script = f"import sys; sys.stdout.buffer.write(bytes.fromhex('{hexadecimal}'))"
            command = ToolCall(id="a", name="bash_tool", input={"command": f'python3 -c "{script}" > plot.png'})
            assert (await workspace.execute(command, ToolContext())).outcome == "ok"
            seen: ToolResult = await workspace.execute(
                ToolCall(id="b", name="view", input={"path": "plot.png"}), ToolContext()
            )
            assert [image.data for image in seen.images] == [png()]
            assert "2 x 1 pixels" in seen.content

    run(main)
