"""Tiny random models of the real classes, saved to folders; the tokenizers have a fixed vocabulary."""

import string

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel, PreTrainedTokenizerFast, T5Config, T5Model

LETTERS = ["<pad>", "<s>", "</s>", "<unk>", *string.ascii_lowercase, *string.digits, *string.punctuation]


def letters(*, eos=True, pad="<pad>", length=64):
    """A tokenizer of letters; </s> ends every text where ``eos`` says so."""
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(LETTERS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", behavior="isolated")]
    )
    single = "<s> $A </s>" if eos else "<s> $A"
    backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<s>", 1), ("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token=pad,
        model_max_length=length,
    )


def llama(folder, *, eos=True, pad=None, seed=0):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(LETTERS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    model = LlamaModel(config).eval()
    with torch.no_grad():
        model.norm.weight.uniform_(0.5, 2)  # so that the final norm is no mere scaling
    model.save_pretrained(folder)
    letters(eos=eos, pad=pad).save_pretrained(folder)
    return model


def bert(folder):
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=len(LETTERS),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
        )
    ).eval()
    model.save_pretrained(folder)
    letters().save_pretrained(folder)
    return model


def t5(folder):
    torch.manual_seed(0)
    model = T5Model(T5Config(vocab_size=len(LETTERS), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)).eval()
    model.save_pretrained(folder)
    letters().save_pretrained(folder)
    return model


def blip(folder):
    from transformers import (
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
        BlipTextConfig,
        BlipVisionConfig,
    )

    torch.manual_seed(0)
    text = BlipTextConfig(
        vocab_size=len(LETTERS),
        hidden_size=16,
        encoder_hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        sep_token_id=2,
        pad_token_id=0,
    )
    vision = BlipVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
    )
    model = BlipForConditionalGeneration(BlipConfig(text_config=text.to_dict(), vision_config=vision.to_dict())).eval()
    model.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    BlipProcessor(BlipImageProcessor(size=size), letters()).save_pretrained(folder)
