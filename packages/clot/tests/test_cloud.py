"""Cloud guessing: four options, one of them the folder's name."""

from collections import Counter

import pytest
from clot import EchoBackend, GenerateScorer, LetterScorer
from clot.cloud import DISTRACTORS, cloud_questions, guess


@pytest.fixture
def folder(tmp_path):
    for name in ("cat", "human", "giraffe"):
        (tmp_path / name).mkdir()
        for at in range(10):
            (tmp_path / name / f"{at:02d}.png").write_bytes(f"{name} {at}".encode())
        (tmp_path / name / "notes.txt").write_text("no picture", encoding="utf-8")
    return tmp_path


def test_questions(folder):
    asked = cloud_questions(folder)
    assert len(asked) == 3 * 10 * 3
    assert len({one.id for one in asked}) == 90
    assert asked == cloud_questions(folder)
    assert asked != cloud_questions(folder, seed=1)
    for one in asked:
        name = one.id.partition("/")[0]
        assert one.options[one.answer[0]] == name
        assert set(one.options) - {name} <= set(DISTRACTORS)
        assert one.prompt_head.image.decode().startswith(name)
    places = Counter(one.answer[0] for one in asked)
    assert set(places) == {0, 1, 2, 3}
    assert len({option for one in asked for option in one.options}) == 3 + len(DISTRACTORS)


@pytest.mark.parametrize("lang", ["en", "zh", "ja"])
def test_guesses(folder, lang):
    """A model that reads the picture's bytes is right, one that does not is at chance, a third is never read."""
    asked = cloud_questions(folder, lang=lang)
    texts = set()

    def see(prompt, letter):
        texts.add(prompt.text.partition("A. ")[0])
        told = next(line[3:] for line in prompt.text.splitlines() if line.startswith(f"{letter}. "))
        return 0.0 if prompt.image.decode().startswith(told) else -9.0

    found = guess(LetterScorer(EchoBackend(logprob=see)), asked)
    assert (found.accuracy, found.chance, found.parse_rate, found.questions) == (1.0, 0.25, 1.0, 90)
    assert found.by_category == {"cat": 1.0, "giraffe": 1.0, "human": 1.0}
    assert len(texts) == 3
    luck = guess(LetterScorer(EchoBackend()), asked)
    assert abs(luck.accuracy - 0.25) < 0.2
    assert luck.interval[0] <= luck.accuracy <= luck.interval[1]
    never = guess(GenerateScorer(EchoBackend(answer=lambda request, at: "?")), asked)
    assert (never.accuracy, never.parse_rate) == (0.0, 0.0)


def test_folders_that_cannot_be_asked_about(tmp_path, folder):
    with pytest.raises(FileNotFoundError):
        cloud_questions(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no picture"):
        cloud_questions(tmp_path / "empty")
    with pytest.raises(ValueError, match="2 distractors for 'cat'"):
        cloud_questions(folder, distractors=["chair", "cup", "CAT"])
    with pytest.raises(ValueError, match="at least 1 question"):
        cloud_questions(folder, variants=0)
    with pytest.raises(ValueError, match="no question"):
        guess(LetterScorer(EchoBackend()), [])
