"""A vision-language model of transformers behind the interface of a backend."""

import json
import os
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from clot._backend import Generation, OptionLogprobs, OptionRequest, Request

from ._decode import Candidate, decode
from ._encode import Encoded, Encoder
from ._identity import weights_digest, weights_version
from ._load import load_adapter, load_model
from ._options import Method, separate, shared
from ._prefill import Prefill
from ._reader import Reader
from ._record_error import RecordError
from ._state import Side, gather


class HFBackend:
    """Answers and scores of any ``AutoModelForImageTextToText`` with a chat template.

    What the prompts of one call begin with alike, picture included, is read once; candidates of a prompt are drawn
    side by side from it, and options are scored after it. The same call gives the same bits; another composition of
    the call changes logits by rounding only. Random numbers depend on a request's seed and the candidate's number.

    Args:
        model: A causal model of transformers, or a peft model around one.
        processor: Its processor, with a chat template.
        rows: Most rows in one call of the model.
        padding_side: Where shorter rows are padded; ``"left"`` is cheaper.
        prefixes: Beginnings of prompts to remember between calls.

    Attributes:
        model: The model without peft's wrapper; an adapter acts in it all the same.
        processor: The processor.
        digest: Names model, adapter and weights, as they are now; it takes part of a second for each billion weights.

    Example:
        >>> from clot._backend import OptionRequest, Prompt, Request
        >>> from clot.integrations.tiny import tiny_model, tiny_processor
        >>> processor = tiny_processor(texts=["Which is it?"])
        >>> backend = HFBackend(tiny_model(processor), processor)
        >>> (one,) = backend.generate([Request("r1", Prompt("Which is it?"), n=3, max_new_tokens=4)])
        >>> (two,) = backend.option_logprobs([OptionRequest("r1", Prompt("Which is it?"), ("A", "B"))])
        >>> print(len(one.texts), two.tokens, all(value < 0 for value in two.logprobs))
        3 (1, 1) True
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        rows: int = 32,
        padding_side: Side = "left",
        prefixes: int = 8,
    ) -> None:
        if rows < 1 or prefixes < 0:
            raise ValueError(f"rows is {rows} and prefixes {prefixes}; expected at least 1 and 0")
        if padding_side not in ("left", "right"):
            raise ValueError(f"padding_side is {padding_side!r}; expected 'left' or 'right'")
        self._adapters = {name: _settings(config) for name, config in getattr(model, "peft_config", {}).items()}
        self._digest: tuple[int, str] | None = None
        self.model = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.model.eval()
        self.processor = processor
        self._rows = rows
        self._side: Side = padding_side
        text = self.model.config.get_text_config()
        self._encoder = Encoder(processor, context=getattr(text, "max_position_embeddings", None))
        self._reader = Reader(self.model)
        self._prefill = Prefill(self._reader, side=padding_side, capacity=prefixes)
        eos = self.model.generation_config.eos_token_id
        ends = eos if isinstance(eos, list) else [eos]
        self._stop = {one for one in [*ends, processor.tokenizer.eos_token_id] if one is not None}

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str],
        *,
        adapter: str | os.PathLike[str] | None = None,
        dtype: str | torch.dtype = "auto",
        device: str = "auto",
        rows: int = 32,
        padding_side: Side = "left",
        prefixes: int = 8,
    ) -> "HFBackend":
        """Load a model, its processor and an adapter.

        Args:
            model: A folder, or a name of the hub such as ``Qwen/Qwen2.5-VL-7B-Instruct``.
            adapter: A folder that `train_ait` or peft wrote, or None.
            dtype: ``"auto"`` for the checkpoint's own, or ``"float32"``, ``"bfloat16"``, ``"float16"``.
            device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
            rows: As in the class.
            padding_side: As in the class.
            prefixes: As in the class.

        Returns:
            The backend.

        Raises:
            ValueError: The folder does not exist or holds no such model, or the adapter is of another base.
        """
        processor, loaded = load_model(model, dtype=dtype, device=device)
        if adapter is not None:
            loaded = load_adapter(loaded, adapter)
        return cls(loaded, processor, rows=rows, padding_side=padding_side, prefixes=prefixes)

    @property
    def digest(self) -> str:
        """Identity of model, adapter and weights: 32 hexadecimal digits."""
        version = weights_version(self.model)
        if self._digest is None or self._digest[0] != version:
            config = self.model.config.to_dict()
            parts = [type(self.model).__name__, _stable(config), _stable(self._adapters), weights_digest(self.model)]
            self._digest = version, blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()
        return self._digest[1]

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request]) -> list[Generation]:
        """Answer each request; its candidates are drawn side by side after one reading of the prompt.

        Args:
            requests: What to answer.

        Returns:
            The answers, in the order of the requests, trimmed and without special tokens.

        Raises:
            RecordError: A picture does not load, a prompt is too long, or the logits are not finite; it names the
                request.
            ValueError: A request's numbers are out of range.
        """
        for one in requests:
            _in_range(one)
        prompts = [self._encoder.encode(one.id, one.prompt, room=one.max_new_tokens) for one in requests]
        texts: list[list[str]] = [[""] * one.n for one in requests]
        for window in self._windows(prompts):
            read = self._prefill([prompts[at] for at in window])
            places = [
                (at, state, index) for at, state in zip(window, read, strict=True) for index in range(requests[at].n)
            ]
            for start in range(0, len(places), self._rows):
                part = places[start : start + self._rows]
                candidates = [Candidate(requests[at], index) for at, _, index in part]
                state = gather([state for _, state, _ in part], side=self._side)
                answers = decode(self._reader, state, candidates, stop=self._stop, side=self._side, check=_finite)
                del state  # otherwise it stands beside that of the next part
                decoded = self.processor.tokenizer.batch_decode(answers, skip_special_tokens=True)
                for (at, _, index), text in zip(part, decoded, strict=True):
                    texts[at][index] = text.strip()
        return [Generation(one.id, tuple(found)) for one, found in zip(requests, texts, strict=True)]

    @torch.inference_mode()
    def option_logprobs(self, requests: Sequence[OptionRequest], *, method: Method = "shared") -> list[OptionLogprobs]:
        """Give the log-probability of each option as the beginning of the answer.

        log p(option | prompt) = sum over t of log p(token t | prompt, tokens before t)

        Args:
            requests: Prompts and options.
            method: ``"shared"`` reads a prompt once and its options after it; ``"batched"`` reads prompt and option
                together, several side by side; ``"naive"`` one after the other. They agree but for rounding.

        Returns:
            Sums and numbers of tokens, in the order of the requests. A letter that is a single token has the number 1.

        Raises:
            RecordError: A picture does not load, prompt and option are too long, an option has no tokens, or the
                logits are not finite; it names the request.
        """
        if method not in ("shared", "batched", "naive"):
            raise ValueError(f"method is {method!r}; expected 'shared', 'batched' or 'naive'")
        tails = [[self._encoder.continuation(option) for option in one.options] for one in requests]
        for one, options in zip(requests, tails, strict=True):
            if not options or not all(options):
                raise RecordError(one.id, f"its options are {one.options!r}; expected one or more that are not empty")
        prompts = [
            self._encoder.encode(one.id, one.prompt, room=max(map(len, options)))
            for one, options in zip(requests, tails, strict=True)
        ]
        sums: list[Sequence[float]] = [()] * len(requests)
        for window in self._windows(prompts):
            jobs = [(prompts[at], tails[at]) for at in window]
            if method == "shared":
                found = shared(self._prefill, jobs, rows=self._rows, check=_finite)
            else:
                rows = 1 if method == "naive" else self._rows
                found = separate(self._reader, jobs, side=self._side, rows=rows, check=_finite)
            for at, values in zip(window, found, strict=True):
                sums[at] = values
        return [
            OptionLogprobs(one.id, tuple(values), tuple(map(len, options)))
            for one, values, options in zip(requests, sums, tails, strict=True)
        ]

    def forget(self) -> None:
        """Free the remembered beginnings of prompts.

        Needed only after weights were changed through ``.data``, or those of a model built in inference mode, which
        torch does not follow.
        """
        self._prefill.clear()

    def _windows(self, prompts: Sequence[Encoded]) -> list[list[int]]:
        """Parts of a call that are in memory together; prompts with one beginning stay side by side."""
        order = sorted(range(len(prompts)), key=lambda at: (prompts[at].picture, prompts[at].ids))
        return [order[start : start + self._rows] for start in range(0, len(order), self._rows)]


def _settings(config: Any) -> dict[str, Any]:
    """What of an adapter's configuration changes the answers."""
    names = ("peft_type", "r", "lora_alpha", "alpha_pattern", "rank_pattern", "use_rslora", "use_dora")
    return {name: str(value) for name, value in config.to_dict().items() if name in names}


