"""Training: it learns, resumes with the same bits, keeps the best epoch, and says what it cannot do."""

import math
import random

import numpy as np
import pytest
import torch
from cem_mhch import CEM, CEMConfig, Dialogue, FitConfig, HandoffModel, Turn, choose_threshold, evaluate, fit, predict
from cem_mhch._evaluate import macro_f1
from cem_mhch._fit import learning_rate
from sail_core.runs import seed_everything

VOCAB = 30
COMPLAINT, REPEAT = 5, 6


def dialogues(count, seed, *, labels=True):
    """A complaint calls for a handoff where it stands; two repeats in a row do as well, at the second."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        turns, before = [], None
        for at in range(rng.randint(2, 9)):
            kind = rng.choice([None, None, None, COMPLAINT, REPEAT])
            role = "user" if at % 2 == 0 else "bot"
            handoff = int(kind == COMPLAINT or kind == before == REPEAT)
            before = kind
            tokens = [rng.randint(10, VOCAB - 1) for _ in range(rng.randint(1, 5))] + [kind] * (kind is not None)
            turns.append(
                Turn(
                    role=role,
                    tokens=tuple(tokens),
                    handoff=handoff if labels else None,
                    sentiment=0 if kind == COMPLAINT else 1,
                )
            )
        unhappy = any(turn.sentiment == 0 for turn in turns if turn.role == "user")
        found.append(Dialogue(id=f"d{number}", turns=tuple(turns), satisfaction=0 if unhappy else 2))
    return found


def build(seed=0, **options):
    seed_everything(seed)
    host = HandoffModel.build("hgru", vocab_size=VOCAB, embedding_size=16, size=16, dropout=0.1, token_dropout=0.05)
    return CEM(host, CEMConfig(**options))


CONFIG = FitConfig(epochs=12, learning_rate=0.01, seed=3)


@pytest.fixture(scope="module")
def trained():
    model = build()
    return model, fit(model, dialogues(120, 0), config=CONFIG)


def test_it_learns(trained):
    model, result = trained
    assert result.losses[-1] < result.losses[0] / 2
    test = dialogues(100, 1)
    report = evaluate(model, test)
    assert report["macro_f1"] > 0.9
    majority = max(sum(one.satisfaction == value for one in test) for value in (0, 2)) / len(test)
    assert report["satisfaction_accuracy"] > majority + 0.05
    assert model.stage == 2
    assert not model.training
    assert result.steps == 12 * 8
    assert (result.best_epoch, result.validation_macro_f1) == (12, None)


def test_the_same_seed_gives_the_same_weights(trained):
    model = build()
    assert fit(model, dialogues(120, 0), config=CONFIG).weights == trained[1].weights


def test_a_stopped_training_goes_on_to_the_same_weights(trained, tmp_path, monkeypatch):
    class Stopped(Exception):
        pass

    from cem_mhch import _fit

    original, saves = _fit.save_state, []

    def stopping(*arguments, **options):
        original(*arguments, **options)
        saves.append(options["step"])
        if saves[-1] in (4, 8):  # once in each stage
            raise Stopped

    monkeypatch.setattr(_fit, "save_state", stopping)
    for _ in range(2):
        with pytest.raises(Stopped):
            fit(build(), dialogues(120, 0), config=CONFIG, directory=tmp_path)
        torch.rand(7)
    result = fit(build(), dialogues(120, 0), config=CONFIG, directory=tmp_path)
    assert saves == list(range(1, 13))
    assert result == trained[1]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 12
    again = build(seed=9)
    assert fit(again, dialogues(120, 0), config=CONFIG, directory=tmp_path) == trained[1]  # finished: only read


def test_another_configuration_in_the_directory_is_refused(tmp_path):
    fit(build(), dialogues(8, 0), config=FitConfig(epochs=1), directory=tmp_path)
    with pytest.raises(ValueError, match="epochs"):
        fit(build(), dialogues(8, 0), config=FitConfig(epochs=2), directory=tmp_path)
    with pytest.raises(ValueError, match="beta"):
        fit(build(beta=0.0), dialogues(8, 0), config=FitConfig(epochs=1), directory=tmp_path)


def test_the_best_epoch_on_validation_dialogues_is_kept(tmp_path):
    model, val = build(), dialogues(30, 2)
    result = fit(model, dialogues(40, 0), val, config=FitConfig(epochs=6, learning_rate=0.02), directory=tmp_path)
    import json

    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    scores = [row["validation_macro_f1"] for row in rows]
    assert result.validation_macro_f1 == max(scores)
    assert result.best_epoch == 1 + scores.index(max(scores))
    found = predict(model, val)
    assert macro_f1(found.labels, found.scores) == max(scores)
    assert {"loss", "handoff", "sentiment", "satisfaction", "cost", "beta"} <= rows[0].keys()


def test_dialogues_without_handoff_labels_help_to_train():
    model = build()
    result = fit(model, dialogues(10, 0) + dialogues(10, 1, labels=False), config=FitConfig(epochs=1))
    assert math.isfinite(result.losses[0])


def test_a_larger_cost_weight_hands_over_less():
    means = []
    for weight in (0.0, 3.0):
        model = build(cost_weight=weight)
        fit(model, dialogues(60, 0), config=FitConfig(epochs=8, learning_rate=0.01, stage_one=0.5))
        means.append(np.concatenate(predict(model, dialogues(40, 1)).scores).mean())
    assert means[1] < means[0] - 0.05


def test_predictions_are_in_the_order_of_the_dialogues(trained):
    model, some = trained[0], dialogues(20, 4)
    together, alone = predict(model, some, batch_size=7), [predict(model, [one]) for one in some]
    for index, one in enumerate(alone):
        np.testing.assert_allclose(together.scores[index], one.scores[0], atol=1e-6)
        np.testing.assert_allclose(together.satisfaction[index], one.satisfaction[0], atol=1e-6)
        assert len(together.scores[index]) == len(some[index].turns)
    short = predict(model, some, max_turns=2)
    assert {len(one) for one in short.scores} == {2}
    np.testing.assert_allclose(short.scores[3], together.scores[3][:2], atol=1e-6)


def test_macro_f1_is_scikit_learns():
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    for _ in range(20):
        labels, scores = rng.integers(0, 2, 30), rng.random(30)
        expected = f1_score(labels, scores >= 0.3, average="macro")
        assert macro_f1([labels[:7], labels[7:]], [scores[:7], scores[7:]], threshold=0.3) == pytest.approx(expected)


def test_the_chosen_threshold_is_the_best_of_its_grid(trained):
    model, val = trained[0], dialogues(40, 5)
    best = choose_threshold(model, val)
    found = predict(model, val)
    scores = {
        round(0.05 * k, 2): macro_f1(found.labels, found.scores, threshold=round(0.05 * k, 2)) for k in range(1, 20)
    }
    assert scores[best] == max(scores.values())


def test_what_cannot_be_trained_or_evaluated(trained):
    with pytest.raises(ValueError, match="no dialogue"):
        fit(build(), [])
    with pytest.raises(ValueError, match="no dialogue"):
        predict(trained[0], [])
    with pytest.raises(ValueError, match="'d0', turn 0: it has no handoff label"):
        evaluate(trained[0], dialogues(3, 0, labels=False))
    bare = Dialogue(id="x", turns=(Turn(role="user", tokens=(12,)),))
    with pytest.raises(ValueError, match="no label at all"):
        fit(build(), [bare])
    broken = build()
    torch.nn.init.constant_(broken.host.role, float("nan"))
    with pytest.raises(ValueError, match="the loss became nan"):
        fit(broken, dialogues(4, 0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"stage_one": 1.5}, "stage_one 1.5"),
        ({"warmup": 1.0}, "warmup 1.0"),
    ],
)
def test_a_training_out_of_range(options, words):
    with pytest.raises(ValueError, match=words):
        FitConfig(**options)


def test_the_learning_rate_rises_and_falls():
    rates = [learning_rate(CONFIG, step, 100) for step in range(100)]
    assert rates.index(max(rates)) in (9, 10)
    assert max(rates) == pytest.approx(CONFIG.learning_rate)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-3 * CONFIG.learning_rate
