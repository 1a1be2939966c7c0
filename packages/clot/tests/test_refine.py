"""Self-refinement without a model: what is kept, why not, once only, and with what it trains."""

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from clot import ConditionSampler, NounSet, Templates
from clot._discrimination import NotAboveChance
from clot._gates import Gates
from clot._ledger import read_ledger
from clot._refine import self_refine
from clot._stages import Sampling
from oogiri_go import Record, fold, read_jsonl

sys.path.insert(0, str(Path(__file__).parent))
from joker import NOUNS, Joker, judge, records, write

DATA = records(20)
HELD = records(12, first=100)
SET = NounSet.from_words(NOUNS, "en")


def refine(out, backend=None, data=DATA, **options):
    options = {"held_out": HELD, "batch": 6} | options
    return self_refine(backend or Joker(), data, SET, out=out, **options)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("refined")
    return refine(out)


def stages_of(out):
    found = defaultdict(list)
    for line in read_ledger(out / "ledger.jsonl"):
        if "record" in line:
            found[line["round"], line["record"], line["candidate"]].append(line)
    return found


def test_every_candidate_has_one_end(done):
    found = stages_of(done.out)
    assert len(found) == 20 * 5
    assert {lines[-1]["state"] for lines in found.values()} == {"kept", "dropped"}
    assert all(len({line["state"] for line in lines}) == len(lines) for lines in found.values())
    assert len({line["config"] for lines in found.values() for line in lines}) == 1


def test_what_is_kept_beat_the_ground_truth(done):
    kept = list(read_jsonl(done.rounds[0].kept))
    prompts = Counter(one.question for one in kept)
    assert 3 < len(kept) < 20
    assert set(prompts.values()) == {1}  # one of a prompt at most
    best = {one.question: one.text for one in DATA if one.star == 3}
    for one in kept:
        about = one.extra["refined"]
        assert score(one.text) > score(best[one.question])
        assert about["margin"] > 0
        assert about["condition"] is None or about["condition"] in one.text
        assert one.star is None
        assert one.source == "self-refinement"
    unkept = {one.question for one in DATA} - set(prompts)
    ends = stages_of(done.out)
    by_id = {one.id: one for one in DATA}
    for (_, record, _), lines in ends.items():
        chosen_pair = [line for line in lines if line["state"] == "selected"]
        if by_id[record].question in unkept and chosen_pair:
            assert lines[-1]["reason"] == "the ground truth was preferred"
            assert score(best[by_id[record].question]) > score(text_of(lines))


def score(text):
    from clot._draw import draw

    return draw("joke", text)


def text_of(lines):
    return next(line["text"] for line in lines if line["state"] == "generated")


def test_ranks_follow_the_scores(done):
    groups = defaultdict(list)
    for (_, record, _), lines in stages_of(done.out).items():
        if ranked := [line for line in lines if line["state"] == "ranked"]:
            groups[record].append((ranked[0]["rank"], text_of(lines)))
    for group in groups.values():
        group.sort()
        assert [rank for rank, _ in group] == list(range(1, len(group) + 1))
        scores = [score(text) for _, text in group]
        assert scores == sorted(scores, reverse=True)


def test_conditions_are_those_of_the_sampler_and_rho_is_their_share(done):
    sampler = ConditionSampler(SET, rho=0.5, seed=0)
    planned = {key: lines[0]["condition"] for key, lines in stages_of(done.out).items()}
    question = {one.id: [one.question] for one in DATA}
    for (number, record, index), condition in planned.items():
        assert condition == sampler.draw("en", number, record, index, avoid=question[record])
    assert 0.3 < sum(one is None for one in planned.values()) / len(planned) < 0.7


def test_the_summary_adds_up(done):
    summary = json.loads((done.out / "round-1" / "summary.json").read_text())
    steps = summary["steps"]
    assert list(steps.values()) == sorted(steps.values(), reverse=True)
    assert steps["planned"] == 100
    assert steps["kept"] == len(list(read_jsonl(done.rounds[0].kept)))
    assert steps["kept"] + sum(summary["dropped"].values()) == 100
    assert summary["conditions used"] == summary["conditions asked"] > 20
    assert summary["discrimination"]["accuracy"] == 1.0


