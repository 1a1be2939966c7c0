"""One seed of the demo: base, instruction tuning, evaluation, refinement with a crash, training again, evaluation."""

import json
import random
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oogiri_go import Record, group_key, split

from ._backend import Backend, Generation, OptionLogprobs, OptionRequest, Request
from ._evaluate import evaluate
from ._evaluation import Evaluation
from ._gates import Gates
from ._instructions import InstructionMix, build_instructions
from ._nouns import NounSet
from ._question import Game
from ._refine import Refinement, Restart, self_refine
from ._scorers import ScorerName
from ._stages import Sampling
from ._templates import Templates
from ._world import World, make_world
from .distractors import Distractors

GAMES: tuple[Game, ...] = ("I2T",)
_BASE_SEED = 1000


@dataclass(frozen=True)
class Profile:
    """Sizes of a demo, as its protocol file has them.

    Attributes:
        seeds: Number of seeds.
        prompts: Prompts of a seed's world.
        test: Share of them for testing.
        base: Steps of the literal base.
        base_lr: Its learning rate.
        tune: Steps of instruction tuning.
        tune_lr: The learning rate of instruction tuning.
        rank: The adapter's rank.
        refine: Prompts of refinement.
        candidates: Candidates of each.
        again: Steps of the training on the mixture.
        again_lr: Its learning rate.
    """

    seeds: int
    prompts: int
    test: float
    base: int
    base_lr: float
    tune: int
    tune_lr: float
    rank: int
    refine: int
    candidates: int
    again: int
    again_lr: float

    @classmethod
    def read(cls, path: Path) -> "Profile":
        """Read a protocol file; what it says in words is for people."""
        data = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{name: data[name] for name in cls.__dataclass_fields__})


class Crash(BaseException):
    """The simulated end of the process; nothing catches it on the way."""


class Mortal:
    """A backend that crashes at the given call."""

    def __init__(self, backend: Backend, calls: int) -> None:
        self._backend = backend
        self._left = calls
        self.digest = backend.digest

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Crash

    def generate(self, requests: Sequence[Request]) -> list[Generation]:
        """Answer, or crash."""
        self._count()
        return self._backend.generate(requests)

    def option_logprobs(self, requests: Sequence[OptionRequest]) -> list[OptionLogprobs]:
        """Score, or crash."""
        self._count()
        return self._backend.option_logprobs(requests)


def wording(folder: Path) -> Templates:
    """The demo's own wording, as short as two layers need it: a file such as any user may put in the place of ours."""
    prefix = {"T2T": "{question}\n", "I2T": "", "IT2T": "{question}\n"}
    kinds = {
        "generate": "Be funny.",
        "condition": "Be funny.\nCondition: {condition}",
        "select": "Choose {n}.\n{options}",
        "rank": "Rank.\n{options}",
    }
    data: dict[str, Any] = {"lang": "en"}
    data |= {kind: {game: [head + text] for game, head in prefix.items()} for kind, text in kinds.items()}
    path = folder / "wording.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return Templates(path)


def load_torch() -> None:
    """Import what takes long."""
    from .integrations import hf, training  # noqa: F401


def make_base(folder: Path, profile: Profile, device: str) -> Path:
    """Build the tiny model and teach it to describe: it knows the words and the pictures, and no joke."""
    from .integrations.tiny import save_tiny
    from .integrations.training import AITOptions, train_ait

    world = make_world(seed=_BASE_SEED, prompts=150, test=0.0, games=GAMES)
    templates = wording(folder)
    asked = [
        templates.render(kind, "en", game, question="", condition="", options=["."] * 5)
        for kind in ("generate", "condition", "select", "rank")
        for game in ("T2T", "I2T", "IT2T")
    ]
    if not (folder / "empty").exists():
        save_tiny(folder / "empty", texts=[*world.texts(), *asked])
    options = AITOptions(
        steps=profile.base,
        batch=32,
        micro_batch=32,
        lr=profile.base_lr,
        weight_decay=0.01,
        weighting="example",
        save_every=1000,
    )
    return train_ait(
        folder / "empty", world.literal(), out=folder / "literal", lora=None, options=options, device=device
    ).folder


def run_seed(out: Path, base: Path, seed: int, profile: Profile, device: str) -> dict[str, Any]:
    """Run one seed and give its numbers."""
    return _Seed(out, base, seed, profile, device).run()


