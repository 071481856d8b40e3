"""Images, on a real engine: what the slim one holds, how others are built, and what a failure says."""

from __future__ import annotations

import io
import os
import re
import secrets
import tarfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from docker_kit import engine, engine_with_slim_image
from skill_actors.backends import docker_image
from skill_actors.backends.docker_image import (
    FULL_IMAGE,
    LABEL,
    SLIM_IMAGE,
    BuildFailed,
    BuiltImage,
    apt_sources,
    build_full,
    build_slim,
    import_root,
)

DOCKERFILE = files(docker_image).joinpath("Dockerfile").read_text()


@pytest.fixture
def client() -> Iterator[Any]:
    with engine_with_slim_image() as found:
        yield found


@pytest.fixture
def tag(client: Any) -> Iterator[str]:
    """A name that no other image has; the image goes with the test."""
    name = f"localhost/skilld-test:{secrets.token_hex(6)}"
    yield name
    for image in client.images.list(filters={"reference": name}):
        client.images.remove(image.id, force=True)


def run(client: Any, image: str, *command: str) -> str:
    """What a command prints in a container without network. Raises ContainerError where it fails."""
    said: bytes = client.containers.run(image, list(command), network_mode="none", remove=True, stderr=True)
    return said.decode()


def build(client: Any, tag: str, dockerfile: str, **more: Any) -> tuple[BuiltImage, list[str]]:
    seen: list[str] = []
    arguments = {"base": SLIM_IMAGE, "environ": {}, "progress": seen.append, **more}
    return build_full(client, tag, dockerfile=dockerfile.encode(), **arguments), seen