def test_again_asks_nothing_and_changes_nothing(done):
    before = {path: path.read_bytes() for path in done.out.rglob("*") if path.is_file()}
    backend = Joker()
    again = refine(done.out, backend)
    assert backend.asked == []
    assert again.rounds == done.rounds
    assert {path: path.read_bytes() for path in done.out.rglob("*") if path.is_file()} == before


class Stopped(Exception):
    pass


class Mortal(Joker):
    """Fails at the given call."""

    def __init__(self, calls):
        super().__init__()
        self.left = calls

    def generate(self, requests):
        self.count()
        return super().generate(requests)

    def option_logprobs(self, requests):
        self.count()
        return super().option_logprobs(requests)

    def count(self):
        self.left -= 1
        if self.left < 0:
            raise Stopped


@pytest.mark.parametrize("calls", range(0, 14))
def test_a_failure_at_any_call_costs_that_call_only(done, tmp_path, calls):
    first = Mortal(calls)
    try:
        refine(tmp_path / "run", first)
    except Stopped:
        second = Joker()
        refine(tmp_path / "run", second)
        once = {one for one in first.asked if one.startswith("round")}
        assert not once & set(second.asked)
    assert (tmp_path / "run" / "ledger.jsonl").read_bytes() == (done.out / "ledger.jsonl").read_bytes()
    assert (tmp_path / "run" / "round-1" / "kept.jsonl").read_bytes() == done.rounds[0].kept.read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1}, {"n": 4}, {"rho": 0.4}, {"gates": Gates(max_chars=150)}, {"scorer": "content"}, {"batch": 7},
        {"sampling": Sampling(top_p=0.9)}, {"data": DATA[:-4]}, {"held_out": HELD[:-4]}, {"restart": "base"},
        {"backend": Joker("another")},
    ],
)  # fmt: skip
def test_drift_is_refused(done, change):
    before = (done.out / "ledger.jsonl").read_bytes()
    with pytest.raises(ValueError, match="--force-new"):
        refine(done.out, **change)
    assert (done.out / "ledger.jsonl").read_bytes() == before
    assert json.loads((done.out / "config.json").read_text())["n"] == 5  # nor is the record of it overwritten


def test_drift_forced_starts_anew_and_keeps_the_old(done, tmp_path):
    refine(tmp_path)
    old = (tmp_path / "ledger.jsonl").read_bytes()
    refine(tmp_path, seed=1, force=True)
    assert (tmp_path / "old-1" / "ledger.jsonl").read_bytes() == old
    assert (tmp_path / "old-1" / "round-1" / "kept.jsonl").exists()
    assert (tmp_path / "ledger.jsonl").read_bytes() != old
    with pytest.raises(ValueError, match="resume=True"):
        refine(tmp_path, seed=1, resume=False)


def test_a_model_at_chance_is_refused(tmp_path):
    blind = Joker(logprob=lambda prompt, letter: judge(prompt, letter) % 1)
    with pytest.raises(NotAboveChance, match="round 1: of 12 held-out questions"):
        refine(tmp_path, blind)
    assert len(list(read_ledger(tmp_path / "ledger.jsonl"))) == 0  # nothing was planned
    said = len(blind.asked)
    with pytest.raises(NotAboveChance):
        refine(tmp_path, blind)
    assert len(blind.asked) == said  # it was measured once
    assert refine(tmp_path / "forced", blind, min_discrimination=0.0).rounds[0].summary["steps"]["planned"] == 100


def test_a_tenth_is_held_out_by_default(tmp_path):
    seen = {}

    def spy(prompt, letter):
        if "thing" in prompt.text:
            seen.setdefault(prompt.text, None)
        return judge(prompt, letter)

    refine(tmp_path, Joker(logprob=spy), data=records(150), held_out=None, n=2)
    inputs = {line["record"] for line in read_ledger(tmp_path / "ledger.jsonl") if "record" in line}
    questions = {one.id: one.question for one in records(150)}
    held = json.loads((tmp_path / "round-1" / "discrimination.json").read_text())["questions"]
    assert held + len(inputs) == 150
    assert 5 <= held <= 30
    assert len({questions[one] for one in inputs}) == len(inputs)


