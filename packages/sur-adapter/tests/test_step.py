"""The losses of a training step, against formulas and against what the authors' code fails to do."""

import dataclasses

import pytest
import torch
from sur_adapter import SURAdapter
from sur_adapter._noise import linear_flow
from sur_adapter._projector import TeacherProjector
from sur_adapter._step import Step, Weights
from sur_adapter._student import Batch, Student
from sur_adapter.losses import kd, match, preservation
from torch import nn

ONLY = {"diffusion": 0.0, "prompt": 0.0, "teacher": 0.0, "preservation": 0.0}


class Reader(nn.Module):
    """A frozen denoiser that reads the text."""

    def __init__(self):
        super().__init__()
        self.read = nn.Linear(16, 12)
        self.requires_grad_(False)

    def forward(self, noisy, time, states, extra):
        shift = self.read(states["text_encoder"]).mean(1).view(-1, 3, 2, 2)
        return noisy * time.view(-1, 1, 1, 1) + torch.tanh(shift)


def adapter(**options):
    torch.manual_seed(0)
    made = SURAdapter(16, num_heads=2, ff_dim=32, **options)
    nn.init.normal_(made.fc.weight, std=0.3)
    return made


def batch(rows=4, **changes):
    g = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    made = Batch(
        latents=draw(rows, 3, 2, 2),
        narrative={"text_encoder": draw(rows, 5, 16)},
        complex={"text_encoder": draw(rows, 5, 16)},
        teacher=draw(rows, 7),
        narrative_mask={"text_encoder": torch.arange(5).repeat(rows, 1) < 3},
        complex_mask={"text_encoder": torch.arange(5).repeat(rows, 1) < 4},
    )
    return dataclasses.replace(made, **changes)


def student(**options):
    made = adapter(**options)
    return Student({"text_encoder": made}, {"text_encoder": TeacherProjector(7, made.width)})


def draws(rows=4):
    g = torch.Generator().manual_seed(2)
    return torch.rand(rows, generator=g), torch.randn(rows, 3, 2, 2, generator=g)


def test_every_term_is_its_formula():
    data, net, denoiser = batch(), student(), Reader()
    (u, eps), weights = draws(), Weights(diffusion=0.7, prompt=0.2, teacher=0.3, preservation=0.4)
    found = Step(denoiser, linear_flow, weights=weights)(net, data, u, eps)
    x, y = data.narrative["text_encoder"], data.complex["text_encoder"]
    out, h, _ = net.adapter("text_encoder")(x, return_intermediates=True)
    kept = net.adapter("text_encoder")(y)
    s = u.view(-1, 1, 1, 1)
    prediction = denoiser((1 - s) * data.latents + s * eps, u, {"text_encoder": out}, {})
    expected = {"diffusion": (prediction - (eps - data.latents)).square().mean()}
    text = data.complex_mask["text_encoder"]
    expected["prompt"] = kd(y, out, mask=text)
    linear = net.projectors["text_encoder"].linear
    expected["teacher"] = kd(data.teacher[:, None], linear(h), mask=data.narrative_mask["text_encoder"])
    expected["preservation"] = ((kept - y).square().sum((1, 2)) / y.square().sum((1, 2))).mean()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    total = sum(getattr(weights, name) * value for name, value in expected.items())
    torch.testing.assert_close(found["loss"], total)


def test_rows_weigh_as_the_noising_says():
    def weighed(latents, eps, u):
        return linear_flow(latents, eps, u)._replace(weight=torch.tensor([4.0, 0.0, 0.0, 0.0]))

    data, net, reader, (u, eps) = batch(), student(), Reader(), draws()
    only = Weights(**ONLY | {"diffusion": 1.0})
    found = Step(reader, weighed, weights=only)(net, data, u, eps)["diffusion"]
    first = dataclasses.replace(
        data,
        latents=data.latents[:1],
        narrative={slot: value[:1] for slot, value in data.narrative.items()},
        teacher=data.teacher[:1],
    )
    torch.testing.assert_close(found, Step(reader, linear_flow, weights=only)(net, first, u[:1], eps[:1])["diffusion"])


@pytest.mark.parametrize("detach", [False, True])
def test_the_diffusion_loss_alone_reaches_the_adapter(detach):
    net = student()
    step = Step(Reader(), linear_flow, weights=Weights(**ONLY | {"diffusion": 1.0}), detach_diffusion=detach)
    loss = step(net, batch(), *draws())["loss"]
    assert loss.requires_grad is not detach
    if not detach:
        loss.backward()
        for name, parameter in net.adapters.named_parameters():
            if "linear" not in name:  # a relu may be silent on so few tokens
                assert parameter.grad is not None, name
                assert parameter.grad.abs().sum() > 0, name


def test_a_fresh_adapter_is_reached_too():
    net = Student({"text_encoder": SURAdapter(16, num_heads=2, ff_dim=32)})
    step = Step(Reader(), linear_flow, weights=Weights(**ONLY | {"diffusion": 1.0}))
    step(net, batch(), *draws())["loss"].backward()
    assert net.adapter("text_encoder").fc.weight.grad.abs().max() > 1e-6


