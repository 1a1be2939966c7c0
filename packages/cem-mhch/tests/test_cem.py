"""The causal module: what it corrects, what it leaves alone, and what its losses see."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from cem_mhch import CEM, Batch, CEMConfig, CostModel, HandoffModel, HostOutput, functional
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

floats = st.floats(-8, 8, width=32)


class Fixed(nn.Module):
    """A host of the user's own that says what it was told."""

    hidden_size = 4

    def __init__(self, logits, hidden):
        super().__init__()
        self.logits, self.hidden = nn.Parameter(logits), nn.Parameter(hidden)

    def forward(self, batch):
        return HostOutput(self.logits, self.hidden)


@pytest.fixture
def batch():
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    return Batch(
        tokens=torch.ones(2, 5, 2, dtype=torch.long) * mask[..., None],
        mask=mask,
        role=torch.tensor([[1, 0, 1, 1, 0], [0, 1, 0, 0, 0]]),
        handoff=torch.tensor([[0, 1, 1, 0, 0], [0, 1, 0, -1, -1]]),
        sentiment=torch.tensor([[2, 0, 1, 1, 1], [1, 2, 0, -1, -1]]),
        satisfaction=torch.tensor([0, -1]),
    )


@pytest.fixture
def host():
    torch.manual_seed(4)
    return Fixed(torch.randn(2, 5, 2), torch.randn(2, 5, 4))


def test_beta_0_is_the_host_exactly(host, batch):
    model = CEM(host, CEMConfig(beta=0.0))
    assert model.beta.item() == 0
    assert "raw_beta" not in dict(model.named_parameters())
    out = model.eval()(batch)
    assert torch.equal(out.logits, host.logits)
    assert torch.equal(out.probs, host.logits.softmax(-1))


@pytest.mark.parametrize("beta", [0.01, 1.0, 4.0, 30.0])
def test_beta_starts_where_it_was_put_and_is_learned(host, batch, beta):
    model = CEM(host, CEMConfig(beta=beta))
    torch.testing.assert_close(model.beta, torch.tensor(beta))
    model(batch).losses["handoff"].backward()
    assert model.raw_beta.grad.abs() > 0


def test_the_correction_is_the_papers_in_log_space(host, batch):
    model = CEM(host, CEMConfig(beta=1.7)).eval()
    out = model(batch)
    log_p = host.logits.log_softmax(-1)
    sentiment = out.sentiment_logits.log_softmax(-1)
    shift = torch.stack([sentiment[..., 1:].logsumexp(-1), sentiment[..., 0]], -1)
    expected = (log_p + 1.7 * shift).softmax(-1)
    known = torch.tensor([[False, True, True, True, True], [True] * 5])
    torch.testing.assert_close(out.probs[known], expected[known])
    torch.testing.assert_close(out.probs.sum(-1), torch.ones(2, 5))


def test_nothing_is_corrected_before_the_user_speaks(host, batch):
    out = CEM(host, CEMConfig(beta=3.0)).eval()(batch)
    torch.testing.assert_close(out.probs[0, 0], host.logits.softmax(-1)[0, 0])
    assert not torch.allclose(out.probs[0, 1:], host.logits.softmax(-1)[0, 1:])
    torch.testing.assert_close(out.satisfaction[0, 0].exp(), torch.full((3,), 1 / 3))


def test_bot_turns_carry_the_last_user_state(host, batch):
    out = CEM(host, CEMConfig()).eval()(batch)
    for name in ("sentiment_logits", "satisfaction", "user_state"):
        value = getattr(out, name)
        for row, turn, last in ((0, 2, 1), (0, 3, 1), (1, 1, 0)):
            torch.testing.assert_close(value[row, turn], value[row, last], msg=name)
        assert not torch.allclose(value[0, 4], value[0, 3])


