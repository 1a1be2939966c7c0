"""A seeded customer service in English whose users, logged decisions and both potential costs are known."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp

import numpy as np
from numpy.typing import NDArray

from cem_mhch._types import Dialogue, Turn

from . import _phrases as say

NEGATIVE, NEUTRAL, POSITIVE = 0, 1, 2


@dataclass(frozen=True)
class Simulation:
    """Simulated dialogues and what no log would tell.

    Attributes:
        dialogues: Text, handoff, sentiment, satisfaction, and the logged action, its propensity and the cost seen.
        frustration: For each dialogue `(T,)`, the user's state in [0, 1] after the turn.
        potential: For each dialogue `(T, 2)`, the costs of do(no handoff) and do(handoff).
    """

    dialogues: list[Dialogue]
    frustration: list[NDArray[np.float64]]
    potential: list[NDArray[np.float64]]


def simulate(count: int, *, seed: int = 0, noise: float = 0.3) -> Simulation:
    """Draw dialogues between a user and a bot.

    The user has one of five intents and a patience; the bot answers rightly or fails, more often on hard cases. A
    failure moves the frustration f to f + (1 - f) s with s from the user's impatience, a right answer to 0.4 f. A user
    turn is negative where f > 0.6, often in plain words, and transferable where it is negative or asks for a person. A
    bot turn is transferable from the third failure in a row on.

    The logged policy hands over with probability 0.08 + 0.84 sigmoid(8 f - 4); each turn is a decision of its own, the
    dialogue goes on. Costs with label y and noise e, e': c(0) = 4 y + f + e, c(1) = 2 - y + e', so that turns that were
    handed over are not like the others, and their mean cost is a biased estimate.

    Args:
        count: Dialogues, at least 1.
        seed: The same seed and count give the same dialogues, and larger counts begin with them.
        noise: Standard deviation of the costs' noise, >= 0.

    Raises:
        ValueError: A value is outside its range.

    Example:
        >>> found = simulate(2, seed=1)
        >>> found.dialogues[0].turns[0].role, found.potential[0].shape[1]
        ('user', 2)
    """
    if count < 1 or not noise >= 0:
        raise ValueError(f"count is {count} and noise {noise}; give at least 1 dialogue and a noise >= 0")
    drawn = [_Session(random.Random(f"{seed}/{number}"), noise).run(f"sim-{seed}-{number}") for number in range(count)]
    return Simulation([one[0] for one in drawn], [one[1] for one in drawn], [one[2] for one in drawn])


class _Session:
    def __init__(self, rng: random.Random, noise: float) -> None:
        self.rng, self.noise = rng, noise
        self.intent = rng.choice(list(say.INTENTS))
        self.impatience = rng.uniform(0.25, 0.65)
        self.failure = rng.choice((0.15, 0.35, 0.75))  # easy, usual and hard cases
        self.frustration, self.failures = rng.uniform(0.0, 0.25), 0
        self.turns: list[Turn] = []
        self.states: list[float] = []

    def run(self, name: str) -> tuple[Dialogue, NDArray[np.float64], NDArray[np.float64]]:
        """One whole dialogue with its states and potential costs."""
        self._talk()
        costs = np.array([self._costs(turn, state) for turn, state in zip(self.turns, self.states, strict=True)])
        logged = tuple(self._decide(*row) for row in zip(self.turns, self.states, costs.tolist(), strict=True))
        end = self.frustration
        satisfaction = 0 if end > 0.6 else 1 if end > 0.25 else 2
        return Dialogue(id=name, turns=logged, satisfaction=satisfaction), np.array(self.states), costs

    def _talk(self) -> None:
        rng = self.rng
        self._user(say.REQUEST, NEUTRAL)
        if rng.random() < 0.6:
            self._bot(say.BOT_ASK)
            self._user(say.USER_ANSWER, NEUTRAL)
        problems = rng.choice((1, 1, 2, 3))
        while problems and len(self.turns) < 24:
            if rng.random() < self.failure:
                self.failures += 1
                self.frustration += (1 - self.frustration) * self.impatience
                self._bot(say.BOT_FAIL)
                if not self._react():
                    return
            else:
                self.failures = 0
                self.frustration *= 0.4
                self._bot(say.BOT_SOLVE)
                problems -= 1
                if problems:
                    self.intent = rng.choice(list(say.INTENTS))
                    self._user(say.REQUEST, NEUTRAL)
        self._user(say.USER_THANKS if self.frustration < 0.6 else say.USER_LEAVE, POSITIVE)

    def _react(self) -> bool:
        """What the user says to a failure; False where the user leaves."""
        rng, angry = self.rng, self.frustration > 0.6
        if angry and rng.random() < 0.12:
            self._user(say.USER_LEAVE, NEGATIVE)
            return False
        if rng.random() < (0.25 if angry else 0.05):
            self._user(say.USER_PERSON, NEUTRAL, asks=True)
        elif angry:
            self._user(say.USER_TIRED if rng.random() < 0.35 else say.USER_ANGRY, NEGATIVE)
        else:
            self._user(say.USER_TIRED if rng.random() < 0.15 else say.USER_CALM_AGAIN, NEUTRAL)
        return True

    def _user(self, phrases: Sequence[str], sentiment: int, *, asks: bool = False) -> None:
        if self.frustration > 0.6:
            sentiment = NEGATIVE
        self._say("user", phrases, int(sentiment == NEGATIVE or asks), sentiment)

    def _bot(self, phrases: Sequence[str]) -> None:
        self._say("bot", phrases, int(self.failures >= 3), NEUTRAL)

    def _say(self, role: str, phrases: Sequence[str], handoff: int, sentiment: int) -> None:
        thing = self.rng.choice(say.INTENTS[self.intent])
        text = self.rng.choice(phrases).format(it=thing, n="{n}").format(n=self.rng.randint(100, 999))
        self.turns.append(Turn(role=role, text=text, handoff=handoff, sentiment=sentiment))
        self.states.append(self.frustration)

    def _costs(self, turn: Turn, state: float) -> tuple[float, float]:
        stay = 4.0 * (turn.handoff or 0) + state + self.rng.gauss(0.0, self.noise)
        return stay, 2.0 - (turn.handoff or 0) + self.rng.gauss(0.0, self.noise)

    def _decide(self, turn: Turn, state: float, costs: Sequence[float]) -> Turn:
        chance = 0.08 + 0.84 / (1 + exp(4 - 8 * state))
        action = int(self.rng.random() < chance)
        return replace(turn, action=action, propensity=chance if action else 1 - chance, cost=costs[action])
