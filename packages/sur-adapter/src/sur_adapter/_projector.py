"""Where the teacher's vectors and the adapter's encoder states meet; used in training only.

Differences from the authors' code:
    - Theirs maps the teacher to the student's width by a random layer that is neither trained nor saved. A trained
      layer on that side would make the target: it could map every text to the same vector. The trained projector
      therefore stands on the student's side, as the regressor of FitNets, and the target is the teacher's own vector,
      standardised over the training texts, because raw language-model states have channels a hundred times the others.
    - ``side="teacher"`` is theirs, drawn from a seed and saved.

References:
    - Romero et al.: FitNets: Hints for Thin Deep Nets. 2014, arXiv 1412.6550.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from sail_core.runs import write_atomic
from torch import Tensor, nn
from torch.nn import functional as F


class TeacherProjector(nn.Module):
    """A linear map between the encoder states h and the teacher's vectors t.

    ``side="student"``: target ``(t - mean) / std``, student ``W h + b``, trained.
    ``side="teacher"``: target ``W t + b`` with fixed random W and b, student ``h``.

    Args:
        teacher_dim: Width of the teacher's vectors.
        hidden_size: Width of the encoder states: ``SURAdapter.width``.
        side: See above.
        device: Of the parameters.
        dtype: Of the parameters.

    Example:
        >>> projector = TeacherProjector(384, 64)
        >>> target, student = projector(torch.randn(2, 384), torch.randn(2, 77, 64))
        >>> target.shape, student.shape
        (torch.Size([2, 1, 384]), torch.Size([2, 77, 384]))
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        teacher_dim: int,
        hidden_size: int,
        *,
        side: Literal["student", "teacher"] = "student",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if side not in ("student", "teacher"):
            raise ValueError(f"side is {side!r}; it must be 'student' or 'teacher'")
        if min(teacher_dim, hidden_size) < 1:
            raise ValueError(f"widths are {teacher_dim} and {hidden_size}; both must be positive")
        self.teacher_dim, self.hidden_size, self.side = teacher_dim, hidden_size, side
        fan = (hidden_size, teacher_dim) if side == "student" else (teacher_dim, hidden_size)
        self.linear = nn.Linear(*fan, device=device, dtype=dtype).requires_grad_(side == "student")
        self.register_buffer("mean", torch.zeros(teacher_dim, device=device))
        self.register_buffer("std", torch.ones(teacher_dim, device=device))

    @torch.no_grad()
    def standardise(self, vectors: Tensor) -> None:
        """Take mean and standard deviation from the teacher's vectors of the training texts ``(n, teacher_dim)``."""
        wide = vectors.double()
        self.mean.copy_(wide.mean(0))
        std = wide.std(0, correction=0)
        self.std.copy_(torch.where(std > 1e-6 * wide.abs().amax(0).clamp(min=1e-12), std, torch.ones_like(std)))

    def forward(self, vectors: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """Bring both to one width.

        Args:
            vectors: The teacher's ``(B, teacher_dim)``.
            states: The encoder's ``(B, N, hidden_size)``.

        Returns:
            Target ``(B, 1, w)`` without a gradient, and student ``(B, N, w)``.

        Raises:
            ValueError: The vectors have another width.
        """
        if vectors.ndim != 2 or vectors.shape[-1] != self.teacher_dim:
            raise ValueError(
                f"the teacher's vectors have shape {tuple(vectors.shape)}; expected (B, {self.teacher_dim})"
            )
        if self.side == "teacher":
            return self.linear(vectors.to(self.linear.weight.dtype)).detach()[:, None], states
        target = (vectors.to(self.mean.dtype) - self.mean) / self.std
        return target[:, None], F.linear(states, self.linear.weight, self.linear.bias)


def save_projectors(path: str | os.PathLike[str], projectors: Mapping[str, TeacherProjector]) -> None:
    """Write the projectors of all slots as one safetensors file, atomically."""
    names = ("teacher_dim", "hidden_size", "side")
    facts = {slot: {name: getattr(one, name) for name in names} for slot, one in projectors.items()}
    tensors = {
        f"{slot}/{name}": value.detach().cpu().contiguous()
        for slot, one in projectors.items()
        for name, value in one.state_dict().items()
    }
    write_atomic(path, safetensors.torch.save(tensors, metadata={"projectors": json.dumps(facts)}))


def load_projectors(path: str | os.PathLike[str]) -> dict[str, TeacherProjector]:
    """Read what `save_projectors` wrote, by slot.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no projectors, or is damaged.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}; training writes projector.safetensors")
    projectors = {}
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["projectors"])
            for slot, fact in facts.items():
                projector = TeacherProjector(fact["teacher_dim"], fact["hidden_size"], side=fact["side"])
                names = projector.state_dict()
                projector.load_state_dict({name: file.get_tensor(f"{slot}/{name}") for name in names})
                projectors[slot] = projector.eval()
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{path} holds no projectors of this package ({error}); give what training wrote") from error
    return projectors
