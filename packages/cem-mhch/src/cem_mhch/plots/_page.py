"""The timeline of a dialogue as one HTML file that needs nothing else."""

from __future__ import annotations

from html import escape

from ._timeline import BLUE, GREEN, GREY, ORANGE, RED, Timeline

_HEIGHT, _STEP, _LEFT, _TOP = 180, 34, 46, 34

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
svg { width: 100%; height: auto; } .plot { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } td, th { padding: .35rem .6rem; text-align: left; vertical-align: top;
} tr + tr td { border-top: 1px solid #ddd; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
.role { display: inline-block; width: 3.2rem; font-weight: 600; } tr.handoff { background: #fff3d6; }
.bar { display: inline-block; height: .6rem; background: COLOUR; border-radius: 2px; } .gold { color: #8a5a00; }
""".replace("COLOUR", BLUE)


def timeline_html(found: Timeline) -> str:
    """Draw the timeline as an SVG inside a page, with all turns in a table below.

    Args:
        found: See `timeline`.

    Returns:
        A page without scripts or outside references; every text of the dialogue is escaped.
    """
    name = escape(found.dialogue.id)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Dialogue {name}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>Dialogue {name}</h1>\n"
        f'<div class="plot">{_plot(found)}</div>\n'
        f"<p>Blue: probability of a handoff; dotted red: probability that the user is negative; dashed: the threshold "
        f"{found.threshold:g}; triangles: handed over; stars: gold.</p>\n"
        "<table><thead><tr><th>turn</th><th>text</th><th>P(handoff)</th><th>P(negative)</th><th>cost</th><th>decision"
        f"</th></tr></thead><tbody>\n{_rows(found)}\n</tbody></table></body></html>\n"
    )


def _plot(found: Timeline) -> str:
    width = _LEFT + _STEP * (len(found.decisions) + 1)

    def place(turn: int, value: float) -> str:
        return f"{_LEFT + _STEP * (turn + 0.5):.1f},{_TOP + _HEIGHT * (1 - value):.1f}"

    def line(values: list[float], style: str) -> str:
        points = " ".join(place(turn, value) for turn, value in enumerate(values))
        return f'<polyline fill="none" {style} points="{points}"/>'

    parts = []
    for value in (0.0, 0.5, 1.0):
        level = _TOP + _HEIGHT * (1 - value)
        parts.append(f'<line x1="{_LEFT}" x2="{width}" y1="{level:.1f}" y2="{level:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{level + 4:.1f}" text-anchor="end" font-size="12">{value:g}</text>')
    level = _TOP + _HEIGHT * (1 - found.threshold)
    parts.append(
        f'<line x1="{_LEFT}" x2="{width}" y1="{level:.1f}" y2="{level:.1f}" stroke="{GREY}" stroke-dasharray="6 4"/>'
    )
    parts.append(
        line([one.user_state[0] for one in found.decisions], f'stroke="{RED}" stroke-width="2" stroke-dasharray="2 4"')
    )
    parts.append(line([one.prob for one in found.decisions], f'stroke="{BLUE}" stroke-width="2.5"'))
    for turn, (decision, said) in enumerate(zip(found.decisions, found.dialogue.turns, strict=True)):
        x, y = place(turn, decision.prob).split(",")
        colour = RED if said.role == "user" else GREEN
        parts.append(
            f'<circle cx="{x}" cy="{y}" r="5" fill="{colour}"><title>turn {turn + 1}, {said.role}: '
            f"{decision.prob:.2f}</title></circle>"
        )
        if decision.handoff:
            parts.append(f'<text x="{x}" y="{_TOP - 6}" text-anchor="middle" fill="{BLUE}">&#9660;</text>')
        if said.handoff:
            parts.append(f'<text x="{x}" y="{_TOP - 20}" text-anchor="middle" fill="{ORANGE}">&#9733;</text>')
        parts.append(f'<text x="{x}" y="{_TOP + _HEIGHT + 18}" text-anchor="middle" font-size="12">{turn + 1}</text>')
    height = _TOP + _HEIGHT + 26
    return (
        f'<svg viewBox="0 0 {width} {height}" style="max-width:{2 * width}px" role="img" '
        f'aria-label="Probability of a handoff by turn">{"".join(parts)}</svg>'
    )


def _rows(found: Timeline) -> str:
    rows = []
    for number, (decision, turn) in enumerate(zip(found.decisions, found.dialogue.turns, strict=True), start=1):
        text = turn.text if turn.text is not None else " ".join(map(str, turn.tokens or ()))
        colour = RED if turn.role == "user" else GREEN
        gold = ' <span class="gold">&#9733; gold</span>' if turn.handoff else ""
        said = escape((decision.reason or "").replace("_", " ")) if decision.handoff else ""
        mark = ' class="handoff"' if decision.handoff else ""
        rows.append(
            f'<tr{mark}><td class="n">{number}</td><td><span class="role" style="color:{colour}">{turn.role}</span> '
            f'{escape(text)}{gold}</td><td><span class="bar" style="width:{60 * decision.prob:.0f}px"></span> '
            f'{decision.prob:.2f}</td><td class="n">{decision.user_state[0]:.2f}</td>'
            f'<td class="n">{decision.expected_cost:.2f}</td><td>{said}</td></tr>'
        )
    return "\n".join(rows)
