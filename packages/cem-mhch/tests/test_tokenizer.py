"""A transformers tokeniser as the vocabulary of an hf host: from a folder, through training, to a scorer."""

import json

import pytest
import torch
from cem_mhch import StreamingScorer, predict, simulate
from cem_mhch.data import save_jsonl

transformers = pytest.importorskip("transformers")
from cem_mhch._folder import load_folder  # noqa: E402
from cem_mhch.cli import main  # noqa: E402
from cem_mhch.integrations.tokenizer import TransformersTokenizer  # noqa: E402

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "my", "order", "refund", "human", "account", "useless"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny BERT with its tokeniser."""
    path = tmp_path_factory.mktemp("bert")
    (path / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast(vocab=str(path / "vocab.txt")).save_pretrained(path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(**sizes, vocab_size=len(WORDS), max_position_embeddings=140)
    transformers.BertModel(config).save_pretrained(path)
    return path


def test_ids_are_the_tokenisers_plus_one(folder):
    found = TransformersTokenizer(str(folder))
    assert found.encode("hello my unheard") == [
        1 + WORDS.index(word) for word in ("[CLS]", "hello", "my", "[UNK]", "[SEP]")
    ]
    assert found.encode("") == [1 + WORDS.index(word) for word in ("[CLS]", "[SEP]")]
    assert len(found.encode("hello " * 500)) == 128
    assert len(found) == len(WORDS) + 1
    with pytest.raises(ValueError, match="no transformers tokeniser at"):
        TransformersTokenizer(str(folder / "nothing"))


def test_an_hf_host_is_trained_saved_and_streamed(folder, tmp_path, capsys):
    made = simulate(8, seed=1).dialogues
    save_jsonl(made, tmp_path / "some.jsonl")
    command = ["train", "--data", str(tmp_path / "some.jsonl"), "--host", f"hf:{folder}", "--epochs", "1"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0, capsys.readouterr().err
    model, vocab = load_folder(tmp_path / "run/model")
    assert isinstance(vocab, TransformersTokenizer)
    found = predict(model, made[:2], vocab=vocab)
    scorer = StreamingScorer(model, vocab=vocab)
    for one, scores in zip(made, found.scores, strict=False):
        scorer.reset()
        pushed = [scorer.push(turn.role, turn.text).prob for turn in one.turns]
        assert pushed == pytest.approx(scores.tolist(), abs=1e-5)
    described = json.loads((tmp_path / "run/model/config.json").read_text())
    assert described["host"]["name"] == f"hf:{folder}"
