"""The scorer as an HTTP service."""

# FastAPI reads the annotations of the endpoints, so they must not be strings.

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Annotated, Any, Literal

from sail_core.extras import needs

from cem_mhch._cem import CEM
from cem_mhch._vocab import Encoder
from cem_mhch.streaming import Decision, Rules, Sessions, StreamingScorer, TooLong
from cem_mhch.streaming._counters import Counters

with needs("cem-mhch", "serve"):
    from fastapi import FastAPI, HTTPException, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse, PlainTextResponse
    from pydantic import BaseModel, ConfigDict, Field, model_validator

Role = Literal["user", "bot", "assistant", "agent"]
Token = Annotated[int, Field(ge=1, lt=2**63, strict=True)]
_ERRORS = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large", 422: "invalid_request"}


class TurnBody(BaseModel):
    """One turn: a role and either text or ids."""

    model_config = ConfigDict(extra="forbid")
    role: Role
    text: str | None = None
    tokens: list[Token] | None = None

    @model_validator(mode="after")
    def _either(self) -> "TurnBody":
        if (self.text is None) == (self.tokens is None):
            raise ValueError("give either text or tokens")
        return self

    def content(self) -> str | list[int]:
        """What the scorer is pushed."""
        return self.text if self.text is not None else self.tokens or []


class ScoreBody(TurnBody):
    """One turn of a session."""

    session_id: str = Field(min_length=1, max_length=200)


class DialogueBody(BaseModel):
    """A whole dialogue."""

    model_config = ConfigDict(extra="forbid")
    turns: list[TurnBody] = Field(min_length=1)


def create_app(
    model: CEM,
    *,
    vocab: Encoder | None = None,
    threshold: float = 0.5,
    patience: int = 1,
    cooldown: int = 0,
    rules: Rules | None = None,
    max_sessions: int = 10_000,
    max_chars: int = 10_000,
    max_turns: int = 1_000,
    max_bytes: int = 1_000_000,
) -> FastAPI:
    """Build the application.

    `POST /v1/score` scores the next turn of a session, which begins with its first; `POST /v1/score_dialogue` scores a
    whole dialogue and keeps nothing; `DELETE /v1/sessions/{session_id}` forgets a session; `GET /healthz`;
    `GET /metrics` for Prometheus. Errors are `{"error": {"type", "message"}}` with status 413 for what is too long or
    too large, 422 for what is not valid, 404 for an unknown session or path.

    Args:
        model: As in `StreamingScorer`.
        vocab: As in `StreamingScorer`.
        threshold: As in `StreamingScorer`.
        patience: As in `StreamingScorer`.
        cooldown: As in `StreamingScorer`.
        rules: As in `StreamingScorer`.
        max_sessions: As in `Sessions`.
        max_chars: Longest text of a turn.
        max_turns: Most turns of a session or a dialogue.
        max_bytes: Largest body of a request.

    Raises:
        ValueError: An option is outside its range, or the model cannot stream.
    """

    def make() -> StreamingScorer:
        return StreamingScorer(
            model,
            vocab=vocab,
            threshold=threshold,
            patience=patience,
            cooldown=cooldown,
            rules=rules,
            max_chars=max_chars,
            max_turns=max_turns,
        )

    make()  # refuse bad options now, not at the first request
    if max_bytes < 1 or max_turns < 1:
        raise ValueError(f"max_bytes is {max_bytes} and max_turns {max_turns}; give at least 1")
    sessions, counters = Sessions(make, max_sessions=max_sessions), Counters()
    app = FastAPI(title="cem-mhch", description="When to hand over to a person.")
    app.state.sessions = sessions

    @app.post("/v1/score")
    async def score(body: ScoreBody) -> Response:
        decision = sessions.push(body.session_id, body.role, body.content())
        counters.decision(decision.reason, decision.latency_ms)
        return JSONResponse(
            {"session_id": body.session_id, "turn": sessions.get(body.session_id).turns - 1, **_described(decision)}
        )

    @app.post("/v1/score_dialogue")
    async def score_dialogue(body: DialogueBody) -> Response:
        if len(body.turns) > max_turns:
            raise TooLong(f"{len(body.turns)} turns, at most {max_turns} are allowed")
        scorer = make()
        decisions = [scorer.push(turn.role, turn.content()) for turn in body.turns]
        for decision in decisions:
            counters.decision(decision.reason, decision.latency_ms)
        first = next((number for number, one in enumerate(decisions) if one.handoff), None)
        return JSONResponse({"first_handoff": first, "decisions": [_described(one) for one in decisions]})

    @app.delete("/v1/sessions/{session_id}", status_code=204)
    async def forget(session_id: str) -> Response:
        if not sessions.drop(session_id):
            raise HTTPException(404, f"there is no session {session_id[:200]!r}")
        return Response(status_code=204)

    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        return {"status": "ok", "sessions": len(sessions)}

    @app.get("/metrics")
    async def metrics() -> Response:
        text = counters.text(sessions=len(sessions), evicted=sessions.evicted)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return _refusal(422, f"{where}: {first['msg']}")

    @app.exception_handler(ValueError)
    async def refused(_: Request, error: ValueError) -> Response:
        return _refusal(413 if isinstance(error, TooLong) else 422, str(error))

    async def routing(_: Request, error: Exception) -> Response:
        return _refusal(getattr(error, "status_code", 400), str(getattr(error, "detail", error)))

    for status in (400, 404, 405):  # by number, for they come from below FastAPI
        app.add_exception_handler(status, routing)

    app.add_middleware(_Gate, counters=counters, max_bytes=max_bytes)
    return app


def _described(decision: Decision) -> dict[str, Any]:
    return decision._asdict() | {
        "user_state": dict(zip(("negative", "neutral", "positive"), decision.user_state, strict=True))
    }


def _refusal(status: int, message: str) -> Response:
    kind = _ERRORS.get(status, "error")
    return JSONResponse({"error": {"type": kind, "message": message[:500]}}, status_code=status)


Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class _Gate:
    """Read at most so many bytes of a body before anything else sees it, and count the answers."""

    def __init__(self, app: Any, *, counters: Counters, max_bytes: int) -> None:
        self.app, self.counters, self.max_bytes = app, counters, max_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                self.counters.request(getattr(route, "path", "other"), message["status"])
            await send(message)

        body, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client has gone
            body.append(message.get("body", b""))
            size += len(body[-1])
            more = message.get("more_body", False)
            if size > self.max_bytes:
                await _refusal(413, f"the body is larger than {self.max_bytes} bytes")(scope, receive, counted)
                return
        whole = [{"type": "http.request", "body": b"".join(body), "more_body": False}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self.app(scope, replay, counted)