def test_a_hosts_own_sentiment_is_added_and_carried(batch):
    torch.manual_seed(0)
    logits, hidden, sentiment = torch.randn(2, 5, 2), torch.randn(2, 5, 4), torch.randn(2, 5, 3)

    class Told(Fixed):
        said = None

        def forward(self, batch):
            return HostOutput(self.logits, self.hidden, self.said)

    host = Told(logits, hidden)
    model = CEM(host, CEMConfig()).eval()
    without = model(batch).sentiment_logits
    host.said = sentiment
    added = model(batch).sentiment_logits - without
    last = torch.tensor([[0, 1, 1, 1, 4], [0, 0, 2, 2, 2]])
    expected = sentiment.gather(1, last[..., None].expand(-1, -1, 3))
    torch.testing.assert_close(added[0, 1:], expected[0, 1:])
    torch.testing.assert_close(added[1, :3], expected[1, :3])


@given(
    st.lists(floats, min_size=2, max_size=2),
    st.lists(floats, min_size=3, max_size=3),
    st.floats(0, 5),
    st.floats(0.1, 5),
)
def test_a_more_negative_state_never_lowers_the_handoff(logits, sentiment, beta, more):
    logits, sentiment = torch.tensor(logits, dtype=torch.float64), torch.tensor(sentiment, dtype=torch.float64)
    worse = sentiment + torch.tensor([more, 0.0, 0.0])
    before, after = (
        functional.state_correction(logits, functional.negative_log_odds(one), beta).exp()[1]
        for one in (sentiment, worse)
    )
    assert after >= before - 1e-12
    if beta > 0.1 and 1e-6 < before < 1 - 1e-6:
        assert after > before


def test_bot_turns_have_a_gradient_into_the_user_state(host, batch):
    model = CEM(host, CEMConfig(beta=1.0)).eval()
    model(batch).probs[0, 3, 1].backward()  # a bot's turn
    assert host.hidden.grad[0, 1].abs().max() > 0  # through the user turn before it
    assert host.hidden.grad[0, 4].abs().max() == 0
    assert model.user.read.weight.grad.abs().max() > 0


def test_losses_are_means_over_labelled_turns(host, batch):
    model = CEM(host, CEMConfig(beta=0.0, positive_weight=2.0, focal_gamma=1.5)).eval()
    out = model(batch)
    weights, total = 0.0, 0.0
    for row in range(2):
        for turn in range(5):
            label = batch.handoff[row, turn].item()
            if label >= 0:
                p = out.probs[row, turn, label].item()
                weight = 2.0 if label else 1.0
                total -= weight * (1 - p) ** 1.5 * torch.tensor(p).log().item()
                weights += weight
    assert out.losses["handoff"].item() == pytest.approx(total / weights, rel=1e-5)
    user = [(0, 1), (0, 4), (1, 0), (1, 2)]
    chosen = torch.stack([out.sentiment_logits[one] for one in user])
    gold = torch.stack([batch.sentiment[one] for one in user])
    torch.testing.assert_close(out.losses["sentiment"], F.cross_entropy(chosen, gold))
    torch.testing.assert_close(out.losses["satisfaction"], -out.satisfaction[0, 4, 0])
    config = model.config
    expected = out.losses["handoff"] + config.sentiment_weight * out.losses["sentiment"]
    expected = expected + config.satisfaction_weight * out.losses["satisfaction"] + out.losses["cost"]
    torch.testing.assert_close(out.loss, expected)


