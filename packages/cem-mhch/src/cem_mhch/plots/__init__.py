"""Figures: one dialogue along its turns, as a figure or a page, and curves over many."""

from ._curves import draw_cost_recall as draw_cost_recall
from ._curves import draw_reliability as draw_reliability
from ._page import timeline_html as timeline_html
from ._timeline import Timeline as Timeline
from ._timeline import draw_timeline as draw_timeline
from ._timeline import timeline as timeline

__all__ = ["Timeline", "draw_cost_recall", "draw_reliability", "draw_timeline", "timeline", "timeline_html"]
