"""Calling a model with explicit positions, so that no state is left on it and any cache can be continued."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ._encode import Encoded
from ._state import Side, State, padded


class Reader:
    """Read prompts and continue what was read, on any image-text-to-text model that keeps keys and values.

    Positions are always passed: those of a multimodal rotary embedding from the model's own ``get_rope_index``, plain
    ones elsewhere. The model's ``rope_deltas``, which ``generate`` leaves behind, are neither read nor written.

    Args:
        model: A causal model of transformers, not wrapped by peft.
    """

    def __init__(self, model: Any) -> None:
        kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
        if strange := sorted(kind for kind in kinds if not kind.endswith("attention") or "linear" in kind):
            raise ValueError(
                f"the model has layers of the kind {strange[0]!r}, which keep no keys and values to continue from; "
                "serve it with vLLM or SGLang and use OpenAIBackend"
            )
        self.model = model
        self._names = set(inspect.signature(model.forward).parameters)
        self._cache = "cache" if "cache" in self._names else "past_key_values"
        self._rope = getattr(getattr(model, "model", None), "get_rope_index", None)
        self._rope_names = set(inspect.signature(self._rope).parameters) if self._rope else set()

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return self.model.device  # type: ignore[no-any-return]

    def whole(self, prompts: Sequence[Encoded], tails: Sequence[Sequence[int]], *, side: Side) -> Tensor:
        """Read prompts with their tails from the beginning, keep nothing.

        Args:
            prompts: The prompts, with and without pictures.
            tails: Token ids that follow each.
            side: Where shorter rows are padded.

        Returns:
            Logits (rows, longest tail, vocabulary), float32: what precedes token t of a tail predicts it, so entry t
            belongs to it. Entries beyond a tail's end mean nothing.
        """
        rows = [replace(prompt, ids=(*prompt.ids, *tail)) for prompt, tail in zip(prompts, tails, strict=True)]
        inputs = self.inputs(rows, side=side)
        longest = max(map(len, tails))
        starts = torch.tensor([len(prompt.ids) - 1 for prompt in prompts], device=self.device)
        if side == "left":
            starts = starts + (inputs["attention_mask"] == 0).sum(1)
        index = starts[:, None] + torch.arange(longest, device=self.device)
        return self._call(inputs, None, index.clamp(max=inputs["input_ids"].shape[1] - 1))

    def prompt(self, prompt: Encoded, length: int | None = None) -> State:
        """Read one prompt, or its first ``length`` tokens, which must hold its picture whole."""
        from transformers import DynamicCache

        inputs = self.inputs([replace(prompt, ids=prompt.ids[:length])], side="right")
        cache = DynamicCache()
        last = torch.tensor([[inputs["input_ids"].shape[1] - 1]], device=self.device)
        logits = self._call(inputs, cache, last)[:, 0]
        mask = inputs["attention_mask"]
        positions = self._positions(inputs).reshape(-1, *mask.shape)
        return State(cache, mask, positions.amax((0, 2)) + 1, logits)

    def more(self, state: State, rows: Sequence[Sequence[int]], *, side: Side) -> Tensor:
        """Read further text after a state, which is changed: it then ends with these tokens.

        Args:
            state: What was read.
            rows: Token ids for each of its rows, at least one each.
            side: Where shorter rows are padded.

        Returns:
            Logits (rows, longest, vocabulary) after each token, float32.
        """
        ids, mask = padded(rows, side=side, device=self.device)
        return self._continue(state, ids, mask, at=None)

    def suffix(self, state: State, rows: Sequence[Sequence[int]], *, side: Side) -> None:
        """Read further text after a state and keep the logits of each row's last token in it."""
        ids, mask = padded(rows, side=side, device=self.device)
        last = mask.sum(1) - 1 if side == "right" else torch.full_like(mask[:, 0], ids.shape[1] - 1)
        state.logits = self._continue(state, ids, mask, at=last[:, None])[:, 0]

    def step(self, state: State, tokens: Tensor) -> None:
        """Read one token (rows,) each, none of them padding."""
        ids = tokens[:, None]
        state.logits = self._continue(state, ids, torch.ones_like(ids), at=None)[:, 0]

    def _continue(self, state: State, ids: Tensor, mask: Tensor, *, at: Tensor | None) -> Tensor:
        positions = state.position[:, None] + (mask.cumsum(1) - 1).clamp(min=0)
        state.mask = torch.cat([state.mask, mask], 1)
        inputs = {"input_ids": ids, "attention_mask": state.mask}
        if "position_ids" in self._names:
            inputs["position_ids"] = positions.expand(3, *positions.shape) if self._rope else positions
        logits = self._call(inputs, state.cache, at)
        state.position = state.position + mask.sum(1)
        return logits

    def inputs(self, prompts: Sequence[Encoded], *, side: Side) -> dict[str, Tensor]:
        """Lay prompts out side by side, with and without pictures, as keyword arguments of the model."""
        ids, mask = padded([one.ids for one in prompts], side=side, device=self.device)
        names = {name: None for one in prompts for name in one.tensors}
        inputs = {name: torch.cat([one.tensors[name] for one in prompts if name in one.tensors]) for name in names}
        for name in {name: None for one in prompts for name in one.aligned}:
            rows = [one.aligned.get(name, ())[: len(one.ids)] for one in prompts]
            rows = [(*row, *[0] * (len(one.ids) - len(row))) for row, one in zip(rows, prompts, strict=True)]
            inputs[name] = padded(rows, side=side, device=self.device)[0]
        inputs = {
            "input_ids": ids,
            "attention_mask": mask,
            **{name: one.to(ids.device) for name, one in inputs.items()},
        }
        if "position_ids" in self._names:
            inputs["position_ids"] = self._positions(inputs)
        return inputs

    def _positions(self, inputs: Mapping[str, Tensor]) -> Tensor:
        if self._rope is None:
            return (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
        if "mm_token_type_ids" not in inputs:  # not every processor marks what is text throughout
            inputs = {**inputs, "mm_token_type_ids": torch.zeros_like(inputs["input_ids"])}
        positions, _ = self._rope(**{name: value for name, value in inputs.items() if name in self._rope_names})
        return positions  # type: ignore[no-any-return]

    def _call(self, inputs: dict[str, Tensor], cache: Any, at: Tensor | None) -> Tensor:
        """Run the model; ``at`` (rows, k) chooses the places whose logits are wanted, None all."""
        if at is not None and "logits_to_keep" in self._names:
            keep, at = torch.unique(at, return_inverse=True)  # the language head runs on these places alone
            inputs = inputs | {"logits_to_keep": keep}
        logits = self.model(**inputs, **{self._cache: cache}, use_cache=cache is not None).logits
        if at is not None:
            logits = logits.gather(1, at[..., None].expand(*at.shape, logits.shape[-1]))
        return logits.float()  # type: ignore[no-any-return]
