"""The receiver that is called: a real one, one that hangs, one that refuses, and one whose certificate is strange."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from hook_kit import receiver
from skilld.config import HooksConfig
from skilld.hooks import HookFailed, Notice
from skilld.hooks.webhook import Webhook, bearer
from support import run

NOTICE = Notice(event="turn.finished", session="ses_a", turn="trn_b", body=b'{"event": "turn.finished"}')


def hook(config: HooksConfig, version: str) -> Webhook:
    return Webhook(config, version, bearer(config.token_file), key="hooks.token_file")


def test_a_notice_is_posted_with_the_token_of_now(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first-token\n")
    token.chmod(0o600)

    async def main() -> None:
        async with receiver() as found:
            webhook = hook(HooksConfig(url=found.url, token_file=token), "9.9")
            await webhook(NOTICE)
            token.write_text("second-token-of-another-length\n")
            await webhook(NOTICE)
            assert found.told == [{"event": "turn.finished"}] * 2
            assert found.heads[0].startswith("POST /hook?key=in-the-url HTTP/1.1\r\n")
            assert "content-type: application/json" in found.heads[0].lower()
            assert "user-agent: skilld/9.9" in found.heads[0].lower()
            assert "authorization: Bearer first-token" in found.heads[0].replace("Authorization", "authorization")
            assert "Bearer second-token-of-another-length" in found.heads[1]

    run(main)


@pytest.mark.parametrize(
    ("status", "again"), [(302, False), (400, False), (401, False), (404, False), (429, True), (500, True), (503, True)]
)
def test_what_the_receiver_answers_decides_whether_it_is_tried_again(status: int, again: bool) -> None:
    async def main() -> None:
        async with receiver() as found:
            found.answers = [status]
            with pytest.raises(HookFailed, match=f"it answers {status}") as caught:
                await hook(HooksConfig(url=found.url), "9")(NOTICE)
            assert caught.value.retry is again
            assert len(found.told) == 1, "a redirect is not followed"

    run(main)


def test_a_receiver_that_does_not_answer_costs_the_time_out_and_no_more() -> None:
    async def main() -> None:
        async with receiver() as found:
            found.answers = [0]
            began = trio.current_time()
            with pytest.raises(HookFailed, match=r"no answer within 0\.3 s") as caught:
                await hook(HooksConfig(url=found.url, timeout_s=0.3), "9")(NOTICE)
            assert caught.value.retry
            assert trio.current_time() - began < 3

    run(main)


def test_nobody_there_and_a_token_that_is_missing_may_be_otherwise_later(tmp_path: Path) -> None:
    async def main() -> None:
        async with receiver() as found:
            url = found.url
            with pytest.raises(HookFailed, match=r"token file .*none cannot be opened") as caught:
                await hook(HooksConfig(url=url, token_file=tmp_path / "none"), "9")(NOTICE)
            assert caught.value.retry
            assert found.told == [], "without its token it is not called"
        with pytest.raises(HookFailed, match="ConnectError") as caught:
            await hook(HooksConfig(url=url), "9")(NOTICE)
        assert caught.value.retry
        assert "in-the-url" not in str(caught.value)

    run(main)


def test_over_https_only_a_certificate_that_is_trusted_will_do(tmp_path: Path) -> None:
    async def main() -> None:
        async with receiver(tmp_path) as found:
            with pytest.raises(HookFailed, match=r"CERTIFICATE_VERIFY_FAILED|certificate verify failed"):
                await hook(HooksConfig(url=found.url), "9")(NOTICE)
            assert found.told == []
            await hook(HooksConfig(url=found.url, ca_file=found.certificate), "9")(NOTICE)
            assert len(found.told) == 1

    run(main)


def test_over_https_the_proxy_of_the_environment_is_used_and_for_this_host_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        asked: list[bytes] = []

        async def proxy(stream: trio.SocketStream) -> None:
            async with stream:
                asked.append(await stream.receive_some(4096))
                await stream.send_all(b"HTTP/1.1 502 no\r\ncontent-length: 0\r\n\r\n")

        async with trio.open_nursery() as nursery, receiver() as found:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, proxy, listeners)
            address = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"):
                monkeypatch.setenv(name, address)
            monkeypatch.delenv("NO_PROXY", raising=False)
            monkeypatch.delenv("no_proxy", raising=False)
            with pytest.raises(HookFailed, match="ProxyError"):
                await hook(HooksConfig(url="https://hooks.example.com/x"), "9")(NOTICE)
            assert asked[0].startswith(b"CONNECT hooks.example.com:443 ")
            await hook(HooksConfig(url=found.url), "9")(NOTICE)
            assert len(found.told) == len(asked) == 1
            nursery.cancel_scope.cancel()

    run(main)
