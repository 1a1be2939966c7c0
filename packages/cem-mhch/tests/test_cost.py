"""Costs of both actions from logs in which one was taken."""

import math

import pytest
import torch
from cem_mhch import CostModel
from cem_mhch._cost import CostSimulator, doubly_robust, inverse_propensity_loss


def test_the_matrix_turn_by_turn():
    model = CostModel(false_handoff=2.0, missed_handoff=5.0, handoff=1.0)
    expected = {(0, 0): 0.0, (0, 1): 3.0, (1, 0): 5.0, (1, 1): 1.0}
    found = model.potential(torch.tensor([0, 1]))
    assert {(y, a): found[y, a].item() for y in (0, 1) for a in (0, 1)} == expected
    assert CostModel().potential(torch.tensor([[0], [1]])).tolist() == [[[0.0, 1.0]], [[0.0, 0.0]]]


def world(seed, count=400):
    """A confounded log: the more a turn needs a person, the likelier one was called, and the dearer it was to wait."""
    generator = torch.Generator().manual_seed(seed)
    need = torch.rand(count, generator=generator)
    potential = torch.stack([4 * need.square(), 1 + 0.5 * need], 1)
    called = 0.1 + 0.8 * need
    action = (torch.rand(count, generator=generator) < called).long()
    propensity = torch.where(action == 1, called, 1 - called)
    cost = potential.gather(1, action[:, None]).squeeze(1) + 0.1 * torch.randn(count, generator=generator)
    return need[:, None], action, propensity, cost, potential


def z_scores(estimate, seeds=200):
    """z of the mean error of both estimated costs over independent logs."""
    errors = []
    for seed in range(seeds):
        x, action, propensity, cost, potential = world(seed)
        errors.append(estimate(x, action, propensity, cost) - potential.mean(0))
    errors = torch.stack(errors)
    return errors.mean(0) / (errors.std(0) / math.sqrt(seeds)), errors


def naive(x, action, propensity, cost):
    return torch.stack([cost[action == 0].mean(), cost[action == 1].mean()])


def test_the_doubly_robust_estimate_is_unbiased_where_the_naive_one_is_biased():
    wrong = torch.tensor([1.0, 2.0])  # a model that is far off
    z, _ = z_scores(lambda x, a, p, c: doubly_robust(wrong.expand(len(a), 2), a, p, c).mean(0))
    assert z.abs().max() < 3
    z_naive, _ = z_scores(naive)
    assert z_naive.abs().min() > 10
    exact, narrow = z_scores(
        lambda x, a, p, c: doubly_robust(torch.cat([4 * x.square(), 1 + 0.5 * x], 1), a, p, c).mean(0)
    )
    assert exact.abs().max() < 3
    z_zero, wide = z_scores(lambda x, a, p, c: doubly_robust(torch.zeros(len(a), 2), a, p, c).mean(0))
    assert z_zero.abs().max() < 3
    assert (narrow.std(0) < wide.std(0) / 2).all()  # what the right model buys


def test_wrong_propensities_are_forgiven_where_the_model_is_right():
    def estimate(x, action, propensity, cost):
        return doubly_robust(
            torch.cat([4 * x.square(), 1 + 0.5 * x], 1), action, torch.full_like(cost, 0.5), cost
        ).mean(0)

    assert z_scores(estimate)[0].abs().max() < 3


def test_the_weighted_loss_estimates_the_error_over_both_actions():
    predicted = torch.tensor([0.7, 1.4])
    ratios = []
    for seed in range(200):
        _, action, propensity, cost, potential = world(seed)
        found = inverse_propensity_loss(predicted.expand(len(cost), 2), action, propensity, cost, max_weight=100.0)
        ratios.append(found - (predicted - potential).square().sum(1).mean() - 2 * 0.01)  # the noise, for each action
    ratios = torch.stack(ratios)
    assert (ratios.mean() / (ratios.std() / math.sqrt(200))).abs() < 3


def test_weights_are_clipped():
    arguments = torch.zeros(1, 2), torch.tensor([1]), torch.tensor([0.001]), torch.tensor([1.0])
    assert inverse_propensity_loss(*arguments, max_weight=20.0).item() == 20.0
    assert inverse_propensity_loss(*(one[:0] for one in arguments)).item() == 0.0


def test_a_simulator_learns_both_costs_from_one_action_each():
    torch.manual_seed(0)
    simulator = CostSimulator(1, 32)
    optimizer = torch.optim.Adam(simulator.parameters(), 1e-2)
    x, action, propensity, cost, _ = world(0, 4000)
    for _ in range(300):
        optimizer.zero_grad()
        inverse_propensity_loss(simulator(x), action, propensity, cost).backward()
        optimizer.step()
    fresh, *_, potential = world(1, 1000)
    error = (simulator(fresh) - potential).square().mean(0).sqrt()
    assert error.max() < 0.12
    assert potential.std(0).max() > 1  # which is small beside what there is to know


@pytest.mark.parametrize(
    ("action", "propensity", "cost", "words"),
    [
        (1, 0.0, 1.0, "a propensity is 0.0"),
        (1, 1.5, 1.0, "a propensity is 1.5"),
        (1, float("nan"), 1.0, "a propensity is nan"),
        (2, 0.5, 1.0, "neither 0"),
        (1, 0.5, float("inf"), "not finite"),
    ],
)
@pytest.mark.parametrize("function", [doubly_robust, inverse_propensity_loss])
def test_logs_that_cannot_be(function, action, propensity, cost, words):
    with pytest.raises(ValueError, match=words):
        function(torch.zeros(1, 2), torch.tensor([action]), torch.tensor([propensity]), torch.tensor([cost]))


def test_a_cost_is_a_number():
    with pytest.raises(ValueError, match="missed_handoff is inf"):
        CostModel(missed_handoff=math.inf)