def test_gradient_of_the_step_is_the_derivative():
    net, denoiser = student().double(), Reader().double()
    data = batch(2)
    wide = {name: value.double() for name, value in data.narrative.items()}
    data = dataclasses.replace(
        data,
        latents=data.latents.double(),
        narrative=wide,
        complex={name: value.double() for name, value in data.complex.items()},
        teacher=data.teacher.double(),
    )
    u, eps = (value.double() for value in draws(2))
    step, weight = Step(denoiser, linear_flow), net.adapter("text_encoder").fc.weight
    step(net, data, u, eps)["loss"].backward()
    delta = torch.randn(weight.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * 1e-5 * delta
            values.append(step(net, data, u, eps)["loss"].item())
            weight -= sign * 1e-5 * delta
    assert (values[0] - values[1]) / 2e-5 == pytest.approx((weight.grad * delta).sum().item(), rel=1e-6)


def test_terms_without_weight_are_not_computed():
    data = batch(latents=None, teacher=None)
    found = Step(None, None, weights=Weights(**ONLY | {"prompt": 1.0}))(student(), data)
    assert found.keys() == {"loss", "prompt"}


def test_the_mask_reaches_only_an_adapter_that_asks_for_it():
    data, seen = batch(), []
    for masked in (False, True):
        net = student(mask_padding=masked)
        moved = data.narrative["text_encoder"].clone()
        moved[:, 4] += 5
        first = net(data).narrative["text_encoder"][:, 0]
        second = net(dataclasses.replace(data, narrative={"text_encoder": moved})).narrative["text_encoder"][:, 0]
        seen.append(torch.equal(first, second))
    assert seen == [False, True]


def test_the_loss_falls_and_preservation_holds_complex_prompts():
    moved = {}
    for weight in (0.0, 10.0):
        net = student(scale=1.0)
        step = Step(Reader(), linear_flow, weights=Weights(preservation=weight))
        optimizer = torch.optim.Adam(net.parameters(), 3e-3)
        losses = []
        for _ in range(60):
            optimizer.zero_grad()
            found = step(net, batch(), *draws())
            found["loss"].backward()
            optimizer.step()
            losses.append(found["loss"].item())
        assert losses[-1] < 0.8 * losses[0]
        after = net.adapter("text_encoder")(batch().complex["text_encoder"])
        moved[weight] = preservation(batch().complex["text_encoder"], after).item()
    assert moved[10.0] < 0.1 * moved[0.0]


def test_match_against_its_formulas():
    a, b = torch.randn(2, 1, 6), torch.randn(2, 3, 6)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    mse = sum(((b[i, j] - a[i, 0]) ** 2).mean() for i, j in ((0, 0), (0, 1), (1, 0))) / 3
    torch.testing.assert_close(match(a, b, kind="mse", mask=mask), mse)
    cosine = 1 - torch.nn.functional.cosine_similarity(a, b, dim=-1).mean()
    torch.testing.assert_close(match(a, b, kind="cosine"), cosine)
    assert torch.equal(match(a, b, kind="kl", mask=mask), kd(a, b, mask=mask))
    assert match(a, b, kind="mse", mask=torch.zeros(2, 3, dtype=torch.bool)).item() == 0


@pytest.mark.parametrize("kind", ["kl", "mse", "cosine"])
def test_the_target_gets_no_gradient(kind):
    a, b = torch.randn(2, 3, 6, requires_grad=True), torch.randn(2, 3, 6, requires_grad=True)
    match(a, b, kind=kind).backward()
    assert a.grad is None
    assert b.grad.abs().sum() > 0


def test_bad_input_of_the_step():
    with pytest.raises(ValueError, match="needs a denoiser"):
        Step(None, None)
    with pytest.raises(ValueError, match="no loss reaches"):
        Weights(**ONLY | {"teacher": 1.0})
    with pytest.raises(ValueError, match="teacher loss is nan"):
        Weights(teacher=float("nan"))
    with pytest.raises(ValueError, match="no teacher vectors"):
        Step(Reader(), linear_flow)(student(), batch(teacher=None), *draws())
    with pytest.raises(ValueError, match="needs latents"):
        Step(Reader(), linear_flow)(student(), batch(latents=None), *draws())
    with pytest.raises(ValueError, match="no projector"):
        Step(Reader(), linear_flow)(Student({"text_encoder": adapter()}), batch(), *draws())
    with pytest.raises(ValueError, match="gave shape"):
        Step(lambda noisy, t, states, extra: noisy[:, :1], linear_flow)(student(), batch(), *draws())
    with pytest.raises(ValueError, match="expects width 3"):
        Student({"a": adapter()}, {"a": TeacherProjector(7, 3)})
    with pytest.raises(ValueError, match="projectors for"):
        Student({"a": adapter()}, {"b": TeacherProjector(7, 16)})
    with pytest.raises(ValueError, match="no adapter"):
        Student({})
    with pytest.raises(ValueError, match="kind is 'l1'"):
        match(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2), kind="l1")
    with pytest.raises(ValueError, match="must agree"):
        preservation(torch.zeros(1, 1, 2), torch.zeros(1, 2, 2))
