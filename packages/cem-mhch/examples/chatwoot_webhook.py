"""Chatwoot: an agent-bot webhook that opens the conversation for people when the scorer says so.

Run `uvicorn chatwoot_webhook:app` with CHATWOOT_URL, CHATWOOT_TOKEN (of the agent bot) and CEM_MHCH_MODEL (the folder
of a trained model), and give its address `/webhook` to the agent bot.
"""

import json
import os
import urllib.request
from collections.abc import Callable
from typing import Any

from cem_mhch import Rules, Sessions, StreamingScorer

ToggleStatus = Callable[[int, int, str], None]


def toggle_status(account: int, conversation: int, status: str) -> None:
    """Chatwoot's call that takes a conversation from the bot (pending) to people (open)."""
    address = f"{os.environ['CHATWOOT_URL']}/api/v1/accounts/{account}/conversations/{conversation}/toggle_status"
    headers = {"Content-Type": "application/json", "api_access_token": os.environ["CHATWOOT_TOKEN"]}
    request = urllib.request.Request(address, json.dumps({"status": status}).encode(), headers)
    urllib.request.urlopen(request, timeout=5).close()


class Handover:
    """What to do with the events of the webhook."""

    def __init__(self, make: Callable[[], StreamingScorer], toggle: ToggleStatus = toggle_status) -> None:
        self.sessions, self.toggle = Sessions(make), toggle

    def receive(self, event: dict[str, Any]) -> str | None:
        """Push one message; returns the reason when the conversation was handed over."""
        conversation = event.get("conversation") or {}
        if event.get("event") != "message_created" or event.get("private") or conversation.get("status") != "pending":
            return None  # people have the conversation, or it is a note
        kinds = {"incoming": "user", "outgoing": "bot", 0: "user", 1: "bot"}
        role = kinds.get(event.get("message_type"))
        if role is None:
            return None
        account, number = event["account"]["id"], conversation["id"]
        decision = self.sessions.push(f"{account}/{number}", role, event.get("content") or "")
        if not decision.handoff:
            return None
        self.toggle(account, number, "open")
        self.sessions.drop(f"{account}/{number}")
        return decision.reason


def build() -> Any:
    """The webhook as an application."""
    from cem_mhch._folder import load_folder
    from fastapi import FastAPI, Request

    model, vocab = load_folder(os.environ["CEM_MHCH_MODEL"])
    handover = Handover(lambda: StreamingScorer(model, vocab=vocab, rules=Rules()))
    app = FastAPI()

    @app.post("/webhook")
    async def webhook(request: Request) -> dict[str, str | None]:
        return {"handed_over": handover.receive(await request.json())}

    return app


def __getattr__(name: str) -> Any:
    if name == "app":
        return build()
    raise AttributeError(name)
