"""Encode texts with a language model, once, into a teacher cache."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from sail_core.extras import needs
from torch import Tensor

from ._local_model import bars_on_terminals_only, model_source
from ._minilm import MODEL_ID, NAME, minilm_folder
from ._teacher_cache import TeacherFacts
from ._teacher_layer import LayerReader
from ._teacher_store import TeacherStore
from ._text_key import text_key

Pooling = Literal["last", "mean", "eos", "tokens"]
DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """What an encoding came to.

    Attributes:
        encoded: Texts encoded by this call.
        present: Texts that were in the cache already.
        truncated: Of the encoded, those longer than the model reads.
    """

    encoded: int
    present: int
    truncated: int


def encode_teacher(
    texts: Sequence[str],
    folder: str | os.PathLike[str],
    *,
    model: str | Path,
    layer: str = "-1",
    pooling: Pooling = "mean",
    dtype: Literal["f16", "bf16", "f32"] = "f16",
    model_dtype: Literal["f16", "bf16", "f32"] = "f32",
    batch_tokens: int = 2048,
    shard_size: int = 2048,
    max_length: int | None = None,
    device: torch.device | str | None = None,
) -> Encoded:
    """Encode the texts that the cache lacks.

    Texts are sorted by their number of tokens, so that a batch has next to no padding; the pooled vectors do not
    depend on the batches but for rounding. Started again after a kill, it goes on with the first missing text.

    Args:
        texts: Prompts; the same one twice is encoded once.
        folder: The cache; made when missing.
        model: Folder or Hub id of a transformers model with safetensors weights, or ``"minilm"``, see the extra.
        layer: ``"k"`` or ``"k:raw"``, see `LayerReader`.
        pooling: ``"last"`` token, ``"mean"`` over the text's tokens, first ``"eos"`` token, or all ``"tokens"``.
        dtype: Of the stored vectors.
        model_dtype: In which the model computes.
        batch_tokens: Most tokens of a batch, padding included; at least one text is in it.
        shard_size: Texts in a file of the cache: what a kill loses at most.
        max_length: Tokens after which a text is cut; None is the model's own limit.
        device: Where to compute; None is the CPU.

    Returns:
        Counts.

    Raises:
        ValueError: An option is out of range, a text is empty, has no token to pool or gives a vector that is not
            finite, or the folder holds vectors that were made otherwise.
        FileNotFoundError: ``model`` is a local folder that does not exist.
        MissingExtra: transformers or the model's distribution is not installed.

    Example:
        >>> encode_teacher(["a cat", " "], "teacher", model="minilm")
        Traceback (most recent call last):
        ...
        ValueError: 1 of 2 prompts are empty; leave them out
    """
    from tqdm import tqdm  # type: ignore[import-untyped]

    texts = list({text_key(text): text for text in texts}.values())
    _check(texts, pooling, dtype, model_dtype, batch_tokens, shard_size, max_length)
    network, tokenizer = _load(model, DTYPES[model_dtype], device)
    reader = LayerReader(network, layer)
    limit = max_length or _limit(network, tokenizer)
    facts = TeacherFacts(
        model=MODEL_ID if model == NAME else str(model),
        layer=reader.layer,
        pooling=pooling,
        dtype=str(DTYPES[dtype]).removeprefix("torch."),
        dim=_width(reader, tokenizer),
        revision=getattr(network.config, "_commit_hash", None),
        tokenizer=_tokenizer_hash(tokenizer),
        max_length=limit,
    )
    store = TeacherStore(folder, facts)
    missing = store.missing(texts)
    ids = [tokenizer(text, truncation=limit is not None, max_length=limit)["input_ids"] for text in missing]
    for text, one in zip(missing, ids, strict=True):
        if not one:
            raise ValueError(f"the tokenizer makes no token of {text!r}; leave it out")
    cut = (
        0
        if limit is None
        else sum(len(one) >= limit and _longer(tokenizer, text, limit) for text, one in zip(missing, ids, strict=True))
    )
    done: list[tuple[str, Tensor]] = []
    with tqdm(total=len(missing), delay=2, disable=None, unit="text", desc="encode-teacher") as bar:
        for batch in buckets([len(one) for one in ids], batch_tokens):
            states, mask, padded = _states(reader, tokenizer, [ids[row] for row in batch])
            pooled = pool(states, mask, pooling, ids=padded, eos=tokenizer.eos_token_id)
            done += zip([missing[row] for row in batch], [one.cpu() for one in pooled], strict=True)
            while len(done) >= shard_size:
                _flush(store, done[:shard_size])
                done = done[shard_size:]
            bar.update(len(batch))
        _flush(store, done)
    return Encoded(encoded=len(missing), present=len(texts) - len(missing), truncated=cut)


def buckets(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield batches of rows, longest first, that have at most ``batch_tokens`` tokens with their padding.

    Example:
        >>> list(buckets([3, 9, 2, 3], 9))
        [[1], [0, 3, 2]]
    """
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda one: -lengths[one]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def pool(
    states: Tensor, mask: Tensor, pooling: Pooling, *, ids: Tensor | None = None, eos: int | None = None
) -> list[Tensor]:
    """Turn the states of texts into a vector each, or into their tokens.

    Args:
        states: ``(B, N, dim)``.
        mask: ``(B, N)`` bool, True on tokens of the text; padding may stand on either side.
        pooling: See `encode_teacher`.
        ids: ``(B, N)``; for ``"eos"``.
        eos: The end-of-text token; for ``"eos"``.

    Returns:
        B tensors ``(dim,)``, with ``"tokens"`` ``(n_i, dim)``.

    Raises:
        ValueError: ``"eos"`` is asked for and a text has none.
    """
    if pooling == "tokens":
        return [one[keep] for one, keep in zip(states, mask, strict=True)]
    if pooling == "mean":
        wide = states.float().masked_fill(~mask[..., None], 0)
        return list(wide.sum(1) / mask.sum(1, keepdim=True))
    if pooling == "last":
        places = mask.shape[1] - 1 - mask.int().flip(1).argmax(1)
    else:
        ends = mask & (ids == eos) if ids is not None and eos is not None else torch.zeros_like(mask)
        if not ends.any(1).all():
            raise ValueError("pooling 'eos' needs a tokenizer that ends every text with its eos token; use 'last'")
        places = ends.int().argmax(1)
    return list(states[torch.arange(len(states), device=states.device), places])


