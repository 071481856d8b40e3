"""A client in front of a client, for one that is handed to others."""

from __future__ import annotations

from offline import Client, shown

from skilld_monitor.contrib.proxy import LLMClientProxy


def main() -> None:
    client = LLMClientProxy("proxy-agent", Client())
    print(isinstance(client, Client))
    print(client.messages.create(model="m", messages=[{"role": "user", "content": "hello"}]).text)


if __name__ == "__main__":
    with shown():
        main()
