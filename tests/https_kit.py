"""An https server on the loopback with a certificate of its own, and a DNS that says what a test wants."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from skill_actors.files.artifacts import FetchRules

HOST = "files.example.com"

Answer = Callable[[str, Callable[[bytes], Awaitable[None]]], Awaitable[None]]


def make_certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """A self-signed certificate for these hosts, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    there, secret = folder / "certificate.pem", folder / "key.pem"
    there.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return there, secret


@dataclass
class Names:
    """A resolver: addresses for each question, in order; the last answer is given again."""

    answers: dict[str, list[list[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        found = self.answers.get(host, [["127.0.0.1"]])
        return found.pop(0) if len(found) > 1 else found[0]


@dataclass
class HttpsServer:
    """A running server: what it was asked, and the rules that let one fetch from it."""

    port: int
    certificate: Path
    requests: list[str] = field(default_factory=list)

    def rules(self, **more: object) -> FetchRules:
        values = {
            "allowed": frozenset({("127.0.0.1", self.port)}),
            "ca_file": self.certificate,
            "timeout_s": 10.0,
            **more,
        }
        return FetchRules(**values)  # type: ignore[arg-type]

    def url(self, path: str = "/", host: str = HOST) -> str:
        return f"https://{host}:{self.port}{path}"


def plain(body: bytes, kind: str = "text/plain", status: str = "200 OK", **headers: str) -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", f"content-type: {kind}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def https_server(folder: Path, answer: Answer) -> AsyncIterator[HttpsServer]:
    """`answer(path, send)` is called for each request; the connection is closed behind it."""
    certificate, key = make_certificate(folder, HOST, "other.example.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server: HttpsServer

    async def serve(stream: trio.SocketStream) -> None:
        secure = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        try:
            data = b""
            while b"\r\n\r\n" not in data:
                more = await secure.receive_some(65536)
                if not more:
                    return
                data += more
            path = data.split(b" ")[1].decode()
            server.requests.append(data.decode("latin-1"))
            await answer(path, secure.send_all)
            await secure.aclose()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            await trio.aclose_forcefully(secure)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        server = HttpsServer(listeners[0].socket.getsockname()[1], certificate)
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield server
        nursery.cancel_scope.cancel()
