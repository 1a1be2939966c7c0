"""The prompt that a question is asked with."""

from collections.abc import Sequence

from ._backend import Prompt
from ._question import Question
from ._templates import Templates, game_of


def choice_prompt(templates: Templates, question: Question, options: Sequence[str]) -> Prompt:
    """Ask to choose among options, which stand in the order given."""
    text = templates.render(
        question.wording,
        question.lang,
        game_of(question.game, question.prompt_head.text),
        variant=question.variant,
        question=question.prompt_head.text,
        options=options,
        n=question.n_right,
        words=question.words,
    )
    return Prompt(text, question.prompt_head.image)


def rank_prompt(templates: Templates, question: Question) -> Prompt:
    """Ask for an order of all options."""
    head = question.prompt_head
    game = game_of(question.game, head.text)
    text = templates.render(
        "rank", question.lang, game, variant=question.variant, question=head.text, options=question.options
    )
    return Prompt(text, head.image)


def answer_prompt(templates: Templates, question: Question) -> Prompt:
    """Ask for an answer of one's own, which the options are then continuations of."""
    head = question.prompt_head
    game = game_of(question.game, head.text)
    text = templates.render("generate", question.lang, game, variant=question.variant, question=head.text)
    return Prompt(text, head.image)


def headless_prompt(templates: Templates, question: Question) -> Prompt:
    """The same without what is asked about: no picture, and dots for the question."""
    game = game_of(question.game, question.prompt_head.text)
    return Prompt(templates.render("generate", question.lang, game, variant=question.variant, question="..."))


def best(scores: Sequence[float], n: int) -> tuple[int, ...]:
    """Positions of the n highest scores, ascending; among equals the earlier one."""
    return tuple(sorted(sorted(range(len(scores)), key=lambda at: -scores[at])[:n]))
