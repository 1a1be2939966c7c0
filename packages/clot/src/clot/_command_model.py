"""What every command that needs a model asks for."""

from dataclasses import dataclass
from pathlib import Path

from ._backend import Backend
from ._nouns import NounSet
from ._open import open_backend
from ._scorers import ScorerName
from ._stages import Sampling


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which model, and where."""

    model: str
    """A folder, a name that transformers loads, the model of a server, or echo for a rule without a model."""
    server: str | None = None
    """Address of an OpenAI-compatible server, with /v1."""
    adapter: Path | None = None
    """Folder of an adapter that train wrote."""
    device: str = "auto"
    concurrency: int = 8
    """Requests under way at once, for a server."""

    def open(self, log: Path | None = None) -> Backend:
        """Load the model, or reach its server, which logs tokens and cost to a file."""
        return open_backend(
            self.model,
            server=self.server,
            adapter=self.adapter,
            device=self.device,
            concurrency=self.concurrency,
            log=log if self.server else None,
        )


@dataclass(frozen=True, kw_only=True)
class LeapConfig(ModelConfig):
    """How answers are drawn under conditions, and judged."""

    nouns: Path | None = None
    """What conditions are drawn from: the file that the command nouns wrote. Without it, rho must be 1."""
    n: int = 5
    """Answers to a prompt, of which one is chosen."""
    rho: float = 0.5
    """Probability of an empty condition."""
    scorer: ScorerName = "letter"
    """How the model ranks and selects."""
    max_new_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    templates: tuple[Path, ...] = ()
    """Files with wording of one's own."""
    seed: int = 0

    def noun_set(self) -> NounSet:
        """Read the nouns."""
        if self.nouns is not None:
            return NounSet.load(self.nouns)
        if self.rho < 1:
            raise ValueError("there is nothing to draw conditions from: name --nouns FILE (clot nouns), or set --rho 1")
        return NounSet()

    def sampling(self) -> Sampling:
        """How answers are drawn."""
        return Sampling(self.max_new_tokens, self.temperature, self.top_p)
