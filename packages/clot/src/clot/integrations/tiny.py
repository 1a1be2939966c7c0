"""Small vision-language models built from a configuration: the classes of Qwen2.5-VL and Qwen3-VL without a download.

Differences from the published models: random weights, two layers, a vocabulary of bytes and of given words.
Everything else is the class itself, so what runs on these runs on ``Qwen/Qwen2.5-VL-7B-Instruct`` too.

References:
    Bai et al., Qwen2.5-VL Technical Report, 2025, arXiv:2502.13923. Qwen Team, Qwen3-VL Technical Report, 2025,
    arXiv:2511.21631.
"""

import itertools
import os
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from oogiri_go.runs import needs

__all__ = ["save_tiny", "tiny_model", "tiny_processor"]

Family = Literal["qwen2_5_vl", "qwen3_vl"]

_SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
)
_PATCH = {"qwen2_5_vl": 14, "qwen3_vl": 16}
_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_processor(family: Family = "qwen2_5_vl", *, texts: Iterable[str] = ()) -> Any:
    """Build a processor in memory: byte-level tokens, the words of ``texts`` as one token each, pictures of 4 tokens.

    The vocabulary is a function of ``texts`` alone, so two processes build the same one. Every string has a
    tokenization, because every byte has a token; letters with and without a leading space are single tokens.

    Args:
        family: ``"qwen2_5_vl"`` or ``"qwen3_vl"``.
        texts: Texts whose words, with and without a leading space, become single tokens; signs beyond ASCII become one
            token each.

    Returns:
        A ``Qwen2_5_VLProcessor`` or ``Qwen3VLProcessor``. A picture of 56 x 56 pixels is resized to 2 x 2 tokens.

    Raises:
        ValueError: The family is another word.

    Example:
        >>> processor = tiny_processor(texts=["a red circle"])
        >>> processor.tokenizer.tokenize("a red circle, B")
        ['a', 'Ġred', 'Ġcircle', ',', 'ĠB']
    """
    _check(family)
    hf = _host()

    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(texts),
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=[*_SPECIAL],
        clean_up_tokenization_spaces=False,
    )
    patch = _PATCH[family]
    side = 4 * patch
    size = {"patch_size": patch, "merge_size": 2, "temporal_patch_size": 2}
    image = hf.Qwen2VLImageProcessor(**size, size={"shortest_edge": side**2, "longest_edge": side**2})
    if family == "qwen2_5_vl":
        return hf.Qwen2_5_VLProcessor(image, tokenizer, hf.Qwen2VLVideoProcessor(**size), chat_template=_CHAT)
    return hf.Qwen3VLProcessor(image, tokenizer, hf.Qwen3VLVideoProcessor(**size), chat_template=_CHAT)