@torch.inference_mode()
def _states(reader: LayerReader, tokenizer: Any, ids: Sequence[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
    device = next(reader.model.parameters()).device
    padded = tokenizer.pad({"input_ids": list(ids)}, padding=True, return_tensors="pt").to(device)
    mask = padded["attention_mask"]
    return reader(input_ids=padded["input_ids"], attention_mask=mask), mask.bool(), padded["input_ids"]


def _flush(store: TeacherStore, done: Sequence[tuple[str, Tensor]]) -> None:
    if done:
        store.add([text for text, _ in done], [vector for _, vector in done])


def _load(model: str | Path, dtype: torch.dtype, device: torch.device | str | None) -> tuple[Any, Any]:
    with needs("sur-adapter", "train"):
        import transformers
        from transformers import AutoModel, AutoTokenizer
    source = str(minilm_folder()) if model == NAME else model_source(model)
    tokenizer = AutoTokenizer.from_pretrained(source)
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise ValueError(f"the tokenizer of {model} has neither a padding nor an end token; give it one")
        tokenizer.pad_token = tokenizer.eos_token
    word = "dtype" if tuple(map(int, transformers.__version__.split(".")[:2])) >= (4, 56) else "torch_dtype"
    with bars_on_terminals_only():
        network: Any = AutoModel.from_pretrained(source, use_safetensors=True, **{word: dtype})
    return network.to(device or "cpu").eval(), tokenizer


def _width(reader: LayerReader, tokenizer: Any) -> int:
    """The width of the layer, from one token; the config's name for it differs between models."""
    states, _, _ = _states(reader, tokenizer, [tokenizer("a")["input_ids"]])
    return int(states.shape[-1])


def _limit(network: Any, tokenizer: Any) -> int | None:
    limits = [tokenizer.model_max_length, getattr(network.config, "max_position_embeddings", None)]
    found = [int(one) for one in limits if one is not None and 0 < one < 10**9]
    return min(found) if found else None


def _longer(tokenizer: Any, text: str, limit: int) -> bool:
    return len(tokenizer(text, truncation=False, verbose=False)["input_ids"]) > limit


def _tokenizer_hash(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(text.encode()).hexdigest()


def _check(
    texts: Sequence[str],
    pooling: str,
    dtype: str,
    model_dtype: str,
    batch_tokens: int,
    shard_size: int,
    max_length: int | None,
) -> None:
    if empty := sum(not text.strip() for text in texts):
        raise ValueError(f"{empty} of {len(texts)} prompts are empty; leave them out")
    if pooling not in ("last", "mean", "eos", "tokens"):
        raise ValueError(f"pooling is {pooling!r}; it must be 'last', 'mean', 'eos' or 'tokens'")
    for name, value in (("dtype", dtype), ("model_dtype", model_dtype)):
        if value not in DTYPES:
            raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(DTYPES)}")
    for name, number in (("batch_tokens", batch_tokens), ("shard_size", shard_size), ("max_length", max_length)):
        if number is not None and number < 1:
            raise ValueError(f"{name} is {number}; it must be at least 1")
