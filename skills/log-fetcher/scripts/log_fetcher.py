"""The native skill: the same as fetch.py, in a warm process, with one kept client."""

from __future__ import annotations

import httpx
from log_request import MAX_BYTES, parse_command, shown

from skill_actors.native import Context, NativeSkill, SkillInfo

_MAX_TIMEOUT_S = 30.0
_ANSWER_S = 0.5  # of the call's time, kept for the answer


class LogFetcher(NativeSkill):
    skill_info = SkillInfo(
        name="log-fetcher",
        description="Fetches logs from the HTTP API of a monitoring service: fetch URL [--limit N] [--level LEVEL].",
        allowed_tools=("execute",),
    )

    def __init__(self) -> None:
        self._client = httpx.Client(follow_redirects=False, trust_env=False)

    def execute(self, command: str, context: Context) -> str:
        """Fetch logs: `fetch URL [--limit N] [--level LEVEL]`, 100 records of any level unless told otherwise."""
        request = parse_command(command)
        timeout_s = max(0.1, min(_MAX_TIMEOUT_S, context.remaining_s() - _ANSWER_S))
        try:
            return shown(self._body(request.address(), timeout_s))
        except httpx.HTTPError as error:
            raise RuntimeError(f"the API cannot be reached: {str(error) or type(error).__name__}") from error

    def _body(self, url: str, timeout_s: float) -> bytes:
        body = b""
        with self._client.stream("GET", url, timeout=timeout_s) as response:
            if response.status_code != 200:
                raise RuntimeError(f"API returned {response.status_code}")
            for part in response.iter_bytes():
                body += part
                if len(body) > MAX_BYTES:
                    raise RuntimeError(
                        f"the answer is larger than {MAX_BYTES >> 20} MiB: ask for fewer records with --limit"
                    )
        return body
