"""How far drawn pictures are from real ones, in the features of a classifier trained here. It is not FID.

FID is defined by one Inception network; numbers of this file compare only with each other, and only beside the floor:
the same measure between two halves of the real pictures.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._data import Images, batch_indices


class Classifier(nn.Module):
    """A small convolutional net; its penultimate layer is the space that pictures are compared in.

    Args:
        channels: Of the pictures.
        classes: Number of classes.
        width: Number of features.

    Example:
        >>> Classifier(1, 10).features(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 64])
    """

    def __init__(self, channels: int, classes: int, *, width: int = 64) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width // 2, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width // 2, width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * width, width),
            nn.LayerNorm(width, elementwise_affine=False),  # features of one scale, so that distances are of order 1
        )
        self.head = nn.Linear(width, classes)

    def features(self, pixels: Tensor) -> Tensor:
        """Map pictures ``(N, C, H, W)`` to features ``(N, width)``."""
        return self.body(pixels)  # type: ignore[no-any-return]

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pictures ``(N, C, H, W)`` to logits ``(N, classes)``."""
        return self.head(self.features(pixels))  # type: ignore[no-any-return]


def train_classifier(images: Images, *, steps: int = 400, seed: int = 0) -> Classifier:
    """Train the classifier on real pictures; the same seed gives the same one.

    Args:
        images: Real pictures with labels.
        steps: Of AdamW with batches of 128.
        seed: Draws weights and batches.

    Returns:
        The classifier, in eval mode.

    Raises:
        ValueError: The pictures have no labels.
    """
    if images.labels is None:
        raise ValueError("these pictures have no classes to train a classifier on: the measure needs labels")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Classifier(images.pixels.shape[1], int(images.labels.max()) + 1)
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
    for step in range(steps):
        rows = batch_indices(len(images), min(128, len(images)), step, seed=seed)
        loss = F.cross_entropy(net(images.pixels[rows]), images.labels[rows])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return net.eval()


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """The squared 2-Wasserstein distance of the Gaussians with the moments of two samples.

    |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a^(1/2) S_b S_a^(1/2))^(1/2))

    Args:
        a: Features ``(N, D)``, N >= 2.
        b: Features ``(M, D)``, M >= 2.

    Returns:
        The distance, computed in float64, not negative. It is biased upwards by about tr(S) / N: compare equal N.

    Raises:
        ValueError: A sample has fewer than 2 rows or a value that is not finite.

    Example:
        >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        >>> round(frechet_distance(x, x + 1), 6)
        3.0
    """
    a, b = _checked(a), _checked(b)
    cov_a, cov_b = torch.cov(a.T).reshape(a.shape[1], -1), torch.cov(b.T).reshape(a.shape[1], -1)
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return max(0.0, float(distance))


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """The unbiased squared maximum mean discrepancy with the kernel ``(x.y / D + 1)^3``.

    Args:
        a: Features ``(N, D)``, N >= 2.
        b: Features ``(M, D)``, M >= 2.

    Returns:
        The estimate, in float64; around 0 for equal distributions, and then negative half of the time.

    Raises:
        ValueError: As `frechet_distance`.

    References:
        M. Binkowski et al., Demystifying MMD GANs, 2018, arXiv 1801.01401.
    """
    a, b = _checked(a), _checked(b)

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def off_diagonal_mean(k: Tensor) -> Tensor:
        return (k.sum() - k.trace()) / (len(k) * (len(k) - 1))

    return float(off_diagonal_mean(kernel(a, a)) + off_diagonal_mean(kernel(b, b)) - 2 * kernel(a, b).mean())


def precision_recall(real: Tensor, drawn: Tensor, *, k: int = 3) -> tuple[float, float]:
    """The share of drawn pictures near real ones, and of real pictures near drawn ones.

    Near is: within the ball around some picture of the other sample that reaches to its k-th neighbour there.

    Args:
        real: Features ``(N, D)``.
        drawn: Features ``(M, D)``.
        k: Which neighbour, 1 <= k < the smaller sample.

    Returns:
        Precision and recall in [0, 1].

    Raises:
        ValueError: ``k`` is out of range, or as `frechet_distance`.

    Example:
        >>> x = torch.arange(6.0)[:, None]
        >>> precision_recall(x, x + 100)
        (0.0, 0.0)

    References:
        T. Kynkaanniemi et al., Improved Precision and Recall Metric for Assessing Generative Models, 2019,
        arXiv 1904.06991.
    """
    real, drawn = _checked(real), _checked(drawn)
    if not 1 <= k < min(len(real), len(drawn)):
        raise ValueError(f"k is {k}; it must be at least 1 and less than the {min(len(real), len(drawn))} pictures")

    def covered(points: Tensor, by: Tensor) -> float:
        radii = torch.cdist(by, by).kthvalue(k + 1, dim=1).values  # the first neighbour is the point itself
        return float((torch.cdist(points, by) <= radii).any(1).double().mean())

    return covered(drawn, real), covered(real, drawn)


@dataclass(frozen=True)
class Quality:
    """Distances of drawn from real pictures in the classifier's features, beside the floor.

    Attributes:
        frechet: `frechet_distance`.
        kernel: `kernel_distance`.
        precision: Of `precision_recall`.
        recall: Of `precision_recall`.
        floor: Mean Frechet distance between disjoint halves of the real pictures, of the same size as the comparison.
        floor_spread: Standard deviation of that over the random halves.
    """

    frechet: float
    kernel: float
    precision: float
    recall: float
    floor: float
    floor_spread: float


@torch.no_grad()
def quality(classifier: Classifier, real: Tensor, drawn: Tensor, *, halvings: int = 10, seed: int = 0) -> Quality:
    """Compare drawn with real pictures.

    All Frechet distances use equal numbers of pictures, half of the real ones at most, so that they share their bias.

    Args:
        classifier: Whose features are compared.
        real: ``(N, C, H, W)``.
        drawn: ``(M, C, H, W)``.
        halvings: Random halvings of the real pictures for the floor, >= 2.
        seed: Draws them.

    Returns:
        The distances.

    Raises:
        ValueError: There are fewer than 8 real or 4 drawn pictures.
    """
    count = min(len(real) // 2, len(drawn))
    if count < 4:
        raise ValueError(f"{len(real)} real and {len(drawn)} drawn pictures are too few: give at least 8 and 4")
    classifier.eval()
    f_real, f_drawn = classifier.features(real).double(), classifier.features(drawn).double()
    generator = torch.Generator().manual_seed(seed)
    floors, distances = [], []
    for _ in range(halvings):
        order = torch.randperm(len(real), generator=generator)
        floors.append(frechet_distance(f_real[order[:count]], f_real[order[count : 2 * count]]))
        distances.append(frechet_distance(f_real[order[:count]], f_drawn[:count]))
    precision, recall = precision_recall(f_real, f_drawn)
    spread = torch.tensor(floors, dtype=torch.float64)
    return Quality(
        frechet=sum(distances) / halvings,
        kernel=kernel_distance(f_real, f_drawn),
        precision=precision,
        recall=recall,
        floor=float(spread.mean()),
        floor_spread=float(spread.std()),
    )


def _checked(features: Tensor) -> Tensor:
    if features.dim() != 2 or len(features) < 2:
        raise ValueError(f"features of shape {tuple(features.shape)} came; (N, D) with N >= 2 is needed")
    if not torch.isfinite(features).all():
        raise ValueError("a feature is not finite: the pictures hold NaN or infinity")
    return features.double()