def _stable(value: Any) -> str:
    """JSON of settings without where they came from and what wrote them."""
    if isinstance(value, dict):
        foreign = ("_name_or_path", "architectures", "transformers_version", "dtype", "torch_dtype")
        value = {name: one for name, one in value.items() if name not in foreign}
        return "{" + ",".join(f"{name}:{_stable(value[name])}" for name in sorted(value)) + "}"
    return json.dumps(value, sort_keys=True, default=str)


def _in_range(request: Request) -> None:
    if request.n < 1 or request.max_new_tokens < 1:
        raise ValueError(
            f"request {request.id} has n {request.n} and max_new_tokens {request.max_new_tokens}; expected at least 1"
        )
    if not request.temperature >= 0 or not 0 < request.top_p <= 1:
        raise ValueError(
            f"request {request.id} has temperature {request.temperature} and top_p {request.top_p}; expected "
            "temperature >= 0 and 0 < top_p <= 1"
        )


def _finite(logits: Tensor, ids: Sequence[str]) -> None:
    """Refuse NaN and infinity: a logarithm of the sum of exponentials is finite unless one of them is there."""
    good = logits.logsumexp(-1).isfinite().reshape(len(ids), -1).all(1)
    if not bool(good.all()):
        name = ids[int((~good).nonzero()[0])]
        raise RecordError(
            name, "the model's logits for it are not finite; use a wider dtype (bfloat16, float32) or check the weights"
        )
