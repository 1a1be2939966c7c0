"""LangGraph: a node that scores the new messages and interrupts the graph for a person.

    graph.add_node("handoff", HandoffNode(make_scorer, interrupt=langgraph.types.interrupt))
    graph.add_edge("bot", "handoff")

The state keeps the scorer's JSON state beside the messages, so a checkpointer resumes it anywhere.
"""

from collections.abc import Callable
from typing import Any

from cem_mhch import StreamingScorer

ROLES = {"human": "user", "user": "user", "ai": "bot", "assistant": "bot"}  # LangChain calls the user "human"


class HandoffNode:
    """Scores what is new in `state["messages"]`; a person's answer to the interrupt becomes the next message."""

    def __init__(self, make: Callable[[], StreamingScorer], interrupt: Callable[[Any], Any]) -> None:
        self.make, self.interrupt = make, interrupt

    def __call__(self, state: dict[str, Any]) -> dict[str, Any]:
        """Give the update of the graph's state."""
        scorer = self.make()
        if state.get("scorer") is not None:
            scorer.load_state_dict(state["scorer"])
        seen = state.get("scored", 0)
        reason = None
        for message in state["messages"][seen:]:
            role, text = _read(message)
            if role in ROLES:
                decision = scorer.push(ROLES[role], text)
                reason = decision.reason or reason
        update: dict[str, Any] = {"scorer": scorer.state_dict(), "scored": len(state["messages"])}
        if reason is not None:
            answer = self.interrupt({"handoff": reason, "prob": decision.prob})
            update |= {"handed_over": reason, "messages": [{"role": "assistant", "content": answer}]}
        return update


def _read(message: Any) -> tuple[str, str]:
    """Role and text of a LangChain message or a dict."""
    if isinstance(message, dict):
        return message["role"], message["content"]
    return message.type, message.content
