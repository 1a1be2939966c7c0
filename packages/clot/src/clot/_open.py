"""The backend that a command line names."""

import os

from ._backend import Backend
from ._echo import EchoBackend
from ._openai import OpenAIBackend


def open_backend(
    model: str,
    *,
    server: str | None = None,
    adapter: str | os.PathLike[str] | None = None,
    device: str = "auto",
    concurrency: int = 8,
    log: str | os.PathLike[str] | None = None,
    price: tuple[float, float] = (0.0, 0.0),
    prompt_logprobs: bool = False,
) -> Backend:
    """Open a model.

    Args:
        model: ``"echo"`` for the rule without a model; with ``server`` the model's name there; else a folder or the
            name of a model that transformers loads.
        server: Address of an OpenAI-compatible server, up to and with ``/v1``.
        adapter: A folder with an adapter, for a model that is not behind a server.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or the like, for such a model.
        concurrency: Requests under way at once, for a server.
        log: A file for tokens and cost, for a server.
        price: Price of a million tokens read and of a million written, for a server.
        prompt_logprobs: The server scores whole answers (vLLM).

    Returns:
        The backend.

    Raises:
        ValueError: An adapter is named for a server or for ``"echo"``.
        MissingExtra: The extra ``hf`` or ``openai`` is not installed.
    """
    if adapter is not None and (server is not None or model == "echo"):
        raise ValueError("an adapter belongs to a model that is loaded here; start the server with the adapter instead")
    if server is not None:
        return OpenAIBackend(
            model, base_url=server, concurrency=concurrency, log=log, price=price, prompt_logprobs=prompt_logprobs
        )
    if model == "echo":
        return EchoBackend()
    from .integrations.hf import HFBackend

    return HFBackend.from_pretrained(model, adapter=adapter, device=device)
