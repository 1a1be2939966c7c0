import pytest
import torch
from sur_adapter._projector import TeacherProjector


def test_saved_and_loaded_it_is_the_same(tmp_path):
    for side in ("student", "teacher"):
        first = TeacherProjector(7, 16, side=side)
        first.standardise(torch.randn(20, 7) * 3 + 1)
        first.save(tmp_path / "projector.safetensors")
        second = TeacherProjector.load(tmp_path / "projector.safetensors")
        t, h = torch.randn(2, 7), torch.randn(2, 5, 16)
        assert second.side == side
        for one, other in zip(first(t, h), second(t, h), strict=True):
            assert torch.equal(one, other)


def test_sides():
    t, h = torch.randn(2, 7), torch.randn(2, 5, 16)
    target, student = TeacherProjector(7, 16, side="teacher")(t, h)
    assert (target.shape, student.shape, target.requires_grad) == ((2, 1, 16), (2, 5, 16), False)
    assert student is h
    assert not any(p.requires_grad for p in TeacherProjector(7, 16, side="teacher").parameters())
    target, student = TeacherProjector(7, 16)(t, h)
    assert (target.shape, student.shape, student.requires_grad) == ((2, 1, 7), (2, 5, 7), True)


def test_the_target_is_standardised_and_a_constant_channel_stays_finite():
    vectors = torch.randn(500, 7) * torch.tensor([1, 150, 1, 1, 1, 1, 0.0]) + 40
    projector = TeacherProjector(7, 16)
    projector.standardise(vectors)
    target, _ = projector(vectors, torch.randn(500, 1, 16))
    assert target[..., :6].mean(0).abs().max() < 1e-4
    torch.testing.assert_close(target[..., :6].std((0, 1), correction=0), torch.ones(6), rtol=1e-3, atol=1e-3)
    assert target[..., 6].abs().max() < 1e-3


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match=r"expected \(B, 7\)"):
        TeacherProjector(7, 16)(torch.randn(2, 8), torch.randn(2, 5, 16))
    with pytest.raises(ValueError, match="side is 'both'"):
        TeacherProjector(7, 16, side="both")
    with pytest.raises(FileNotFoundError, match="no file"):
        TeacherProjector.load(tmp_path / "projector.safetensors")
    TeacherProjector(7, 16).save(tmp_path / "projector.safetensors")
    whole = (tmp_path / "projector.safetensors").read_bytes()
    (tmp_path / "projector.safetensors").write_bytes(whole[:-9])
    with pytest.raises(ValueError, match="is no projector"):
        TeacherProjector.load(tmp_path / "projector.safetensors")
