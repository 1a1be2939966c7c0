import pytest
import safetensors.torch
import torch
from sur_adapter._projector import TeacherProjector, load_projectors, save_projectors


def test_saved_and_loaded_they_are_the_same(tmp_path):
    first = {"text_encoder": TeacherProjector(7, 16), "text_encoder_2": TeacherProjector(7, 16, side="teacher")}
    for projector in first.values():
        projector.standardise(torch.randn(20, 7) * 3 + 1)
    save_projectors(tmp_path / "projector.safetensors", first)
    second = load_projectors(tmp_path / "projector.safetensors")
    t, h = torch.randn(2, 7), torch.randn(2, 5, 16)
    assert second.keys() == first.keys()
    for slot, projector in first.items():
        assert second[slot].side == projector.side
        for one, other in zip(projector(t, h), second[slot](t, h), strict=True):
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
    path = tmp_path / "projector.safetensors"
    with pytest.raises(FileNotFoundError, match="no file"):
        load_projectors(path)
    save_projectors(path, {"text_encoder": TeacherProjector(7, 16)})
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match="holds no projectors"):
        load_projectors(path)
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="holds no projectors"):
        load_projectors(path)
