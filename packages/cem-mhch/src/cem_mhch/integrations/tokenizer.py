"""Text to ids by the tokeniser of a transformers model, for the host `hf:<model>`."""

from __future__ import annotations

from sail_core.extras import needs


class TransformersTokenizer:
    """Ids of a tokeniser plus 1, for 0 is padding here.

    Args:
        model: Name on the hub, or a folder.
        max_tokens: Longer texts are cut.

    Raises:
        ValueError: There is no such tokeniser.
        MissingExtra: transformers is not installed (extra `hf`).
    """

    def __init__(self, model: str, *, max_tokens: int = 128) -> None:
        with needs("cem-mhch", "hf"):
            from transformers import AutoTokenizer
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(model)
        except (OSError, ValueError) as error:
            raise ValueError(f"no transformers tokeniser at {model!r}: {str(error).splitlines()[0]}") from error
        self.model, self.max_tokens = model, max_tokens

    def __len__(self) -> int:
        """Number of ids, padding included."""
        return len(self._tokenizer) + 1

    def encode(self, text: str) -> list[int]:
        """Ids of a text, with the model's special tokens."""
        ids = self._tokenizer(text, truncation=True, max_length=self.max_tokens)["input_ids"]
        return [1 + token for token in ids]
