"""The simplest way: one line, and the client as before."""

from __future__ import annotations

from offline import Client, shown

from skilld_monitor import enable_monitoring


def main() -> None:
    client = Client()
    enable_monitoring(agent_id="order-processing-production", llm_client=client)
    print(client.messages.create(model="m", messages=[{"role": "user", "content": "hello"}]).text)


if __name__ == "__main__":
    with shown():
        main()
