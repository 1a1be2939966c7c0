"""A trained model with the vocabulary it reads text by, in one folder."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from ._cem import CEM
from ._vocab import Encoder, Vocab


def save_folder(directory: str | PathLike[str], model: CEM, vocab: Vocab | None) -> None:
    """Write what `CEM.save_pretrained` writes, and `vocab.json` where there is a vocabulary."""
    if vocab is not None:
        vocab.save(Path(directory) / "vocab.json")
    model.save_pretrained(directory)


def load_folder(directory: str | PathLike[str]) -> tuple[CEM, Encoder | None]:
    """Read what `save_folder` wrote; a host `hf:<model>` reads text by the tokeniser of its model.

    Raises:
        FileNotFoundError: There is no model in the folder.
        ValueError: A file is damaged, or the vocabulary is another model's.
    """
    folder = Path(directory)
    model = CEM.from_pretrained(folder)
    name = str(getattr(model.host, "name", ""))
    if name.startswith("hf:"):
        from .integrations.tokenizer import TransformersTokenizer

        return model, TransformersTokenizer(name.removeprefix("hf:"))
    if not (folder / "vocab.json").exists():
        return model, None
    vocab = Vocab.load(folder / "vocab.json")
    size = getattr(model.host, "options", {}).get("vocab_size", len(vocab))
    if size != len(vocab):
        raise ValueError(
            f"{folder}: the vocabulary has {len(vocab)} ids and the model {size}; they are not of one training"
        )
    return model, vocab
