"""FastAPI, and so Starlette: one call for the application. Needs fastapi."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from fastapi import FastAPI
from offline import Client, shown

from skilld_monitor import enable_monitoring
from skilld_monitor.contrib.fastapi import monitor_app

app = FastAPI()
client = Client()
monitor_app(app)


@app.post("/ask/{topic}")
async def ask(topic: str, question: dict[str, Any]) -> dict[str, str]:
    text = f"{topic}: {question['question']}"
    return {"answer": client.messages.create(model="m", messages=[{"role": "user", "content": text}]).text}


async def visit() -> None:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as browser:
        print((await browser.post("/ask/cats", json={"question": "why?"})).json())


def main() -> None:
    enable_monitoring("web-app", llm_client=client)
    asyncio.run(visit())


if __name__ == "__main__":
    with shown():
        main()