def tiny_model(
    processor: Any,
    *,
    seed: int = 0,
    hidden: int = 64,
    layers: int = 2,
    context: int = 2048,
) -> Any:
    """Build a model for `tiny_processor` with random weights in float32.

    Args:
        processor: What `tiny_processor` returned; it decides the family and the vocabulary.
        seed: Seed of the weights. torch's global generator is left as it was.
        hidden: Width, a multiple of 32; 4 heads, 2 of keys and values.
        layers: Layers of the language model, at least 1. The vision tower has two.
        context: Longest sequence, in tokens.

    Returns:
        A ``Qwen2_5_VLForConditionalGeneration`` or ``Qwen3VLForConditionalGeneration`` in evaluation mode.

    Raises:
        ValueError: The width is no multiple of 32.

    Example:
        >>> processor = tiny_processor()
        >>> model = tiny_model(processor)
        >>> type(model).__name__, sum(one.numel() for one in model.parameters()) < 400_000
        ('Qwen2_5_VLForConditionalGeneration', True)
    """
    if hidden < 32 or hidden % 32:
        raise ValueError(f"hidden is {hidden}; expected a multiple of 32, so that 4 heads have whole rotary sections")
    hf = _host()
    import torch

    family: Family = "qwen3_vl" if type(processor).__name__.startswith("Qwen3") else "qwen2_5_vl"
    ids = processor.tokenizer.convert_tokens_to_ids
    head = hidden // 4
    rotary = {"mrope_section": [head // 2 - 2 * (head // 8), head // 8, head // 8], "rope_theta": 10_000.0}
    text: dict[str, Any] = {
        "vocab_size": len(processor.tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "bos_token_id": None,
        "eos_token_id": ids("<|im_end|>"),
        "pad_token_id": ids("<|endoftext|>"),
    }
    vision: dict[str, Any] = {
        "depth": 2,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_heads": 4,
        "patch_size": _PATCH[family],
        "out_hidden_size": hidden,
    }
    if family == "qwen3_vl":
        text |= {"head_dim": head, "rope_parameters": {"rope_type": "default", "mrope_interleaved": True, **rotary}}
        vision |= {"deepstack_visual_indexes": [0], "num_position_embeddings": 16}
    else:
        text["rope_parameters"] = {"rope_type": "default", **rotary}
        vision |= {"fullatt_block_indexes": [1], "window_size": 4 * _PATCH[family]}
    config = hf.AutoConfig.for_model(
        family,
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        **{f"{name}_token_id": ids(f"<|{name}_pad|>") for name in ("image", "video")},
        **{f"vision_{end}_token_id": ids(f"<|vision_{end}|>") for end in ("start", "end")},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = hf.AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    model.generation_config.eos_token_id = text["eos_token_id"]
    model.generation_config.pad_token_id = text["pad_token_id"]
    return model.eval()


def save_tiny(
    folder: str | os.PathLike[str],
    family: Family = "qwen2_5_vl",
    *,
    texts: Iterable[str] = (),
    seed: int = 0,
    hidden: int = 64,
    layers: int = 2,
    context: int = 2048,
) -> Path:
    """Build a processor and a model and save both, as ``from_pretrained`` reads them.

    Args:
        folder: Where to; made when missing.
        family: As in `tiny_processor`.
        texts: As in `tiny_processor`.
        seed: As in `tiny_model`.
        hidden: As in `tiny_model`.
        layers: As in `tiny_model`.
        context: As in `tiny_model`.

    Returns:
        The folder: what ``--model`` and `HFBackend.from_pretrained` take.
    """
    processor = tiny_processor(family, texts=texts)
    model = tiny_model(processor, seed=seed, hidden=hidden, layers=layers, context=context)
    from .hf._load import quiet

    with quiet():
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return Path(folder)


def _host() -> Any:
    with needs("sail-clot", "hf"):
        import torch  # noqa: F401
        import transformers
    return transformers


def _check(family: str) -> None:
    if family not in _PATCH:
        raise ValueError(f"family is {family!r}; expected one of {', '.join(_PATCH)}")


def _tokenizer(texts: Iterable[str]) -> Any:
    """Byte-level BPE that looks words up whole; its only merges join the bytes of signs beyond ASCII."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokens = dict.fromkeys([*_SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())])
    words = dict.fromkeys([*string.ascii_letters, "user", "assistant"])
    merges: dict[tuple[str, str], None] = {}
    for text in texts:
        found = (word.removeprefix("Ġ") for word, _ in split.pre_tokenize_str(text))
        words.update((word, None) for word in found if word.isascii())
        for sign in [sign for sign in text if not sign.isascii()]:
            ((spelt, _),) = spell.pre_tokenize_str(sign)  # its first byte says how many follow: no merge crosses signs
            for end in range(2, len(spelt) + 1):
                merges[spelt[: end - 1], spelt[end - 1]] = None
                tokens[spelt[:end]] = None
    for word, space in itertools.product(words, ("", "Ġ")):
        tokens[space + word] = None
    model = models.BPE({token: at for at, token in enumerate(tokens)}, [*merges], ignore_merges=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
