"""Prompts that a rule can answer, and a backend that follows the rule: all that refinement needs, without a model."""

import re

from clot import EchoBackend
from clot._draw import draw
from oogiri_go import Record, record_id

NOUNS = ("umbrella", "teapot", "dentist", "penguin", "opera", "toaster", "pirate", "moustache")


def records(prompts, answers=4, first=0):
    rows = []
    for at in range(first, first + prompts):
        question = f"Why is thing{at} late?"
        for star in range(answers):
            text = f"Because thing{at} {('slept', 'sang', 'melted', 'won')[star % 4]} by the lake, {star}."
            name = record_id(lang="en", type="T2T", question=question, image=None, text=text)
            rows.append(Record(name, "T2T", question, None, text, star, "en"))
    return rows


def write(request, _):
    """An answer about the question's thing, different for each seed, with the condition where there is one."""
    thing = re.search(r"thing\d+", request.prompt.text)[0]
    condition = re.search(r"Condition: (\w+)", request.prompt.text)
    verb = ("juggles", "marries", "paints", "forgets", "inflates")[request.seed % 5]
    noun = f"quilt{request.seed % 97}" if condition is None else condition[1]
    return f"{thing} {verb} its {noun} on day {request.seed % 1009}"


def judge(prompt, letter):
    """Options about the question's thing are better; which of those, a hash of the text decides."""
    thing = re.search(r"thing\d+", prompt.text)[0]
    option = re.search(rf"^{letter}\. (.*)$", prompt.text, re.MULTILINE)[1]
    return draw("joke", option) / 2**31 - (0 if f"{thing} " in option else 9)


class Joker(EchoBackend):
    """Counts what it is asked, by the kind of request."""

    def __init__(self, digest="joker", answer=write, logprob=judge):
        super().__init__(answer=answer, logprob=logprob, digest=digest)
        self.asked = []

    def generate(self, requests):
        self.asked += [one.id for one in requests]
        return super().generate(requests)

    def option_logprobs(self, requests):
        self.asked += [one.id for one in requests]
        return super().option_logprobs(requests)