def test_satisfaction_is_the_weighted_mixture_of_user_turns(host, batch):
    model = CEM(host, CEMConfig()).eval()
    out = model(batch)
    user = batch.mask & (batch.role == 0)
    read = model.user(host.hidden, user)
    weights = torch.where(user, read.weights, float("-inf")).softmax(1)
    expected = (weights.unsqueeze(2) * read.sentiment_logits.softmax(-1)).sum(1)
    torch.testing.assert_close(out.satisfaction[0, 4].exp(), expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(out.satisfaction[1, 2].exp(), expected[1], rtol=1e-5, atol=1e-6)


def test_a_batch_without_labels_has_no_loss(host, batch):
    bare = dataclasses.replace(
        batch,
        handoff=torch.full((2, 5), -1),
        sentiment=torch.full((2, 5), -1),
        satisfaction=torch.full((2,), -1),
    )
    assert CEM(host)(bare).loss is None
    aux = dataclasses.replace(bare, sentiment=batch.sentiment)
    out = CEM(host)(aux)
    assert out.losses["handoff"] == 0
    assert out.losses["sentiment"] > 0


def test_the_second_stage_freezes_the_simulator_and_lowers_the_handoff(host, batch):
    model = CEM(host, CEMConfig(cost_weight=0.3), CostModel(false_handoff=1.0))
    model.freeze_simulator()
    nn.init.constant_(model.simulator.outer.weight, 0.0)
    model.simulator.outer.bias.data = torch.tensor([0.0, 1.0])
    out = model(batch)
    torch.testing.assert_close(out.losses["cost"], out.probs[..., 1][batch.mask].mean())
    torch.testing.assert_close(out.expected_cost, out.probs[..., 1])
    out.losses["cost"].backward()
    assert all(parameter.grad is None for parameter in model.simulator.parameters())
    assert (host.logits.grad[batch.mask][:, 1] > 0).all()  # a step downhill hands over less


def test_the_first_stage_teaches_the_simulator_without_touching_the_host(host, batch):
    model = CEM(host, CEMConfig())
    model(batch).losses["cost"].backward()
    assert model.simulator.inner.weight.grad.abs().max() > 0
    assert host.hidden.grad is None
    assert host.logits.grad is None


def test_a_host_without_step_cannot_stream(host):
    with pytest.raises(ValueError, match="around Fixed cannot stream"):
        CEM(host).initial_state()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"beta": -1.0}, "beta is -1.0"),
        ({"beta": float("nan")}, "beta is nan"),
        ({"mode": "paper"}, "'causal' or 'paper_code'"),
        ({"state_size": 0}, "state_size is 0"),
        ({"max_weight": 0.5}, "max_weight is 0.5"),
        ({"explore": 0.9}, "explore 0.9"),
        ({"positive_weight": 0.0}, "positive_weight 0.0"),
        ({"dropout": 1.0}, "dropout 1.0"),
    ],
)
def test_a_config_out_of_range(options, words):
    with pytest.raises(ValueError, match=words):
        CEMConfig(**options)


def test_a_host_that_does_not_know_its_width():
    with pytest.raises(TypeError, match="Linear has no integer hidden_size"):
        CEM(nn.Linear(2, 2))


def test_ids_outside_the_vocabulary(batch):
    batch.tokens[0, 0, 0] = 5
    with pytest.raises(ValueError, match="the id 5, the host was built for ids below 5"):
        CEM(HandoffModel.build("hgru", vocab_size=5))(batch)


def test_device_and_dtype_are_those_asked_for(batch):
    host = HandoffModel.build("hgru", vocab_size=5, size=4, embedding_size=4, dtype=torch.float64)
    model = CEM(host, dtype=torch.float64)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert model(batch).logits.dtype == torch.float64


@torch.no_grad()
def test_compiles_and_autocasts():
    host = HandoffModel.build("hgru", vocab_size=5, size=4, embedding_size=4)
    model = CEM(host).eval()
    mask = torch.ones(2, 3, dtype=torch.bool)
    none = torch.full((2, 3), -1)
    batch = Batch(
        tokens=torch.ones(2, 3, 2, dtype=torch.long),
        mask=mask,
        role=torch.tensor([[0, 1, 0], [1, 0, 1]]),
        handoff=none,
        sentiment=none,
        satisfaction=torch.full((2,), -1),
    )
    expected = model(batch).probs
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(compiled(batch).probs, expected, atol=1e-6, rtol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(model(batch).probs.float(), expected, atol=0.03, rtol=0)
