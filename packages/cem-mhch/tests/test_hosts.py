"""Every host: later turns never change earlier outputs, padding changes nothing, one turn at a time is the whole."""

import dataclasses

import pytest
import torch
from cem_mhch import CEM, Batch, CEMConfig, HandoffModel
from torch import nn

VOCAB = 40
CASES = {
    "hgru": ("hgru", {"embedding_size": 8, "size": 8}),
    "hgru-bigru": ("hgru", {"encoder": "bigru", "embedding_size": 8, "size": 8}),
    "dami_lite": ("dami_lite", {"embedding_size": 8, "size": 8}),
    "rssn": ("rssn", {"embedding_size": 8, "size": 8}),
}


@pytest.fixture(params=CASES)
def host(request):
    name, options = CASES[request.param]
    torch.manual_seed(1)
    host = HandoffModel.build(name, vocab_size=VOCAB, **options).eval()
    for parameter in host.parameters():  # large weights, so that a leak is seen
        nn.init.normal_(parameter, std=0.4)
    return host


def make_batch(lengths=(7, 4, 1), width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    count, turns = len(lengths), max(lengths)
    mask = torch.arange(turns) < torch.tensor(lengths)[:, None]
    sizes = torch.randint(1, width + 1, (count, turns, 1), generator=generator)
    tokens = torch.randint(1, VOCAB, (count, turns, width), generator=generator)
    tokens = tokens * (torch.arange(width) < sizes) * mask[..., None]
    draw = torch.randint(0, 6, (count, turns), generator=generator)
    return Batch(
        tokens=tokens,
        mask=mask,
        role=torch.where(mask, draw % 2, 0),
        handoff=torch.where(mask, (draw > 3).long(), -1),
        sentiment=torch.where(mask, draw % 3, -1),
        satisfaction=torch.tensor([0, 2, -1])[:count],
    )


def cut(batch, rows, turns):
    """Rows and turns of a batch."""
    per_turn = {
        field.name: getattr(batch, field.name)[rows, turns]
        for field in dataclasses.fields(batch)
        if getattr(batch, field.name) is not None and getattr(batch, field.name).ndim >= 2
    }
    return dataclasses.replace(batch, **per_turn, satisfaction=batch.satisfaction[rows])


def compare(found, expected, mask, atol):
    """Compare two outputs, host's or CEM's, on real turns."""
    names = found._fields if isinstance(found, tuple) else [field.name for field in dataclasses.fields(found)]
    for name in names:
        one, other = getattr(found, name), getattr(expected, name)
        if torch.is_tensor(one) and one.ndim == 3:
            torch.testing.assert_close(
                one[mask], other[mask], atol=atol, rtol=0, msg=lambda text, n=name: f"{n}: {text}"
            )


@torch.inference_mode()
def test_later_turns_never_change_earlier_outputs(host):
    model = CEM(host, CEMConfig(beta=1.5)).eval()
    batch = make_batch()
    changed = dataclasses.replace(batch, tokens=batch.tokens.clone(), role=batch.role.clone())
    changed.tokens[0, 4:] = make_batch(seed=9).tokens[0, 4:]
    changed.role[0, 4:] = 1 - changed.role[0, 4:]
    assert not torch.equal(changed.tokens, batch.tokens)
    early = batch.mask.clone()
    early[0, 4:] = False
    for run in (host, model):
        compare(run(changed), run(batch), early, 1e-6)
        late = batch.mask & ~early
        names = ("handoff_logits", "logits")
        logits = [getattr(run(one), next(n for n in names if hasattr(run(one), n))) for one in (batch, changed)]
        assert (logits[0] - logits[1])[late].abs().max() > 1e-3  # the change is seen where it may be seen


@torch.inference_mode()
def test_padding_changes_nothing(host):
    model = CEM(host, CEMConfig(beta=1.5)).eval()
    batch = make_batch()
    pad = nn.functional.pad
    padded = dataclasses.replace(
        batch,
        tokens=pad(batch.tokens, (0, 3, 0, 2)),
        mask=pad(batch.mask, (0, 2)),
        role=pad(batch.role, (0, 2)),
        handoff=pad(batch.handoff, (0, 2), value=-1),
        sentiment=pad(batch.sentiment, (0, 2), value=-1),
    )
    for run in (host, model):
        wide = run(padded)
        names = wide._fields if isinstance(wide, tuple) else [field.name for field in dataclasses.fields(wide)]
        three = {
            n: getattr(wide, n)[:, :7]
            for n in names
            if torch.is_tensor(getattr(wide, n)) and getattr(wide, n).ndim == 3
        }
        narrow = wide._replace(**three) if isinstance(wide, tuple) else dataclasses.replace(wide, **three)
        compare(narrow, run(batch), batch.mask, 1e-6)
    torch.testing.assert_close(model(padded).losses["handoff"], model(batch).losses["handoff"])
    torch.testing.assert_close(model(padded).losses["sentiment"], model(batch).losses["sentiment"])
    torch.testing.assert_close(model(padded).losses["satisfaction"], model(batch).losses["satisfaction"])


@torch.inference_mode()
def test_a_dialogue_is_scored_alike_alone_and_in_a_batch(host):
    batch = make_batch()
    alone = cut(batch, slice(1, 2), slice(0, 4))
    torch.testing.assert_close(host(alone).handoff_logits[0], host(batch).handoff_logits[1, :4], atol=1e-6, rtol=0)


@torch.inference_mode()
def test_a_stream_of_turns_gives_what_the_batch_gives(host):
    model = CEM(host, CEMConfig(beta=1.5)).eval()
    batch = make_batch()
    whole_host, whole = host(batch), model(batch)
    for row, length in enumerate(batch.mask.sum(1).tolist()):
        host_state, state = host.initial_state(1), model.initial_state(1)
        for turn in range(length):
            piece = cut(batch, slice(row, row + 1), slice(turn, turn + 1))
            here = torch.zeros_like(batch.mask)
            here[row, turn] = True
            found, host_state = host.step(piece, host_state)
            compare_turn(found, whole_host, row, turn)
            found, state = model.step(piece, state)
            compare_turn(found, whole, row, turn)
            assert all(torch.is_tensor(value) and len(value) == 1 for value in state.values())


@torch.inference_mode()
def test_several_dialogues_stream_together(host):
    model = CEM(host, CEMConfig(beta=1.5)).eval()
    batch = make_batch(lengths=(5, 5, 5))
    assert (batch.role[:, 0] != batch.role[0, 0]).any()  # a user's turn beside a bot's
    whole, state = model(batch), model.initial_state(3)
    for turn in range(5):
        found, state = model.step(cut(batch, slice(None), slice(turn, turn + 1)), state)
        torch.testing.assert_close(found.logits[:, 0], whole.logits[:, turn], atol=1e-5, rtol=0)
        torch.testing.assert_close(found.satisfaction[:, 0], whole.satisfaction[:, turn], atol=1e-5, rtol=0)


def compare_turn(found, whole, row, turn):
    names = found._fields if isinstance(found, tuple) else [field.name for field in dataclasses.fields(found)]
    for name in names:
        one = getattr(found, name)
        if torch.is_tensor(one) and one.ndim == 3:
            torch.testing.assert_close(one[0, 0], getattr(whole, name)[row, turn], atol=1e-5, rtol=0)


def test_all_parameters_learn(host):
    model = CEM(host.train(), CEMConfig(beta=1.0))
    batch = make_batch(lengths=(7, 6, 5))
    batch.satisfaction[2] = 1
    model(batch).loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    still = {name for name, parameter in model.named_parameters() if not parameter.grad.abs().max() > 0}
    assert still == set()


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("hgrou", {}, ValueError, "hgru, dami_lite, rssn and hf:<model>"),
        ("hgru", {}, TypeError, "vocab_size"),
        ("hgru", {"vocab_size": 9, "depth": 2}, TypeError, "depth"),
        ("hgru", {"vocab_size": 0}, ValueError, "vocab_size is 0"),
        ("hgru", {"vocab_size": 9, "encoder": "cnn"}, ValueError, "'bag' or 'bigru'"),
        ("rssn", {"vocab_size": 9, "size": 7}, ValueError, "even"),
    ],
)
def test_a_host_that_cannot_be_built(name, options, error, words):
    with pytest.raises(error, match=words):
        HandoffModel.build(name, **options)


def test_a_bag_leaves_tokens_out_in_training_only():
    encoder = HandoffModel.build("hgru", vocab_size=VOCAB, token_dropout=0.5).encoder
    tokens = torch.arange(1, 21).reshape(1, 20)
    assert torch.equal(encoder.eval()(tokens), encoder(tokens))
    assert not torch.equal(encoder.train()(tokens), encoder(tokens))


def test_dialogues_have_no_longest_length():
    host = HandoffModel.build("rssn", vocab_size=VOCAB, size=8, embedding_size=8).eval()
    assert host(make_batch(lengths=(130, 3))).handoff_logits.shape == (2, 130, 2)
