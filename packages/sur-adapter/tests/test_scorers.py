"""Scorers: CLIP against its own forward pass, a real vision-language pipeline, answers of every kind, classifiers."""

import pytest
import tiny_pipelines as tiny
import torch
from PIL import Image
from sur_adapter import Item, compare
from sur_adapter.integrations.scorers import Clip, ClipChoice, ClipScore, YesNo
from sur_adapter.scorers import Classifier
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
)

ITEMS = [
    Item("a", "a red cat", (("Is it red?", "yes"), ("Is it blue?", "no")), ("a red cat", "a blue cat"), 0),
    Item("b", "two blue cats and a dog", (("Is it red?", "no"),), ("a cat", "two cats", "a dog"), 1, 2),
]
PICTURES = [Image.new("RGB", (40, 30), "red"), Image.new("L", (24, 24), 200)]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokens = {"vocab_size": 613, "max_position_embeddings": 77, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = CLIPConfig(
        text_config=sizes | tokens, vision_config=sizes | {"image_size": 16, "patch_size": 8}, projection_dim=12
    )
    CLIPModel(config).save_pretrained(folder)
    tiny.clip_tokenizer().save_pretrained(folder)
    edge = {"height": 16, "width": 16}
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=edge).save_pretrained(folder)
    return folder


