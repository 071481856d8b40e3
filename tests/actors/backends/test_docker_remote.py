"""Engines that are reached by TCP: in clear, by TLS, and what is refused."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from docker_bench import boxed, containers_of, owner_of
from docker_kit import engine_with_slim_image
from skill_actors.backends import BackendUnavailable
from skill_actors.backends.docker_image import connect, engine_address
from skill_actors.backends.docker_image.engine import tls_context
from support import run

REAL = dict(os.environ)


def certify(folder: Path, name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None) -> None:
    """NAME.pem and NAME-key.pem there, signed by the issuer, else by themselves as an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer[0].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    )
    made = builder.sign(key if issuer is None else issuer[1], hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}-key.pem").write_bytes(private)


def authority(folder: Path) -> Path:
    """A folder as Docker wants it: ca.pem, cert.pem and key.pem; and server.pem with its key."""
    folder.mkdir()
    certify(folder, "ca", None)
    ca = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    key = serialization.load_pem_private_key((folder / "ca-key.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    for name in ("server", "cert"):
        certify(folder, name, (ca, key))
    (folder / "cert-key.pem").rename(folder / "key.pem")
    return folder


@contextlib.asynccontextmanager
async def engine_by_tcp(certificates: Path | None = None) -> AsyncIterator[str]:
    """The engine's address on a port of the loopback; by TLS, for who has a certificate, if there is an authority."""
    path = engine_address(REAL).removeprefix("unix://")

    async def copy(source: trio.abc.Stream, sink: trio.abc.Stream, scope: trio.CancelScope) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(65_536):
                await sink.send_all(data)
        scope.cancel()

    async def relay(stream: trio.abc.Stream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            async with stream, await trio.open_unix_socket(path) as engine, trio.open_nursery() as both:
                both.start_soon(copy, stream, engine, both.cancel_scope)
                both.start_soon(copy, engine, stream, both.cancel_scope)

    async with trio.open_nursery() as nursery:
        (plain,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        listener: trio.abc.Listener[trio.abc.Stream] = plain
        if certificates is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.pem"))
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_cert_chain(certificates / "server.pem", certificates / "server-key.pem")
            listener = trio.SSLListener(plain, context, https_compatible=True)
        await nursery.start(trio.serve_listeners, relay, [listener])
        yield f"tcp://127.0.0.1:{plain.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("by_tls", [False, True])
def test_calls_run_and_containers_go_with_an_engine_at_a_tcp_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_tls: bool
) -> None:
    owner = owner_of(tmp_path)
    certificates = authority(tmp_path / "tls") if by_tls else None

    async def main() -> None:
        async with engine_by_tcp(certificates) as address:
            with engine_with_slim_image():
                pass
            if certificates is not None:
                monkeypatch.setenv("DOCKER_CERT_PATH", str(certificates))
                monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
            async with boxed(tmp_path / "w", owner=owner, address=address) as box:
                result = await box.bash("head -c 300000 /dev/zero | tr '\\0' x > big; wc -c < big; cat big | tail -c 5")
                assert result.content == "300000\nxxxxx"
                assert (box.folder / "big").stat().st_size == 300_000
            monkeypatch.undo()
            with engine_with_slim_image() as client:
                with trio.fail_after(20):
                    while containers_of(client, owner, going=True):  # noqa: ASYNC110  # the engine removes it
                        await trio.sleep(0.02)

    run(main)


def test_an_engine_with_a_certificate_of_somebody_else_is_not_spoken_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = authority(tmp_path / "ours"), authority(tmp_path / "theirs")

    async def main() -> None:
        async with engine_by_tcp(theirs) as address:
            environ = {"DOCKER_CERT_PATH": str(ours), "DOCKER_TLS_VERIFY": "1"}
            with pytest.raises(BackendUnavailable, match="certificate verify failed"):
                await trio.to_thread.run_sync(connect, address, environ, 10.0)

    run(main)


def test_what_would_be_spoken_with_anybody_or_with_nobody_is_refused(tmp_path: Path) -> None:
    address = "tcp://127.0.0.1:1"
    with pytest.raises(BackendUnavailable, match="set DOCKER_TLS_VERIFY=1"):
        tls_context(address, {"DOCKER_CERT_PATH": str(tmp_path)})
    with pytest.raises(BackendUnavailable, match=r"ca.pem, cert.pem and key.pem in .* cannot be used"):
        tls_context(address, {"DOCKER_CERT_PATH": str(tmp_path), "DOCKER_TLS_VERIFY": "1"})
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(BackendUnavailable, match="cannot be used"):
        tls_context(address, {"DOCKER_CERT_PATH": str(tmp_path), "DOCKER_TLS_VERIFY": "1"})
    assert tls_context(address, {}) is None
    assert tls_context("unix:///x", {"DOCKER_CERT_PATH": str(tmp_path)}) is None
    with pytest.raises(BackendUnavailable, match="forward its socket"):
        connect("ssh://user@host", {})
    for other in ("npipe:////./pipe/docker", "http://host:1", "fd://", "nonsense"):
        with pytest.raises(BackendUnavailable, match="has to be unix:///path or tcp://host:port"):
            connect(other, {})
