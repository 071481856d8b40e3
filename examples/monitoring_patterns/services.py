"""Services around a client: what they do is reported, and their errors without what they were asked."""

from __future__ import annotations

from contextlib import suppress

from offline import Client, shown

from skilld_monitor.contrib.service import MonitoredService


class LLMService(MonitoredService):
    def generate_response(self, prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        return str(self.client.messages.create(model="m", messages=messages).text)


def main() -> None:
    service = LLMService("order-processing-service", Client())
    print(service.generate_response("generate an order confirmation"))
    with suppress(ValueError):
        service.generate_response("")


if __name__ == "__main__":
    with shown():
        main()
