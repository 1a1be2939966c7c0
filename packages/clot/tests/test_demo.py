"""The demo: its report from given numbers, and the whole of it."""

import json
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from clot import EchoBackend, NounSet, self_refine
from clot import demo as demo_module
from clot._demo_run import Profile
from clot._evaluate import evaluate
from clot._world import make_world
from clot.demo import DemoConfig, demo
from clot.distractors import Distractors
from oogiri_go import group_key

sys.path.insert(0, str(Path(__file__).parent))
from joker import NOUNS, Joker, records

pytest.importorskip("matplotlib")
pytest.importorskip("peft")


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    """What a seed's run gives, measured on rules instead of a model."""
    world = make_world(prompts=40, games=("I2T",), test=1.0)
    literals = {group_key(one): world.captions[one.image] for one in world.records}
    wrong = Distractors(world.records, literals=literals)

    def asked(backend, **options):
        return evaluate(backend, world.records, distractors=wrong, pictures=world.pictures, **options)

    plain = EchoBackend(logprob=lambda prompt, text: 0.0 if text.startswith("a ") else -5.0)
    funny = EchoBackend(logprob=lambda prompt, text: -5.0 if text.startswith("a ") else 0.0)
    stages = {
        name: asked(backend, tasks=["2T1", "3T1", "rank"], scorer="content").to_dict(rows=False)
        for name, backend in (("base", plain), ("AIT", funny), ("CLoT", funny))
    }
    letters = asked(EchoBackend(), tasks=["3T1", "rank"], control=False)
    refined = self_refine(
        Joker(), records(10), NounSet.from_words(NOUNS, "en"), out=tmp_path_factory.mktemp("r"),
        held_out=records(12, first=100),
    )  # fmt: skip
    return {
        "stages": stages,
        "pmi": stages["CLoT"],
        "letters": letters.to_dict(rows=False),
        "letter rows": list(letters.rows),
        "rounds": [dict(one.summary) for one in refined.rounds],
        "same after the crash": True,
        "losses": {"generate": [(1, 3.0), (2, 2.0)], "rank": [(2, 4.0)]},
        "examples": [{"picture": "a red circle.", "answer": "the tomato spins.", "liked most": "the lobster orbits."}],
    }


def test_the_report(numbers, tmp_path, monkeypatch, capsys):
    def several(out, profile, seeds, device):
        return [numbers | {"seed": seed} for seed in seeds]

    monkeypatch.setattr(demo_module, "_run", several)
    demo(DemoConfig(out=tmp_path, seed=5, full=True))
    out = capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert report["profile"] == "full"
    assert len(report["protocol"]) == 64
    assert [name for name in report["metrics"] if name.startswith("seed")] == ["seed 5", "seed 6", "seed 7"]
    by_claim = {one["claim"]: one for one in report["verdicts"]}
    goal = by_claim["seed 5: content 3T1 after CLoT is at least chance + 0.35, its lower bound above chance"]
    accuracy = numbers["stages"]["CLoT"]["tasks"]["3T1"]["accuracy"]
    assert goal["measured"] == accuracy
    assert goal["holds"] == (accuracy >= 1 / 3 + 0.35)
    assert by_claim["seed 6: the base, which only describes, is not above chance"]["holds"] is True
    assert by_claim["content 3T1: AIT above the base"]["holds"] is True  # three equal differences
    assert by_claim["content 3T1: CLoT above AIT"]["holds"] is None  # nothing changed
    assert "pictures swapped" in out
    assert "the tomato spins." in out
    for name in report["figures"]:
        assert (tmp_path / name).stat().st_size > 2_000
    assert {"stages.svg", "funnel.png", "losses.svg", "letters.png", "orders.svg"} <= set(report["figures"])


def test_a_goal_that_is_missed_is_said(numbers):
    base = numbers["stages"]["base"]
    run = numbers | {"seed": 0, "stages": numbers["stages"] | {"CLoT": base}, "same after the crash": False}
    holds = [one.holds for one in demo_module._verdicts(run)]
    assert holds[0] is False
    assert holds[-1] is False


@pytest.mark.parametrize("name", ["default", "full"])
def test_protocols(name):
    path = Path(demo_module.__file__).with_name("protocols") / f"{name}.json"
    profile = Profile.read(path)
    assert all(getattr(profile, one.name) > 0 for one in fields(profile))
    assert profile.seeds == {"default": 1, "full": 3}[name]


@pytest.mark.slow
def test_the_demo(tmp_path, capsys):
    demo(DemoConfig(out=tmp_path))
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert "same bytes" in capsys.readouterr().out
    by_claim = {one["claim"]: one for one in report["verdicts"]}
    assert by_claim["seed 0: after a crash, ledger and kept set are those of an uninterrupted run"]["holds"] is True
    assert by_claim["content 3T1: AIT above the base"]["measured"] > 0.2
    assert (tmp_path / "seed-0" / "refine" / "round-1" / "model" / "adapter").is_dir()
