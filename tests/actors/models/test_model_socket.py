"""The model API through a Unix socket: whole turns, no way around it, and what a socket must not be."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from random import Random

import pytest
import trio

from anthropic_kit import KEY, ask, collect, done, text_of, without_authorities
from https_kit import make_certificate
from skill_actors.backends.anthropic import HostedError
from skill_actors.backends.anthropic.client import HostedClient
from skill_actors.models import AnthropicModel, ModelError
from skill_actors.models.model_socket import check_socket, connect_problem
from skill_actors.models.retry import RetryPolicy
from skill_actors.testing import Answer, Cut, FakeMessagesApi, HangUp, HttpError, Reply, Text, open_fake_api
from support import run

_no_authorities = without_authorities

HTTP = "http://localhost"
QUICK = RetryPolicy(max_attempts=3, first_delay_s=0.01, max_delay_s=0.02)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A path for a socket, in a folder whose name is short enough for one."""
    folder = Path(tempfile.mkdtemp(prefix="skilld-model-"))
    yield folder / "api.sock"
    shutil.rmtree(folder)


@contextlib.asynccontextmanager
async def served(
    place: Path, *answers: Answer, key: Callable[[], str] = lambda: KEY, url: str = HTTP
) -> AsyncIterator[tuple[FakeMessagesApi, AnthropicModel]]:
    async with open_fake_api(answers, socket=place) as api:
        model = AnthropicModel(key, base_url=url, socket=place)
        try:
            yield api, model
        finally:
            with trio.CancelScope(shield=True):
                await model.aclose()


def failure(place: Path, url: str = HTTP) -> ModelError:
    """The error of a call through what lies at the path."""

    async def main() -> ModelError:
        model = AnthropicModel(lambda: KEY, base_url=url, socket=place)
        try:
            with pytest.raises(ModelError) as caught:
                await collect(model)
            return caught.value
        finally:
            await model.aclose()

    return run(main)


def listening(place: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(place))
    made.listen(5)
    return made


def replace(place: Path, by: Path | None = None) -> None:
    """Take away what is there, and leave a link to `by`, if that is named."""
    place.unlink()
    if by is not None:
        place.symlink_to(by)


# What works


def test_an_answer_streams_through_the_socket_and_tokens_are_counted_there(place: Path) -> None:
    async def main() -> None:
        async with served(place, Reply([Text("through a socket " * 20)])) as (api, model):
            events = await collect(model)
            assert text_of(events) == "through a socket " * 20
            assert done(events).stop_reason == "end_turn"
            assert (await model.count_tokens(ask()) or 0) > 0
            assert api.port == 0, "it listens nowhere else"
            assert [request.headers["host"] for request in api.requests] == ["localhost", "localhost"]

    run(main)