def test_limit_takes_some_prompts_by_hash(tmp_path):
    refine(tmp_path, limit=7)
    some = {line["record"] for line in read_ledger(tmp_path / "ledger.jsonl") if "record" in line}
    assert len(some) == 7


def test_gates_drop_and_say_why(tmp_path):
    def answer(request, at):
        kind = request.seed % 6
        truth = next(one.text for one in DATA if one.question in request.prompt.text)
        return ("", "x" * 300, "猫が遅れた", truth, "no no no no no no", write(request, at))[kind]

    summary = refine(tmp_path, Joker(answer=answer)).rounds[0].summary
    expected = {"it is too short", "it is too long", "it is in another language", "it repeats itself"}
    assert expected | {"it repeats a known answer"} <= summary["dropped"].keys()
    kept = list(read_jsonl(tmp_path / "round-1" / "kept.jsonl"))
    assert all("thing" in one.text for one in kept)


def test_the_same_answer_is_kept_for_few_prompts_even_within_a_batch(tmp_path):
    best = max((f"joke number {at}" for at in range(400)), key=score)

    def choose(prompt, letter):
        option = judge(prompt, letter)
        return 5.0 if f"{letter}. {best}" in prompt.text else option

    for batch in (1, 6, 20):
        backend = Joker(answer=lambda request, at: best, logprob=choose)
        summary = refine(tmp_path / str(batch), backend, batch=batch, gates=Gates(repeats=3)).rounds[0].summary
        assert summary["steps"]["kept"] == 3
        assert summary["dropped"]["it was kept for other prompts already"] == 17
        assert summary["dropped"]["it repeats a candidate"] == 80


def test_a_condition_that_is_not_used(tmp_path):
    def forgetful(request, at):
        return write(request, at).replace("umbrella", "nothing")

    summary = refine(tmp_path, Joker(answer=forgetful), gates=Gates(condition=True)).rounds[0].summary
    assert summary["dropped"]["it lacks its condition"] > 0
    assert summary["conditions used"] < summary["conditions asked"]
    assert summary["dropped"]["it lacks its condition"] == summary["conditions asked"] - summary["conditions used"]


def test_margins(tmp_path):
    loose = refine(tmp_path / "loose").rounds[0].summary
    strict = refine(tmp_path / "strict", gates=Gates(margin=0.05)).rounds[0].summary
    assert strict["steps"]["kept"] + strict["dropped"]["its margin is too small"] == loose["steps"]["kept"]
    kept = list(read_jsonl(tmp_path / "strict" / "round-1" / "kept.jsonl"))
    assert all(one.extra["refined"]["margin"] >= 0.05 for one in kept)


def test_a_picture_that_does_not_load_costs_its_record_only(tmp_path, png):
    rows = [Record(f"i{at}", "I2T", None, f"pic{at}", f"A line for picture {at}", at, "en") for at in range(4)]
    pictures = {"pic0": png, "pic1": png[:60], "pic3": png}
    backend = Joker(answer=lambda request, _: f"One of {request.seed} jokes", logprob=lambda prompt, letter: -1.0)
    done = refine(tmp_path, backend, data=rows, pictures=pictures, min_discrimination=0.0)
    ends = {record: lines[-1] for (_, record, _), lines in stages_of(done.out).items()}
    assert "does not load" in ends["i1"]["reason"]
    assert ends["i2"]["reason"] == "its picture 'pic2' is missing"
    assert done.rounds[0].summary["steps"]["generated"] == 10
    assert done.rounds[0].summary["dropped"]["its picture"] == 10


@pytest.fixture
def png():
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (40, 40), "red").save(file, "PNG")
    return file.getvalue()


class Refusal(ValueError):
    def __init__(self, record_id):
        super().__init__(f"record {record_id}: the prompt is longer than the context")
        self.record_id = record_id


