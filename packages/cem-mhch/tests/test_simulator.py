"""The simulated service: repeatable, coherent with what it says of itself, and confounded as it says."""

import numpy as np
import pytest
from cem_mhch import simulate
from cem_mhch.data._simulator import NEGATIVE


@pytest.fixture(scope="module")
def found():
    return simulate(2000, seed=7)


def test_the_same_seed_gives_the_same(found):
    again = simulate(30, seed=7)
    assert again.dialogues == found.dialogues[:30]
    np.testing.assert_array_equal(again.potential[29], found.potential[29])
    assert simulate(30, seed=8).dialogues != again.dialogues


def test_labels_follow_the_state(found):
    for one, states in zip(found.dialogues, found.frustration, strict=True):
        assert len(one.turns) == len(states)
        assert ((states >= 0) & (states <= 1)).all()
        failures = 0
        for turn, state in zip(one.turns, states, strict=True):
            if turn.role == "user":
                assert (turn.sentiment == NEGATIVE) == (state > 0.6)
                if turn.sentiment == NEGATIVE:
                    assert turn.handoff == 1
            elif turn.handoff:
                assert state > 0.25
            failures += turn.role == "bot" and bool(turn.handoff)
        assert one.satisfaction == (0 if states[-1] > 0.6 else 1 if states[-1] > 0.25 else 2)


def test_a_tenth_to_a_third_of_the_turns_are_transferable(found):
    rate = np.mean([turn.handoff for one in found.dialogues for turn in one.turns])
    gold = np.mean([any(turn.handoff for turn in one.turns) for one in found.dialogues])
    assert 0.1 < rate < 0.33
    assert 0.25 < gold < 0.75
    assert len({turn.text for one in found.dialogues for turn in one.turns}) > 1000


def test_the_logged_policy_is_the_one_described(found):
    turns = [turn for one in found.dialogues for turn in one.turns]
    states = np.concatenate(found.frustration)
    costs = np.concatenate(found.potential)
    chance = 0.08 + 0.84 / (1 + np.exp(4 - 8 * states))
    action = np.array([turn.action for turn in turns])
    np.testing.assert_allclose([turn.propensity for turn in turns], np.where(action, chance, 1 - chance))
    np.testing.assert_allclose([turn.cost for turn in turns], costs[np.arange(len(turns)), action])
    for low in (0.0, 0.25, 0.5, 0.75):
        part = (states >= low) & (states < low + 0.25)
        spread = np.sqrt((chance[part] * (1 - chance[part])).sum())
        assert abs(action[part].sum() - chance[part].sum()) < 4 * spread
    label = np.array([turn.handoff for turn in turns])
    assert costs[label == 0, 1].mean() == pytest.approx(2.0, abs=0.03)
    assert costs[label == 1, 1].mean() == pytest.approx(1.0, abs=0.03)
    assert (costs[:, 0] - 4 * label - states).std() == pytest.approx(0.3, abs=0.02)


def test_what_cannot_be_simulated():
    for options in ({"count": 0}, {"count": 5, "noise": -1.0}, {"count": 5, "noise": float("nan")}):
        with pytest.raises(ValueError, match="give at least 1 dialogue"):
            simulate(**options)
