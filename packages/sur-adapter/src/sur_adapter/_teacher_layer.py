"""Read the states of one layer of a transformers model by a hook, without computing the layers behind it.

``k`` is the output of block k, counted from 1; 0 is the embeddings. -1, as the number of blocks, is what the model
returns: the last block and the final norm, where there is one. ``k:raw`` is the block's own output; ``-1:raw`` is what
the authors read from LLaMA (their block 39, counted from 0, is ``40:raw``).
"""

import re
from typing import Any

from torch import Tensor, nn


class _Stop(Exception):
    """Ends a forward pass whose rest is not needed."""


class LayerReader:
    """Reads one layer of a model.

    Args:
        model: A transformers model; of an encoder-decoder the encoder is read.
        layer: ``"k"`` or ``"k:raw"``; negative k counts from the end.

    Attributes:
        layer: The layer in its one spelling: k from 0 to the number of blocks, ``":raw"`` only where it differs.

    Raises:
        ValueError: The layer is not spelled so, or does not exist, or the model's blocks were not found.
    """

    def __init__(self, model: Any, layer: str) -> None:
        found = re.fullmatch(r"(-?\d+)(:raw)?", layer)
        if not found:
            raise ValueError(f"layer is {layer!r}; it must be a number such as '-1', or with ':raw' such as '-1:raw'")
        self.model = model.get_encoder() if getattr(model.config, "is_encoder_decoder", False) else model
        self.blocks = _blocks(self.model)
        count = len(self.blocks)
        number = int(found[1])
        if not -count - 1 <= number <= count:
            raise ValueError(f"layer is {layer!r}, but {type(model).__name__} has {count} blocks: 0 to {count}, or -1")
        self.number = number if number >= 0 else count + 1 + number
        raw = bool(found[2])
        if raw and self.number == 0:
            raise ValueError("layer '0:raw' does not exist: 0 is the embeddings, which no norm follows; use '0'")
        self.final = self.number == count and not raw
        self.layer = f"{self.number}:raw" if self.number == count and raw else str(self.number)

    def __call__(self, **inputs: Tensor) -> Tensor:
        """Return the states ``(B, N, dim)`` of tokenised texts."""
        if self.final:
            return self.model(**inputs).last_hidden_state  # type: ignore[no-any-return]
        seen: list[Tensor] = []

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.append(args[0] if args else kwargs["hidden_states"])
            raise _Stop

        def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            seen.append(output[0] if isinstance(output, tuple) else output)
            raise _Stop

        if self.number == 0:
            hook = self.blocks[0].register_forward_pre_hook(before, with_kwargs=True)
        else:
            hook = self.blocks[self.number - 1].register_forward_hook(after)
        try:
            self.model(**inputs)
        except _Stop:
            pass
        finally:
            hook.remove()
        return seen[0]


def _blocks(model: nn.Module) -> nn.ModuleList:
    """Find the one list of as many modules as the config has layers."""
    config: Any = model.config
    config = getattr(config, "text_config", None) or config
    names = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")
    counts = {getattr(config, name) for name in names if isinstance(getattr(config, name, None), int)}
    for _, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) in counts:
            return module
    raise ValueError(f"found no list of {sorted(counts)} blocks in {type(model).__name__}; give a transformer")