@pytest.mark.parametrize("stage", ["candidate 2", "rank", "select"])
def test_a_record_that_the_model_cannot_take_is_left_out_alone(done, tmp_path, stage):
    unlucky = next(one.id for one in DATA if one.question == "Why is thing7 late?" and one.star == 3)

    class Picky(Joker):
        def refuse(self, requests):
            for one in requests:
                if unlucky in one.id and stage in one.id:
                    raise Refusal(one.id)

        def generate(self, requests):
            self.refuse(requests)
            return super().generate(requests)

        def option_logprobs(self, requests):
            self.refuse(requests)
            return super().option_logprobs(requests)

    refine(tmp_path, Picky())
    mine, whole = stages_of(tmp_path), stages_of(done.out)
    assert {key for key in mine if mine[key] != whole[key]} <= {key for key in mine if key[1] == unlucky}
    assert any("cannot take it" in mine[key][-1].get("reason", "") for key in mine if key[1] == unlucky)


def test_an_error_that_names_no_record_stops(tmp_path):
    def broken(request, _):
        raise ValueError("what?")

    with pytest.raises(ValueError, match="what"):
        refine(tmp_path, Joker(answer=broken))


def test_rounds_train_on_the_mixture(tmp_path):
    calls = []

    def retrain(round, records, *, restart, out):
        calls.append((round, [one.text for one in records], restart, out))
        return Joker(f"joker {round}")

    done = refine(tmp_path, rounds=2, retrain=retrain, restart="base", gates=Gates(share=0.1))
    assert [call[0] for call in calls] == [1, 2]
    assert done.backend.digest == "joker 2"
    kept = [one.text for one in read_jsonl(done.rounds[0].kept)]
    old = {one.text for one in DATA}
    for round, texts, restart, out in calls:
        new = [text for text in texts if text not in old]
        assert len(texts) - len(new) == len(DATA)
        assert 0 < len(new) / len(texts) <= 0.1
        assert restart == "base"
        assert out == tmp_path / f"round-{round}" / "model"
    assert {text for text in calls[0][1] if text not in old} <= set(kept)
    marks = [line for line in read_ledger(tmp_path / "ledger.jsonl") if "model" in line]
    assert [(one["round"], one["model"]) for one in marks] == [(1, "joker"), (2, "joker 1")]
    one, two = (
        {key[1:]: lines[0]["condition"] for key, lines in stages_of(tmp_path).items() if key[0] == number}
        for number in (1, 2)
    )
    assert one.keys() == two.keys()
    assert one != two  # another round draws other conditions

    def other(round, records, *, restart, out):
        return Joker(f"other {round}")

    with pytest.raises(ValueError, match="stands where"):
        refine(tmp_path, rounds=2, retrain=other, restart="base", gates=Gates(share=0.1))


def test_more_rounds_can_follow(tmp_path):
    def retrain(round, records, *, restart, out):
        return Joker(f"joker {round}")

    refine(tmp_path / "a", retrain=retrain)
    refine(tmp_path / "a", retrain=retrain, rounds=2)
    refine(tmp_path / "b", retrain=retrain, rounds=2)
    assert (tmp_path / "a" / "ledger.jsonl").read_bytes() == (tmp_path / "b" / "ledger.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"n": 0}, "n is 0"), ({"n": 26}, "n is 26"), ({"rho": 1.5}, "rho is 1.5"), ({"rounds": 2}, "give retrain"),
        ({"batch": 0}, "batch is 0"), ({"limit": 0}, "limit is 0"), ({"scorer": "dice"}, "no scorer 'dice'"),
        ({"sampling": Sampling(temperature=0.0)}, "temperature"), ({"data": []}, "no prompt"),
        ({"data": [Record("", "T2T", "Why?", None, "So.", 1, "en")]}, "no identifier"),
    ],
)  # fmt: skip
def test_bad_arguments(tmp_path, options, what):
    with pytest.raises(ValueError, match=what):
        refine(tmp_path / "out", **options)


def test_generated_text_is_one_line_of_text(tmp_path):
    backend = Joker(answer=lambda request, at: f"  {write(request, at)}\n\ud800 e\u0301 ")
    refine(tmp_path, backend)
    texts = [text_of(lines) for lines in stages_of(tmp_path).values()]
    assert all(text.endswith("? é") and "\n" not in text and text == text.strip() for text in texts)
    assert all(fold(text) for text in texts)


def test_other_wording_is_drift(done, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"lang": "en", "generate": {"T2T": ["Answer: {question}"]}}))
    with pytest.raises(ValueError, match="--force-new"):
        refine(done.out, templates=Templates(path))
