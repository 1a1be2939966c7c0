"""Figures and the page of a dialogue: what they hold, and that nothing of a dialogue gets out of its place."""

from html.parser import HTMLParser

import pytest
import torch
from cem_mhch import CEM, CostModel, Dialogue, HandoffModel, Rules, StreamingScorer, Turn, Vocab, simulate
from cem_mhch.plots import draw_cost_recall, draw_reliability, draw_timeline, timeline, timeline_html

DIALOGUES = simulate(12, seed=4).dialogues
VOCAB = Vocab.build(DIALOGUES, min_count=1)
EVIL = '<script>alert("x")</script><img src=x onerror=1>&amp;'


@pytest.fixture(scope="module")
def scorer():
    torch.manual_seed(0)
    model = CEM(HandoffModel.build("hgru", vocab_size=len(VOCAB), size=8, embedding_size=8))
    return StreamingScorer(model, vocab=VOCAB, threshold=0.4, rules=Rules())


class Page(HTMLParser):
    """Tags, texts, and whether every tag is closed."""

    VOID = frozenset({"meta", "line", "polyline"})

    def __init__(self):
        super().__init__()
        self.tags, self.text, self.open, self.links = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "onerror", "onload")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_self_contained_and_escaped(scorer):
    turns = (Turn(role="user", text=EVIL, handoff=1), Turn(role="bot", text="fine"), Turn(role="user", tokens=(3, 4)))
    found = timeline(scorer, Dialogue(id=EVIL, turns=turns))
    page = timeline_html(found)
    read = Page()
    read.feed(page)
    read.close()
    assert read.open == []
    assert read.links == []
    assert "script" not in read.tags
    assert "img" not in read.tags
    assert "http" not in page
    text = "".join(read.text)
    assert text.count(EVIL) == 3  # title, heading and turn
    assert "3 4" in text
    assert read.tags.count("circle") == 3
    assert read.tags.count("tr") == 4


def test_a_timeline_holds_the_decisions(scorer):
    one = max(DIALOGUES, key=lambda dialogue: len(dialogue.turns))
    found = timeline(scorer, one)
    scorer.reset()
    pushed = [scorer.push(turn.role, turn.text) for turn in one.turns]
    assert [decision[:5] for decision in found.decisions] == [decision[:5] for decision in pushed]
    page = timeline_html(found)
    assert page.count("&#9660;") == sum(decision.handoff for decision in pushed)
    assert page.count('<span class="gold">') == sum(turn.handoff for turn in one.turns)


def test_the_figure_of_a_timeline(scorer):
    pytest.importorskip("matplotlib")
    one = next(dialogue for dialogue in DIALOGUES if any(turn.handoff for turn in dialogue.turns))
    found = timeline(scorer, one)
    figure = draw_timeline(found)
    figure.canvas.draw()
    top, lanes, bottom = figure.axes
    drawn = {line.get_label(): line.get_ydata() for line in top.lines}
    assert list(drawn["P(handoff)"]) == [decision.prob for decision in found.decisions]
    assert len(drawn["gold"]) == sum(turn.handoff for turn in one.turns)
    assert len(drawn["handed over"]) == sum(decision.handoff for decision in found.decisions)
    assert sum(len(line.get_xdata()) for line in lanes.lines) == len(one.turns)
    assert list(bottom.lines[0].get_ydata()) == [decision.expected_cost for decision in found.decisions]
    draw_timeline(timeline(scorer, Dialogue(id="one", turns=(Turn(role="user", text="x"),)))).canvas.draw()


def test_the_curves():
    pytest.importorskip("matplotlib")
    labels, scores = [[0, 1, 1], [0, 0]], {"a": [[0.1, 0.8, 0.6], [0.4, 0.2]], "b": [[0.5, 0.5, 0.5], [0.5, 0.5]]}
    reliability = draw_reliability(labels, scores, bins=5)
    reliability.canvas.draw()
    assert reliability.axes[0].get_legend().get_texts()[0].get_text().startswith("a (ECE ")
    curve = draw_cost_recall(labels, scores, cost=CostModel(missed_handoff=3.0))
    curve.canvas.draw()
    first = curve.axes[0].lines[0]
    assert first.get_xdata()[0] == 0.0
    assert first.get_ydata()[0] == 3.0  # two misses at 3 in two dialogues
    assert first.get_xdata()[-1] == 1.0
    assert first.get_ydata()[-1] == 1.5  # three false ones at 1