class _Seed:
    def __init__(self, out: Path, base: Path, seed: int, profile: Profile, device: str) -> None:
        self._out = out
        self._base = base
        self._seed = seed
        self._profile = profile
        self._device = device
        self._templates = wording(out)
        self._world: World = make_world(seed=seed, prompts=profile.prompts, test=profile.test, games=GAMES)
        parts = split(self._world.split("train"), seed=seed, ratios=(0.7, 0.3, 0.0))
        self._train, self._held_out = parts.train, parts.validation  # the test prompts stay for the evaluation
        literals = {group_key(one): self._world.captions[one.image] for one in self._world.records if one.image}
        self._distractors = Distractors(self._world.records, literals=literals, seed=seed)
        self._nouns = NounSet.from_words(self._world.nouns, "en")

    def run(self) -> dict[str, Any]:
        found = {"base": self._evaluated(self._backend(None), "base")}
        first = self._trained(self._train, self._out / "ait", self._profile.tune, self._profile.tune_lr)
        tuned = self._backend(first)
        found["AIT"] = self._evaluated(tuned, "ait")
        refined, same = self._refined(tuned, first)
        found["CLoT"] = self._evaluated(refined.backend, "clot")
        letters = self._asked(refined.backend, "letters", ["3T1", "rank"], scorer="letter", control=False)
        pmi = self._asked(refined.backend, "pmi", ["3T1"], scorer="pmi")
        return {
            "seed": self._seed,
            "stages": {name: one.to_dict(rows=False) for name, one in found.items()},
            "pmi": pmi.to_dict(rows=False),
            "letters": letters.to_dict(rows=False),
            "letter rows": list(letters.rows),
            "rounds": [dict(one.summary) for one in refined.rounds],
            "same after the crash": same,
            "losses": _losses(self._out / "ait" / "metrics.jsonl"),
            "examples": self._examples(refined.backend),
        }

    def _backend(self, adapter: Path | None) -> Any:
        from .integrations.hf import HFBackend

        return HFBackend.from_pretrained(self._base, adapter=adapter, device=self._device)

    def _evaluated(self, backend: Backend, name: str) -> Evaluation:
        return self._asked(backend, name, ["2T1", "3T1", "rank"], scorer="content")

    def _asked(
        self, backend: Backend, name: str, tasks: Sequence[str], *, scorer: ScorerName, control: bool = True
    ) -> Evaluation:
        found = evaluate(
            backend,
            self._world.split("test"),
            tasks=tasks,
            scorer=scorer,
            distractors=self._distractors,
            pictures=self._world.pictures,
            templates=self._templates,
            control=control,
            seed=self._seed,
        )
        found.save(self._out / f"{name}.json")
        return found

    def _trained(
        self, records: Sequence[Record], out: Path, steps: int, lr: float, adapter: Path | None = None
    ) -> Path:
        from .integrations.training import AITOptions, LoRA, train_ait

        mix = InstructionMix(answer=0.94, select=0.04, rank=0.02, mask=0.0, per_record=3, tasks=("2T1", "3T1"))
        instructions = list(
            build_instructions(
                records,
                mix,
                seed=self._seed,
                nouns=self._held,
                distractors=self._distractors,
                pictures=self._world.pictures,
                templates=self._templates,
            )
        )
        options = AITOptions(
            steps=steps,
            batch=16,
            micro_batch=12,
            lr=lr,
            weight_decay=0.0,
            weighting="example",
            seed=self._seed,
            save_every=1000,
        )
        lora = LoRA(r=self._profile.rank, alpha=2 * self._profile.rank, dropout=0.0)
        return train_ait(
            self._base, instructions, out=out, options=options, lora=lora, adapter=adapter, device=self._device
        ).folder

    def _held(self, record: Record) -> list[str]:
        words = record.text.rstrip(".").split()
        return [one for one in self._world.nouns if one in words]

    def _refined(self, backend: Backend, adapter: Path) -> tuple[Refinement, bool]:
        """Crash at a call that the seed decides, go on, and hold the ledger against one that did not crash."""

        def retrain(round: int, records: Sequence[Record], *, restart: Restart, out: Path) -> Backend:
            start = adapter if restart == "previous" else None
            trained = self._trained(records, out, self._profile.again, self._profile.again_lr, start)
            return self._backend(trained)  # type: ignore[no-any-return]

        at = random.Random(f"crash {self._seed}").randrange(3, 9)
        whole, killed = self._out / "uninterrupted", self._out / "refine"
        with suppress(Crash):  # what it leaves behind is gone on with
            if not (killed / "ledger.jsonl").exists():
                self._refine(Mortal(backend, at), killed)
        refined = self._refine(backend, killed, retrain=retrain)
        shutil.rmtree(whole, ignore_errors=True)
        self._refine(backend, whole)
        same = all(
            (killed / name).read_bytes() == (whole / name).read_bytes()
            for name in ("ledger.jsonl", "round-1/kept.jsonl")
        )
        return refined, same

    def _refine(self, backend: Backend, out: Path, retrain: Any = None) -> Refinement:
        return self_refine(
            backend, self._train, self._nouns, out=out, n=self._profile.candidates, limit=self._profile.refine, batch=6,
            gates=Gates(repetition=0.6), scorer="pmi", sampling=Sampling(max_new_tokens=16, temperature=0.7),
            held_out=self._held_out, min_discrimination=0.0, retrain=retrain, pictures=self._world.pictures,
            templates=self._templates, seed=self._seed,
        )  # fmt: skip

    def _examples(self, backend: Backend) -> list[dict[str, str]]:
        from ._pipeline import CLoTPipeline

        some = list({group_key(one): one for one in self._world.split("test")}.values())[:4]
        pipeline = CLoTPipeline(
            backend, self._nouns, n=4, scorer="pmi", templates=self._templates, seed=self._seed,
            sampling=Sampling(max_new_tokens=16, temperature=0.7),
        )  # fmt: skip
        leaps = pipeline.answer(some, pictures=self._world.pictures)
        return [
            {
                "picture": self._world.captions[one.image or ""],
                "answer": leap.text,
                "liked most": _best(one, self._world),
            }
            for one, leap in zip(some, leaps, strict=True)
        ]


def _best(record: Record, world: World) -> str:
    group = [one for one in world.records if one.image == record.image]
    return max(group, key=lambda one: one.star or 0).text


def _losses(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Loss by kind and step, as the training logged it."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for name, value in row.items():
            if name.startswith("loss_"):
                found.setdefault(name.removeprefix("loss_"), []).append((row["step"], value))
    return found