def a_root(text: str) -> io.BytesIO:
    """A root filesystem of one file."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("hello")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text.encode()))
    packed.seek(0)
    return packed


def test_the_slim_image_has_what_the_runner_needs(client: Any) -> None:
    told = run(
        client, SLIM_IMAGE, "bash", "-c", "python3 -c 'import sys; print(sys.version_info >= (3, 11))'; id -u; pwd"
    )
    assert told.split() == ["True", "0", "/workspace"]


def test_the_slim_image_has_no_setuid_program_and_nothing_of_the_host(client: Any) -> None:
    assert run(client, SLIM_IMAGE, "find", "/", "-xdev", "-type", "f", "-perm", "/6000") == ""
    image = client.images.get(SLIM_IMAGE)
    assert image.labels[LABEL] == "slim"
    assert "LANG=C.UTF-8" in image.attrs["Config"]["Env"]
    container = client.containers.create(SLIM_IMAGE, ["true"], network_mode="none")
    try:
        archive = b"".join(container.get_archive("/etc")[0])
    finally:
        container.remove()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        sizes = {entry.name: entry.size for entry in tar.getmembers()}
    assert sizes.get("etc/resolv.conf", 0) == 0  # the engine puts its own over it
    assert sizes.get("etc/hostname", 0) == 0


def test_a_root_becomes_an_image_and_its_name_moves_on(client: Any, tag: str) -> None:
    first = import_root(client, a_root("one"), tag, progress=len)
    second = import_root(client, a_root("two"), tag, progress=len)
    assert client.images.get(tag).id == second.id != first.id
    there = {image["Id"] for image in client.api.images(all=True)}
    assert there & {first.id, second.id} == {second.id}


def test_an_image_that_has_another_name_too_is_kept(client: Any, tag: str) -> None:
    first = import_root(client, a_root("three"), tag, progress=len)
    kept = f"{tag}-kept"
    client.images.get(tag).tag(*kept.split(":"))
    try:
        import_root(client, a_root("four"), tag, progress=len)
        assert client.images.get(kept).id == first.id
    finally:
        client.images.remove(kept)


def test_an_image_that_a_container_uses_is_kept(client: Any, tag: str) -> None:
    first = import_root(client, a_root("five"), tag, progress=len)
    container = client.containers.create(first.id, ["/hello"], network_mode="none")
    try:
        import_root(client, a_root("six"), tag, progress=len)
        assert client.images.get(first.id).id == first.id
    finally:
        container.remove()
        client.images.remove(first.id)


def test_what_is_no_tar_is_refused(client: Any, tag: str) -> None:
    with pytest.raises(BuildFailed, match="did not take"):
        import_root(client, io.BytesIO(b"no tar at all" * 100), tag, progress=len)
    assert client.images.list(filters={"reference": tag}) == []


def test_a_name_that_is_none_is_refused(client: Any) -> None:
    with pytest.raises(BuildFailed, match="Not A Name"):
        import_root(client, a_root("seven"), "Not A Name", progress=len)


def test_a_build_says_its_steps_and_takes_its_arguments(client: Any, tag: str) -> None:
    text = (
        "ARG BASE\nFROM ${BASE}\nARG PYPI\nARG http_proxy\nRUN echo pypi=$PYPI proxy=$http_proxy\nWORKDIR /elsewhere\n"
    )
    built, seen = build(client, tag, text, with_pypi=False, environ={"http_proxy": "http://127.0.0.1:9", "HOME": "/x"})
    assert "pypi=no proxy=http://127.0.0.1:9" in seen
    assert any(line.lower().startswith("step 2/") for line in seen)  # Podman shouts
    assert run(client, tag, "pwd") == "/elsewhere\n"
    image = client.images.get(built.id)
    assert (image.labels[LABEL], built.tag) == ("full", tag)
    assert built.size_bytes == image.attrs["Size"] > 0


def test_a_step_that_fails_has_its_last_words_and_leaves_nothing(client: Any, tag: str) -> None:
    before = {container.id for container in client.containers.list(all=True, ignore_removed=True)}
    layers = {image.id for image in client.images.list(all=True, filters={"label": f"of={tag}"})}
    text = f"ARG BASE\nFROM ${{BASE}}\nLABEL of={tag}\nRUN echo the reason; exit 7\n"
    with pytest.raises(BuildFailed, match=r"(code: 7|exit status 7)\D.*the reason"):
        build(client, tag, text)
    assert client.images.list(filters={"reference": tag}) == []
    assert {image.id for image in client.images.list(all=True, filters={"label": f"of={tag}"})} == layers == set()
    after = client.containers.list(all=True, ignore_removed=True)
    assert [c for c in after if c.id not in before and c.labels.get("of") == tag] == []


def test_certificates_reach_the_build(client: Any, tag: str) -> None:
    text = 'ARG BASE\nFROM ${BASE}\nARG CA\nRUN echo "$CA" | tail -n 1\n'
    _, seen = build(client, tag, text, ca="-----BEGIN CERTIFICATE-----\nthe end")
    assert "the end" in seen
    with pytest.raises(BuildFailed, match="100000 is the most"):
        build(client, tag, text, ca="x" * 100_001)


def test_a_base_that_is_not_there_is_not_looked_for_elsewhere(client: Any, tag: str) -> None:
    with pytest.raises(BuildFailed, match="could not be built"):
        build(client, tag, "ARG BASE\nFROM ${BASE}\n", base="localhost/skilld-test:never-made")


def test_the_names_of_our_images_belong_to_no_registry_of_strangers() -> None:
    assert FULL_IMAGE.startswith("localhost/")
    assert SLIM_IMAGE.startswith("localhost/")
    assert f"ARG BASE={SLIM_IMAGE}\n" in DOCKERFILE


def test_what_documents_need_is_in_the_dockerfile() -> None:
    wanted = (
        "bash git jq nodejs poppler-utils qpdf python3 python3-pip python3-venv curl wget "
        "pyarrow python3-openpyxl python3-xlsxwriter python3-xlrd python3-pil python-pptx python3-docx python3-pypdf "
        "pdfplumber pypdfium2 pdf2image python3-pdfkit python3-reportlab python3-img2pdf python3-pandas python3-numpy "
        "python3-matplotlib python3-yaml python3-requests python3-bs4"
    )
    steps = " ".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#"))
    assert set(wanted.split()) - set(re.findall(r"[\w.-]+", steps)) == set()


@pytest.mark.deep
def test_the_slim_image_is_made_of_debians_packages(tag: str) -> None:
    with engine() as client:
        built = build_slim(client, tag, sources=apt_sources(), progress=len)
        assert built.size_bytes < 300 << 20
        assert "Debian" in run(client, tag, "cat", "/etc/os-release")


WORKS = """
import io, json, subprocess
import bs4, docx, img2pdf, matplotlib, numpy, openpyxl, pandas, pdfkit, pypdf, reportlab, requests
import xlrd, xlsxwriter, yaml
matplotlib.use("Agg")
import matplotlib.pyplot as plot
from PIL import Image
plot.plot([1, 2]); plot.savefig("/tmp/plot.png")
pandas.DataFrame({"a": [1, 2]}).to_excel("/tmp/table.xlsx", index=False)
assert list(pandas.read_excel("/tmp/table.xlsx")["a"]) == [1, 2]
Image.open("/tmp/plot.png").convert("RGB").save("/tmp/plot.jpg")
open("/tmp/image.pdf", "wb").write(img2pdf.convert("/tmp/plot.jpg"))
assert len(pypdf.PdfReader("/tmp/image.pdf").pages) == 1
pdfkit.from_string("<h1>the heading</h1>", "/tmp/page.pdf")
assert b"the heading" in subprocess.check_output(["pdftotext", "/tmp/page.pdf", "-"])
document = docx.Document(); document.add_paragraph("x"); document.save("/tmp/x.docx")
for command in ("qpdf --check /tmp/page.pdf", "node -e 1", "git --version", "jq -n 1", "bash -c true"):
    subprocess.run(command.split(), check=True, stdout=subprocess.DEVNULL)
"""
FROM_PYPI = """
import pdf2image, pdfplumber, pptx, pyarrow, pypdfium2
pptx.Presentation().save("/tmp/x.pptx")
assert pdfplumber.open("/tmp/page.pdf").pages[0].extract_text().strip() == "the heading"
assert len(pdf2image.convert_from_path("/tmp/page.pdf")) == 1
assert len(pypdfium2.PdfDocument("/tmp/page.pdf")) == 1
"""


@pytest.mark.deep
@pytest.mark.parametrize("with_pypi", [False, True], ids=["debian", "pypi"])
def test_what_documents_need_works(client: Any, tag: str, with_pypi: bool) -> None:
    ca = Path(os.environ["SKILLD_TEST_CA"]).read_text() if "SKILLD_TEST_CA" in os.environ else ""
    build_full(client, tag, with_pypi=with_pypi, ca=ca, environ=os.environ, progress=len)
    run(client, tag, "python3", "-c", WORKS + (FROM_PYPI if with_pypi else ""))
    assert run(client, tag, "find", "/", "-xdev", "-type", "f", "-perm", "/6000") == ""
