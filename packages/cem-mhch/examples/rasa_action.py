"""Rasa: a custom action that runs before every answer and hands over when the scorer says so.

Put the file into your action server's `actions/`, set CEM_MHCH_URL to a running `cem-mhch serve`, name
`action_check_handoff` in the domain, and let a rule run it after each user message.
"""

import json
import os
import urllib.request
from collections.abc import Iterable
from typing import Any

try:
    from rasa_sdk import Action
    from rasa_sdk.events import ConversationPaused, SlotSet
except ModuleNotFoundError:  # the functions below can be used without the SDK
    Action = object

    def ConversationPaused() -> dict[str, Any]:
        """The event that pauses the bot."""
        return {"event": "pause"}

    def SlotSet(key: str, value: Any) -> dict[str, Any]:
        """The event that sets a slot."""
        return {"event": "slot", "name": key, "value": value}


ROLES = {"user": "user", "bot": "bot"}


def new_turns(events: Iterable[dict[str, Any]], seen: int) -> list[dict[str, str]]:
    """The turns of a tracker after the first `seen` ones, as the service wants them."""
    turns = [
        {"role": ROLES[event["event"]], "text": event.get("text") or ""}
        for event in events
        if event.get("event") in ROLES
    ]
    return turns[seen:]


def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ask the service."""
    address = os.environ.get("CEM_MHCH_URL", "http://127.0.0.1:8765") + path
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=2) as answer:
        return json.load(answer)


class ActionCheckHandoff(Action):
    """Push the new turns; pause the bot at a handoff, so that it says nothing more."""

    def name(self) -> str:
        """Its name in the domain."""
        return "action_check_handoff"

    def run(self, dispatcher: Any, tracker: Any, domain: dict[str, Any]) -> list[dict[str, Any]]:
        """Give the events that follow."""
        seen = int(tracker.get_slot("handoff_turns_seen") or 0)
        turns = new_turns(tracker.events, seen)
        decision: dict[str, Any] = {"handoff": False}
        for turn in turns:
            decision = post("/v1/score", {"session_id": tracker.sender_id, **turn})
            if decision["handoff"]:
                break
        events = [SlotSet("handoff_turns_seen", seen + len(turns))]
        if decision["handoff"]:
            dispatcher.utter_message(
                text="I am connecting you to a colleague.", json_message={"handoff": decision["reason"]}
            )
            events.append(ConversationPaused())
        return events
