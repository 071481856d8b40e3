"""Django: a line in MIDDLEWARE. Needs django."""

from __future__ import annotations

from typing import Any

import django  # type: ignore[import-untyped]
from django.conf import settings  # type: ignore[import-untyped]
from django.http import JsonResponse  # type: ignore[import-untyped]
from django.test import Client as Browser  # type: ignore[import-untyped]
from django.urls import path  # type: ignore[import-untyped]
from offline import Client, shown

from skilld_monitor import enable_monitoring

client = Client()


def ask(_request: Any, topic: str) -> Any:
    text = client.messages.create(model="m", messages=[{"role": "user", "content": topic}]).text
    return JsonResponse({"answer": text})


urlpatterns = [path("ask/<str:topic>", ask)]


def main() -> None:
    settings.configure(
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        MIDDLEWARE=["skilld_monitor.contrib.django.MonitoringMiddleware"],
    )
    django.setup()
    enable_monitoring("web-app", llm_client=client)
    print(Browser().get("/ask/cats").json())


if __name__ == "__main__":
    with shown():
        main()