def test_proxies_of_the_environment_do_not_count(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with open_fake_api() as proxy, served(place) as (api, model):
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
                monkeypatch.setenv(name, proxy.base_url)
            await collect(model)
            assert (len(api.requests), len(proxy.requests)) == (1, 0)

    run(main)


def test_a_new_key_is_used_at_once_and_the_connection_stays(place: Path) -> None:
    keys = ["key-number-0001", "key-number-0002"]

    async def main() -> None:
        async with served(place, key=lambda: keys[0]) as (api, model):
            await collect(model)
            keys.pop(0)
            await collect(model)
            assert [request.headers["authorization"][-4:] for request in api.requests] == ["0001", "0002"]
            assert {request.connection for request in api.requests} == {1}

    run(main)


def test_after_its_end_the_model_refuses_calls(place: Path) -> None:
    async def main() -> None:
        async with served(place) as (api, model):
            await collect(model)
            await model.aclose()
            with pytest.raises(ModelError, match="is closed"):
                await collect(model)
            assert len(api.requests) == 1

    run(main)


def test_a_proxy_that_was_away_is_used_again_once_it_is_back(place: Path) -> None:
    async def main() -> None:
        model = AnthropicModel(lambda: KEY, base_url=HTTP, socket=place)
        for _ in range(2):
            async with open_fake_api(socket=place):
                await collect(model)
            with pytest.raises(ModelError, match="nobody listens at the model socket") as caught:
                await collect(model)
            assert (caught.value.code, caught.value.retryable, caught.value.sent) == ("connection", True, False)
            replace(place)
        await model.aclose()

    run(main)


def test_skills_files_and_messages_of_the_hosted_side_go_through_it_too(place: Path, tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            open_fake_api(socket=place) as api,
            HostedClient(lambda: "key", base_url=HTTP, socket=place, retry=QUICK, rng=Random(1)) as client,
        ):
            sent = await client.files.upload(b"content", name="a.txt")
            assert (await client.files.metadata(sent.id)).size == 7
            assert isinstance(await client.skills.list(), list)
            message = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
            assert (await client.ask(message))["type"] == "message"
            assert {request.path.split("?")[0].rstrip("/") for request in api.requests} >= {"/v1/files", "/v1/messages"}

    run(main)


def test_the_hosted_side_calls_again_while_the_proxy_is_away_and_then_says_where_it_should_be(place: Path) -> None:
    async def main() -> None:
        client = HostedClient(lambda: "key", base_url=HTTP, socket=place, retry=QUICK, rng=Random(1))
        async with client:
            with pytest.raises(HostedError, match="is not there: start the proxy") as caught:
                await client.files.upload(b"content", name="a.txt")
            assert caught.value.retryable

    run(main)


# TLS: the scheme of the base URL decides, and the relay cannot read along


@contextlib.asynccontextmanager
async def tls_endpoint(place: Path, folder: Path, port: int) -> AsyncIterator[Path]:
    """At the socket, the server of api.example.com: what comes out of the TLS goes to the port. Its certificate."""
    certificate, private = make_certificate(folder, "api.example.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening(place)))

    async def copy(source: trio.abc.ReceiveStream, target: trio.abc.SendStream, scope: trio.CancelScope) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            async for data in source:
                await target.send_all(data)
        scope.cancel()

    async def serve(stream: trio.SocketStream) -> None:
        async with trio.SSLStream(stream, context, server_side=True, https_compatible=True) as secure:
            with contextlib.suppress(trio.BrokenResourceError):
                await secure.do_handshake()
                async with await trio.open_tcp_stream("127.0.0.1", port) as behind, trio.open_nursery() as nursery:
                    nursery.start_soon(copy, secure, behind, nursery.cancel_scope)
                    nursery.start_soon(copy, behind, secure, nursery.cancel_scope)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield certificate
        nursery.cancel_scope.cancel()


def test_with_https_the_certificate_has_to_be_that_of_the_urls_host(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with open_fake_api() as api, tls_endpoint(place, tmp_path, api.port) as certificate:
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            model = AnthropicModel(lambda: KEY, base_url="https://api.example.com", socket=place)
            assert done(await collect(model)).stop_reason == "end_turn"
            await model.aclose()
            other = AnthropicModel(lambda: KEY, base_url="https://other.example.com", socket=place)
            with pytest.raises(ModelError, match=r"(?i)certificate") as caught:
                await collect(other)
            await other.aclose()
            assert str(place) in str(caught.value)
            assert len(api.requests) == 1

    run(main)


def test_a_proxy_that_speaks_no_tls_is_found_out_and_the_way_out_named(place: Path) -> None:
    async def main() -> None:
        async with served(place, url="https://api.example.com") as (api, model):
            with pytest.raises(ModelError, match="needs a base URL that begins with http://") as caught:
                await collect(model)
            assert caught.value.code == "connection"
            assert api.requests == []

    run(main)


# What must not be used, or is not there


def test_nothing_at_the_path_is_a_failure_that_may_pass(place: Path) -> None:
    error = failure(place)
    assert (error.code, error.retryable, error.sent) == ("connection", True, False)
    assert str(error) == (
        f"the model socket {place} is not there: start the proxy that listens there, or correct its path"
    )


def test_a_plain_file_is_no_socket(place: Path) -> None:
    place.write_text("")
    error = failure(place)
    assert (error.code, error.retryable, error.sent) == ("not_configured", False, False)
    assert f"{place} is no socket" in str(error)


def test_a_link_is_not_followed_wherever_it_leads(place: Path) -> None:
    real = place.with_name("real.sock")
    with listening(real):
        place.symlink_to(real)
        error = failure(place)
        assert (error.code, error.retryable) == ("not_configured", False)
        assert f"{place} is a symbolic link: name the socket itself" in str(error)
        assert connect_problem(real) is None


def test_a_link_that_replaces_the_socket_later_gets_nothing(place: Path) -> None:
    """The check is made before each call, not only at the first."""

    async def main() -> None:
        async with open_fake_api(socket=place.with_name("evil.sock")) as evil, served(place) as (api, model):
            await collect(model)
            replace(place, by=place.with_name("evil.sock"))
            with pytest.raises(ModelError, match="is a symbolic link"):
                await collect(model)
            assert (len(api.requests), len(evil.requests)) == (1, 0)

    run(main)


def test_a_folder_that_everybody_can_write_to_is_refused(place: Path) -> None:
    with listening(place):
        place.parent.chmod(0o1777)
        error = failure(place)
    assert (error.code, error.retryable) == ("not_configured", False)
    assert "anybody could answer there" in str(error)


def test_a_path_through_a_file_is_refused(place: Path) -> None:
    place.write_text("")
    assert connect_problem(place / "api.sock") is not None
    with pytest.raises(ModelError, match="Not a directory; correct its path") as caught:
        check_socket(place / "api.sock")
    assert caught.value.code == "not_configured"


def test_a_socket_of_another_kind_is_refused(place: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(place))
        error = failure(place)
    assert error.code == "not_configured"
    assert "correct its path" in str(error)


def test_without_the_right_to_connect_the_remedy_is_named(place: Path) -> None:
    """In a process of a user who may not: root may always."""
    program = (
        "import sys; from pathlib import Path; from skill_actors.models.model_socket import connect_problem\n"
        "import os, skill_actors.models.base\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "problem = connect_problem(Path(sys.argv[1])); print(problem.code, problem.retryable, problem)"
    )
    with listening(place):
        place.chmod(0)
        place.parent.chmod(0o755)
        command = [sys.executable, "-P", "-c", program, str(place)]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert said == (
        f"not_configured False the model socket {place} may not be used: give this user the right to connect to it\n"
    )


@pytest.mark.parametrize("answer", [HangUp(), Reply([Text("partial answer here")], fail=Cut(after=2))])
def test_a_proxy_that_hangs_up_half_way_is_named(place: Path, answer: Answer) -> None:
    async def main() -> ModelError:
        async with served(place, answer) as (_, model):
            with pytest.raises(ModelError) as caught:
                await collect(model)
            return caught.value

    error = run(main)
    assert (error.code, error.retryable, error.sent) == ("connection", True, True)
    assert f"at the socket {place}: " in str(error)


def test_the_errors_of_the_api_are_those_of_the_api(place: Path) -> None:
    async def main() -> None:
        async with served(place, HttpError(529, retry_after_s=3)) as (_, model):
            with pytest.raises(ModelError) as caught:
                await collect(model)
            assert (caught.value.code, caught.value.retry_after_s) == ("overloaded", 3)

    run(main)


def test_a_socket_whose_queue_is_full_does_not_hold_up_the_one_who_asks(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, contextlib.ExitStack() as waiting:
        made.bind(str(place))
        made.listen(0)
        for _ in range(3):
            client = waiting.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(os.fspath(place))
        problem = connect_problem(place)
    assert problem is not None
    assert (problem.code, problem.retryable) == ("connection", True)
    assert "does not answer" in str(problem)