def test_clip_score_is_the_cosine_of_one_picture_and_its_prompt(clip_folder):
    clip = Clip(clip_folder, batch_size=2)
    scores = ClipScore(clip)(PICTURES, ITEMS)
    for picture, item, score in zip(PICTURES, ITEMS, scores, strict=True):
        ids = clip.tokenizer([item.prompt], return_tensors="pt")["input_ids"]
        pixels = clip.processor([picture.convert("RGB")], return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            out = clip.model(input_ids=ids, pixel_values=pixels)
        cosine = torch.cosine_similarity(out.image_embeds, out.text_embeds).item()
        assert score == pytest.approx(max(0, 100 * cosine), abs=1e-3)


def test_clip_choice_takes_the_best_caption(clip_folder):
    clip = Clip(clip_folder, batch_size=1)
    cosines = clip.cosines(PICTURES, [item.options for item in ITEMS])
    assert [len(one) for one in cosines] == [2, 3]
    best = [int(one.argmax()) for one in cosines]
    choice = ClipChoice(clip)
    right = [Item(item.id, item.prompt, (), item.options, at) for item, at in zip(ITEMS, best, strict=True)]
    wrong = [Item(i.id, i.prompt, (), i.options, (at + 1) % 2) for i, at in zip(ITEMS, best, strict=True)]
    assert choice(PICTURES, right) == [1.0, 1.0]
    assert choice(PICTURES, wrong)[0] == 0.0
    with pytest.raises(ValueError, match='item c has no "options"'):
        choice(PICTURES[:1], [Item("c", "x")])


def test_long_prompts_are_cut_to_what_clip_reads(clip_folder):
    (score,) = ClipScore(Clip(clip_folder))(PICTURES[:1], [Item("long", "cat " * 200)])
    assert 0 <= score <= 100


def test_models_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no CLIP model"):
        Clip(tmp_path)
    with pytest.raises(FileNotFoundError, match="no model in"):
        YesNo(tmp_path / "none")
    with pytest.raises(ValueError, match="lacks"):
        YesNo(lambda **_: [], template="Well?")


class Says:
    def __init__(self, answers, *, echo=False, nested=False):
        self.answers, self.echo, self.nested, self.asked = iter(answers), echo, nested, []

    def __call__(self, *, images, text, generate_kwargs):
        assert images[0].mode == "RGB"
        self.asked += text
        said = (text[0] + " " if self.echo else "") + next(self.answers)
        return [[{"generated_text": said}]] if self.nested else [{"generated_text": said}]


@pytest.mark.parametrize(
    ("answers", "scores"),
    [
        (["yes", "no", "no"], [1.0, 1.0]),
        (["Yes.", " NO!", "No, it is not"], [1.0, 1.0]),
        (["yes", "yes", "yes"], [0.0, 0.0]),  # always yes is not right
        (["a red cat", "no", "nothing"], [0.0, 0.0]),
        (["yes", "", "no"], [0.0, 1.0]),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("echo", [False, True])
def test_answers_of_every_kind(answers, scores, nested, echo):
    answers = [*answers, "no", "no"]  # a wrong first answer ends an item early
    model = Says(answers, echo=echo, nested=nested)
    found = YesNo(model)(PICTURES[:1], ITEMS[:1])
    assert found == scores[:1]
    assert "Is it red?" in model.asked[0]
    if scores[0]:
        assert YesNo(Says(answers[2:], echo=echo, nested=nested))(PICTURES[1:], ITEMS[1:]) == scores[1:]
    with pytest.raises(ValueError, match='item c has no "questions"'):
        YesNo(model)(PICTURES[:1], [Item("c", "x")])


def test_a_real_vision_language_pipeline(tmp_path):
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "yes", "no", "is", "it", "red", "question", "answer", "?"]
    (tmp_path / "vocab.txt").write_text("\n".join([*words, ":", ".", "or"]))
    tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"vocab_size": len(tokenizer), "bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    text = sizes | ids | {"encoder_hidden_size": 16, "projection_dim": 16}
    config = BlipConfig(text_config=text, vision_config=sizes | {"image_size": 16, "patch_size": 8})
    model = BlipForConditionalGeneration(config)
    with torch.no_grad():  # it says "yes" whatever it sees
        model.text_decoder.cls.predictions.bias[5] = 100.0
    model.save_pretrained(tmp_path)
    processor = BlipImageProcessor(size={"height": 16, "width": 16})
    BlipProcessor(processor, tokenizer).save_pretrained(tmp_path)
    scorer = YesNo(tmp_path)
    assert scorer.ask(PICTURES[0], "is it red ?") == "yes"
    assert scorer(PICTURES, ITEMS) == [0.0, 0.0]


def test_a_classifier_of_ones_own():
    scorer = Classifier(lambda images: [2] * len(images), lambda item: item.count)
    assert scorer(PICTURES, ITEMS) == [0.0, 1.0]
    with pytest.raises(ValueError, match="labels"):
        Classifier(lambda images: [], lambda item: 0)(PICTURES, ITEMS)


def brightness(images, items):
    return [float(image.convert("L").resize((1, 1)).getpixel((0, 0)) > 128) for image in images]


brightness.name = "bright"


def test_compare_pairs_prompts_and_seeds():
    dark, bright = (Image.new("RGB", (4, 4), colour) for colour in ("black", "white"))
    found = compare(ITEMS, [[dark, dark], [dark, bright]], [[bright, dark], [bright, bright]], [brightness])
    assert found.scores["bright"]["base"].tolist() == [[0, 0], [0, 1]]
    one = found.paired["bright"]
    assert (one.base, one.adapter, one.gained, one.lost) == (0.25, 0.75, 2, 0)
    assert found.as_metrics()["bright"]["difference"] == 0.5


def test_compare_refuses_what_is_no_pair():
    picture = Image.new("RGB", (4, 4))
    with pytest.raises(ValueError, match="adapter needs 1"):
        compare(ITEMS, [[picture]] * 2, [[picture], []], [brightness])
    with pytest.raises(ValueError, match="base needs"):
        compare(ITEMS, [[picture]], [[picture]] * 2, [brightness])
    with pytest.raises(ValueError, match="name of its own"):
        compare(ITEMS, [[picture]] * 2, [[picture]] * 2, [brightness, brightness])
    short = Classifier(lambda images: [1] * len(images), lambda item: 1)
    short.__class__ = type("Short", (), {"name": "short", "__call__": lambda *_: [1.0]})
    with pytest.raises(ValueError, match="gave 1 scores"):
        compare(ITEMS, [[picture]] * 2, [[picture]] * 2, [short])
