"""Files that come with a message: which the model sees, and which it is only told of."""

from __future__ import annotations

import time
import zlib
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from image_kit import gif, jpeg, png
from pdf_kit import pdf
from session_kit import ME, open_kit
from skill_actors.models import OfflineModel
from skill_actors.sessions.history import History
from skill_actors.sessions.message_files import (
    MAX_PDF_BYTES,
    MAX_PDF_PAGES,
    MAX_SHOWN,
    is_document,
    pdf_pages,
    shown_files,
)
from skill_actors.sessions.shown_images import MAX_DOCUMENTS, document_block, image_block, with_few_images
from skill_actors.testing import Answer, HttpError, Reply, ScriptedModel, Text
from support import run


def b64(data: bytes) -> str:
    return b64encode(data).decode()


def test_pictures_and_documents_are_recognised_by_what_they_hold() -> None:
    files = [("a.txt", png()), ("b.png", b"text"), ("c", gif()), ("d.jpg", jpeg()), ("e.doc", pdf()), ("f.csv", b"1,2")]
    shown = shown_files(files)
    assert [(image["name"], image["media_type"]) for image in shown["images"]] == [
        ("a.txt", "image/png"),
        ("c", "image/gif"),
        ("d.jpg", "image/jpeg"),
    ]
    assert shown["documents"] == [{"name": "e.doc", "media_type": "application/pdf", "base64": b64(pdf())}]
    assert shown_files([("f.csv", b"1,2")]) == {}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png()[:-20], id="a cut picture"),
        pytest.param(png(padding=4 << 20), id="a large picture"),
        pytest.param(pdf()[:-30], id="a cut document"),
        pytest.param(pdf(MAX_PDF_PAGES + 1), id="many pages"),
        pytest.param(pdf(MAX_PDF_PAGES + 1, packed=True), id="many packed pages"),
        pytest.param(pdf(padding=MAX_PDF_BYTES), id="a large document"),
        pytest.param(b"%PDF-1.5\n<< /Encrypt 5 0 R >>" + pdf(), id="an encrypted document"),
        pytest.param(b"%PDF-1.5\nnothing\n%%EOF", id="no pages to be counted"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_the_api_might_refuse_is_only_named(data: bytes) -> None:
    assert shown_files([("a.pdf", data)]) == {}


def test_of_many_files_so_many_are_shown() -> None:
    shown = shown_files([(f"{number}.png", png()) for number in range(MAX_SHOWN + 5)])
    assert len(shown["images"]) == MAX_SHOWN


def test_pages_are_counted_also_where_they_are_packed() -> None:
    assert pdf_pages(pdf(7)) == 7
    assert pdf_pages(pdf(7, packed=True)) == 7
    assert pdf_pages(b"%PDF-1.5") is None


def test_a_bomb_of_packed_objects_is_not_unpacked_whole() -> None:
    bomb = zlib.compress(bytes(200 << 20), 9)
    head = b"1 0 obj\n<< /Type /ObjStm /Filter /FlateDecode >>\nstream\n"
    assert pdf_pages(b"%PDF-1.5\n" + (head + bomb + b"\nendstream\n") * 20) is None


@pytest.mark.parametrize("node", [b"/Type /Pages /Count 1 ", b"/Type /Page ", b"/Type /ObjStm >>\nstream\n"])
def test_counting_pages_of_a_trap_ends_soon(node: bytes) -> None:
    """Of each kind of thing only so many are looked at; all of these took from two to twenty seconds."""
    packed = zlib.compress(node * ((16 << 20) // len(node)))
    head = b"1 0 obj\n<< /Type /ObjStm /Filter /FlateDecode >>\nstream\n"
    traps = [node * (MAX_PDF_BYTES // len(node)), head + packed + b"\nendstream\n"]
    began_s = time.process_time()
    for trap in traps:
        assert (pdf_pages(b"%PDF-1.5\n" + trap) or MAX_PDF_PAGES + 1) > MAX_PDF_PAGES
    assert time.process_time() - began_s < 5


def test_a_document_in_a_file_of_a_conversation_is_checked_again() -> None:
    good = {"name": "a.pdf", "media_type": "application/pdf", "base64": b64(pdf())}
    assert is_document(good)
    bad: list[Any] = [
        {**good, "base64": "!"},
        {**good, "base64": b64(png())},
        {**good, "media_type": "image/png"},
        None,
    ]
    assert not any(map(is_document, bad))


def test_the_model_sees_them_with_their_message_and_they_live_with_the_conversation(tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel([Reply([Text("a red one")]), Reply([Text("still")]), Reply([Text("forked")])])
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            files = [("a.png", png()), ("b.pdf", pdf()), ("c.csv", b"1,2")]
            accepted = await kit.manager.submit(session, ME, "what is it?", files)
            turn = await kit.manager.get_turn(accepted.turn, ME, wait_s=20)
            assert turn["status"] == "finished", turn["result"]
            note, name, image, document, said = model.requests[0].messages[0]["content"]
            assert note["text"] == "[Files put into the workspace: a.png, b.pdf, c.csv]"
            assert name["text"] == "[a.png:]"
            assert image == image_block("image/png", b64(png()))
            assert document == document_block("b.pdf", b64(pdf()))
            assert said["text"] == "what is it?"
            await kit.ask(session, "and now?")
            assert model.requests[1].messages[0] == model.requests[0].messages[0]
            async with kit.manager.export(session, ME) as lines:
                raw = "".join([line + "\n" async for line in lines]).encode()
            for copy in (
                (await kit.manager.fork(session, ME))["id"],
                (await kit.manager.import_session(1000, raw))["id"],
            ):
                assert image in History(await kit.events(copy)).messages()[0]["content"]

    run(main)


def test_the_offline_model_is_told_their_names(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, OfflineModel()) as kit:
            session = await kit.session()
            accepted = await kit.manager.submit(session, ME, "what is it?", [("a.png", png()), ("b.pdf", pdf())])
            assert (await kit.manager.get_turn(accepted.turn, ME, wait_s=20))["status"] == "finished"
            (message, _) = History(await kit.events(session)).messages(sees=False)
            assert [block["type"] for block in message["content"]] == ["text"] * 5
            assert "a.png" in message["content"][1]["text"]
            assert "b.pdf" in message["content"][3]["text"]

    run(main)


def test_of_many_documents_the_latest_are_sent_and_a_text_names_the_others() -> None:
    sent = [document_block(f"{number}.pdf", "x") for number in range(MAX_DOCUMENTS + 1)]
    (message,) = with_few_images([{"role": "user", "content": sent}])
    assert [block["type"] for block in message["content"]] == ["text"] + ["document"] * MAX_DOCUMENTS
    assert "'0.pdf'" in message["content"][0]["text"]


def test_a_picture_that_the_api_refuses_ends_no_turn(tmp_path: Path) -> None:
    """It has a good beginning and a good end, and is damaged between."""

    def refuse(body: Mapping[str, Any]) -> Answer:
        if "base64" in str(body["messages"]):
            return HttpError(400, "invalid_request_error", "messages.0.content.2.image.source: Could not process image")
        return Reply([Text("a picture that I cannot see")])

    async def main() -> None:
        model = ScriptedModel(respond=refuse)
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            accepted = await kit.manager.submit(session, ME, "what is it?", [("a.png", png())])
            turn = await kit.manager.get_turn(accepted.turn, ME, wait_s=20)
            assert turn["status"] == "finished", turn["result"]
            assert "a picture was shown here" in str(model.requests[-1].messages)
            assert (await kit.ask(session, "and now?"))["status"] == "finished"
            assert len(model.requests) == 4

    run(main)


def test_what_else_the_api_refuses_is_not_tried_again_without_pictures(tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel(respond=lambda _: HttpError(400, "invalid_request_error", "no such effort"))
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            accepted = await kit.manager.submit(session, ME, "what is it?", [("a.png", png())])
            assert (await kit.manager.get_turn(accepted.turn, ME, wait_s=20))["status"] == "failed"
            assert len(model.requests) == 1

    run(main)
