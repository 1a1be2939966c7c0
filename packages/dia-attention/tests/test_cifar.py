"""The CIFAR networks: the papers' parameter counts, sizes, and the stress variants."""

import pytest
import torch
from dia_attention import cifar_resnet
from torch import nn
from torch.nn import functional as F


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_parameter_counts_of_the_paper():
    assert count(cifar_resnet(164, num_classes=100)) == 1_727_284
    assert count(cifar_resnet(164, num_classes=10)) == 1_704_154
    assert count(cifar_resnet(164, attention="dia", num_classes=100)) == 1_946_132


def test_initialisation():
    net = cifar_resnet(20)
    for weight, fan in ((net.layer3[1].conv2.weight, 9 * 64), (net.layer3[1].conv3.weight, 256)):  # k * k * C_out
        assert weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.02)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in norms)


@pytest.mark.parametrize("size", [(8, 8), (33, 17), (1, 1)])
@pytest.mark.parametrize("attention", [None, "dia"])
def test_any_image_size(size, attention):
    net = cifar_resnet(11, attention=attention, num_classes=7, in_channels=1).eval()
    assert net(torch.randn(1, 1, *size)).shape == (1, 7)


def by_hand(net, x, *, norm, skip):
    """The network from its state dict and torch.nn.functional, without attention, in training mode."""
    w = net.state_dict()

    def conv_norm(x, conv, bn, stride=1):
        weight = w[f"{conv}.weight"]
        x = F.conv2d(x, weight, w.get(f"{conv}.bias"), stride, weight.shape[-1] // 2)
        return F.batch_norm(x, None, None, w[f"{bn}.weight"], w[f"{bn}.bias"], training=True) if norm else x

    x = conv_norm(x, "conv1", "bn1").relu()
    for stage in (1, 2, 3):
        for block in (0, 1):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            z = conv_norm(x, f"{at}.conv1", f"{at}.bn1").relu()
            z = conv_norm(z, f"{at}.conv2", f"{at}.bn2", stride).relu()
            z = conv_norm(z, f"{at}.conv3", f"{at}.bn3")
            if skip:
                z = z + (conv_norm(x, f"{at}.downsample.0", f"{at}.downsample.1", stride) if block == 0 else x)
            x = z.relu()
    return F.linear(x.mean((2, 3)), w["fc.weight"], w["fc.bias"])


@pytest.mark.parametrize("norm", ["batch", None])
@pytest.mark.parametrize("skip", ["all", "none"])
def test_equals_the_network_by_hand(norm, skip):
    net = cifar_resnet(20, norm=norm, skip=skip).double()
    x = torch.randn(3, 3, 12, 12, dtype=torch.float64)
    expected = by_hand(net, x, norm=norm is not None, skip=skip == "all")
    torch.testing.assert_close(net(x), expected, rtol=1e-10, atol=1e-10)


def test_stress_variants_have_no_norm_and_no_projection():
    net = cifar_resnet(20, norm=None, skip="none")
    kinds = [type(module) for module in net.modules()]
    assert nn.BatchNorm2d not in kinds
    assert not [key for key in net.state_dict() if "downsample" in key]
    assert all(m.bias is not None and (m.bias == 0).all() for m in net.modules() if isinstance(m, nn.Conv2d))
    assert count(cifar_resnet(20, skip="none")) < count(cifar_resnet(20))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 21}, r"depth=21 must be 9n \+ 2"),
        ({"depth": 2}, "depth=2 must be"),
        ({"depth": 11, "norm": "layer"}, "norm='layer'"),
        ({"depth": 11, "skip": "some"}, "skip='some'"),
        ({"depth": 11, "attention": "dai"}, "did you mean 'dia'"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        cifar_resnet(**arguments)
