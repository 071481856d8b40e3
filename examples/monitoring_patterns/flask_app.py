"""Flask: one call for the application. Needs flask."""

from __future__ import annotations

from flask import Flask, request
from offline import Client, shown

from skilld_monitor import enable_monitoring
from skilld_monitor.contrib.flask import monitor_app

app = Flask(__name__)
client = Client()
monitor_app(app)


@app.post("/ask")
def ask() -> dict[str, str]:
    question = request.get_json()["question"]
    return {"answer": client.messages.create(model="m", messages=[{"role": "user", "content": question}]).text}


def main() -> None:
    enable_monitoring("web-app", llm_client=client)
    with app.test_client().post("/ask", json={"question": "why?"}) as answer:
        print(answer.get_json())


if __name__ == "__main__":
    with shown():
        main()
