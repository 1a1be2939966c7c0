"""The released behaviour, against NumPy written from its description."""

import numpy as np
import pytest
import torch
from cem_mhch import CEM, Batch, CEMConfig, HandoffModel, functional

MASK = -(2.0**32) + 1


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_mask_overwrites_rows_of_queries(rng):
    query, key, value = rng.normal(size=(3, 2, 6, 4))
    rows = np.array([[1, 0, 1, 1, 0, 0], [0, 1, 1, 0, 1, 1]], dtype=bool)
    expected = np.zeros_like(value)
    for b in range(2):
        for t in range(6):
            scores = np.array([query[b, t] @ key[b, j] if rows[b, t] else MASK for j in range(6)])
            expected[b, t] = sum(w * value[b, j] for j, w in enumerate(softmax(scores)))
    found = functional.paper_code_attention(*map(torch.from_numpy, (query, key, value, rows)))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(found[0, 1].numpy(), value[0].mean(0), rtol=1e-12)  # a masked query sees all turns alike


def test_the_product_of_row_16(rng):
    handoff, sentiment, weights = rng.normal(size=(2, 5, 2)), rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 5))
    user = np.array([[1, 0, 1, 1, 0], [1, 1, 0, 0, 0]], dtype=bool)
    p, s = softmax(handoff), softmax(sentiment)
    w = softmax(np.where(user, weights, MASK))
    expected = np.zeros_like(p)
    for b in range(2):
        for t in range(5):
            if user[b, t]:
                expected[b, t] = p[b, t] * w[b, t] * np.array([s[b, t, 0], s[b, t, 2]])
    found = functional.paper_code_product(*map(torch.from_numpy, (handoff, sentiment, weights, user)))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_the_loss_as_released(rng):
    q = rng.uniform(0.05, 0.4, size=(3, 4, 2))
    y = rng.integers(0, 2, size=(3, 4))
    lengths = [4, 2, 3]
    total = 0.0
    for b in range(3):
        part = 0.0
        for t in range(lengths[b]):
            q0, q1 = q[b, t]
            part -= np.sqrt(1 - q1) * (y[b, t] == 0) * np.log(q0 + 1e-9)
            part -= np.sqrt(q0) * (y[b, t] == 1) * np.log(q1 + 1e-9)
        total += part / lengths[b] / 3
    total += 0.01 * q[:, 1].mean()
    mask = np.arange(4) < np.array(lengths)[:, None]
    found = functional.paper_code_loss(*map(torch.from_numpy, (q, y, mask)))
    np.testing.assert_allclose(found.item(), total, rtol=1e-12)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(1, 30, (2, 6, 4), generator=generator)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    role = torch.tensor([[0, 1, 0, 1, 0, 1], [1, 0, 0, 1, 0, 0]])
    handoff = torch.where(mask, role, -1)
    tokens = tokens * mask[..., None]
    return Batch(
        tokens=tokens, mask=mask, role=role, handoff=handoff, sentiment=handoff, satisfaction=torch.tensor([0, 2])
    )


@pytest.fixture
def legacy():
    torch.manual_seed(0)
    return HandoffModel.build(
        "rssn", vocab_size=30, embedding_size=8, size=8, legacy_masks=True, max_turns=10, dropout=0.0
    ).eval()


@torch.inference_mode()
def test_the_legacy_graph_sees_later_turns(legacy, batch):
    before = legacy(batch).handoff_logits[0, :3]
    batch.tokens[0, 5] = torch.tensor([7, 8, 9, 10])
    after = legacy(batch).handoff_logits[0, :3]
    assert (before - after).abs().max() > 1e-6  # the test of the causal hosts would fail


@torch.inference_mode()
def test_the_towers_of_the_legacy_graph_against_numpy(legacy, batch):
    """Rows 6 to 8 and the LSTM's input, from the encoded utterances on."""
    x = legacy.encoder(torch.nn.functional.pad(batch.tokens, (0, 0, 0, 4)).flatten(0, 1)).reshape(2, 10, -1).numpy()
    match = np.tril(x @ x.transpose(0, 2, 1), -1)
    features = np.concatenate([x, match], 2)

    def dense(layer, value):
        return np.maximum(value @ layer.weight.numpy().T + layer.bias.numpy(), 0)

    m, s = dense(legacy.to_handoff, features), dense(legacy.to_sentiment, features)
    user = np.zeros((2, 10), dtype=bool)
    user[:, :6] = (batch.mask & (batch.role == 0)).numpy()
    scores = np.where(user[:, :, None], m @ s.transpose(0, 2, 1), MASK)
    merged = dense(legacy.merge, np.concatenate([softmax(scores) @ s, m], 2))
    states = legacy.lstm(torch.from_numpy(merged))[0]
    np.testing.assert_allclose(legacy.head(states)[:, :6], legacy(batch).handoff_logits, atol=1e-5)


def test_paper_code_leaves_bot_turns_normal(legacy, batch):
    model = CEM(legacy, CEMConfig(mode="paper_code")).eval()
    out = model(batch)
    bot = batch.mask & (batch.role == 1)
    assert (out.probs[bot] == 0).all()
    assert (out.logits[bot].argmax(-1) == 0).all()
    assert out.probs[batch.mask & (batch.role == 0)].min() > 0
    assert set(out.losses) == {"handoff", "sentiment", "satisfaction"}
    out.loss.backward()


def test_what_the_legacy_graph_refuses(legacy, batch):
    with pytest.raises(ValueError, match="cannot stream"):
        legacy.initial_state()
    with pytest.raises(ValueError, match="cannot stream"):
        CEM(HandoffModel.build("hgru", vocab_size=9), CEMConfig(mode="paper_code")).initial_state()
    long = Batch(
        tokens=torch.ones(1, 11, 2, dtype=torch.long),
        mask=torch.ones(1, 11, dtype=torch.bool),
        role=torch.zeros(1, 11, dtype=torch.long),
        handoff=torch.zeros(1, 11, dtype=torch.long),
        sentiment=torch.zeros(1, 11, dtype=torch.long),
        satisfaction=torch.zeros(1, dtype=torch.long),
    )
    with pytest.raises(ValueError, match="11 turns came; the legacy graph has room for 10"):
        legacy(long)
