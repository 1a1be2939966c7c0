"""Write index.html over the reports of the demos. Run as `python tools/demo_page.py runs/demo`.

Every folder with a report.json becomes a section: verdicts, tables, figures. Nothing is fetched; the page stands alone
beside its figures.
"""

import html
import json
import math
import sys
from pathlib import Path
from typing import Any

WORDS = {True: ("holds", "yes"), False: ("does not hold", "no"), None: ("undecided", "open")}

STYLE = """
:root { --ink: #1d2330; --soft: #5b6577; --line: #dfe3ea; --paper: #ffffff; --ground: #f5f6f8; --link: #0060a8;
        --yes: #00684c; --no: #a63f00; --open: #5b6577; color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --soft: #a3adbd; --line: #333b48; --paper: #1b2029; --ground: #12161c; --link: #7cc0f5;
          --yes: #4fc3a1; --no: #f0a070; --open: #a3adbd; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.35rem; margin: 0; } h3 { font-size: 1rem; margin: 1.8rem 0 .5rem; }
p.lead, .facts { color: var(--soft); margin: 0; }
nav { display: flex; flex-wrap: wrap; gap: .5rem; margin: 1.4rem 0 2rem; }
nav a { border: 1px solid var(--line); border-radius: 99px; padding: .25rem .9rem; background: var(--paper);
        color: var(--link); text-decoration: none; } nav a:hover { border-color: var(--link); }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 14px; padding: 1.6rem 1.8rem;
          margin-bottom: 1.6rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--soft); font-weight: 600; }
th, td { padding: .42rem 1rem .42rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap; }
.badge { white-space: nowrap; font-weight: 600; } .yes { color: var(--yes); } .no { color: var(--no); }
.open { color: var(--open); }
figure { margin: 1.2rem 0 0; background: #ffffff; border: 1px solid var(--line); border-radius: 10px; padding: .8rem; }
figure img { display: block; width: 100%; height: auto; }
figcaption { color: #5b6577; font-size: .85rem; margin-top: .4rem; }
details { margin-top: 1.4rem; } summary { cursor: pointer; color: var(--link); }
footer { color: var(--soft); font-size: .9rem; }
"""


def number(value: Any) -> str:
    """Format a value for a person: four significant digits, no value as a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(number(item) for item in value)
    return str(value)


def label(name: str) -> str:
    """Return a key as words."""
    return name.replace("_", " ").replace("-", " ")


def table(head: list[str], rows: list[list[Any]]) -> str:
    """Return a table whose numeric columns are aligned to the right; cells of type Markup are taken as they are."""
    numeric = [all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(head))]
    marks = [' class="number"' if flag else "" for flag in numeric]

    def line(cells: list[Any], tag: str) -> str:
        shown = (cell if isinstance(cell, Markup) else html.escape(number(cell)) for cell in cells)
        return "<tr>" + "".join(f"<{tag}{m}>{text}</{tag}>" for m, text in zip(marks, shown, strict=True)) + "</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table>\n{line(head, "th")}\n{body}\n</table></div>'


class Markup(str):
    """Text that is HTML already."""


def verdicts(report: dict[str, Any]) -> str:
    """Return the table of claims, or nothing."""
    rows: list[list[Any]] = []
    for verdict in report["verdicts"]:
        word, style = WORDS[verdict["holds"]]
        interval = verdict["interval"]
        span = "–" if interval is None else f"[{number(interval[0])}, {number(interval[1])}]"
        badge = Markup(f'<span class="badge {style}">{word}</span>')
        rows.append([verdict["claim"], str(verdict["expected"]), number(verdict["measured"]), span, badge])
    head = ["claim", "expected", "measured", "95 % interval", "verdict"]
    return "<h3>What it set out to show</h3>\n" + table(head, rows) if rows else ""


def metrics(values: dict[str, Any]) -> str:
    """Return the metrics: lists of records as tables, single values in one table, the rest as folded JSON."""
    records = {key: v for key, v in values.items() if isinstance(v, list) and v and isinstance(v[0], dict)}
    single = {key: v for key, v in values.items() if not isinstance(v, list | dict)}
    rest = {key: v for key, v in values.items() if key not in records and key not in single}
    parts = []
    for key, rows in records.items():
        head = list(dict.fromkeys(name for row in rows for name in row))
        cells = [[row.get(name) for name in head] for row in rows]
        parts.append(
            f"<h3>{html.escape(key.replace('_', ' '))}</h3>\n{table([h.replace('_', ' ') for h in head], cells)}"
        )
    if single:
        parts.append(
            "<h3>In numbers</h3>\n" + table(["", "value"], [[k.replace("_", " "), v] for k, v in single.items()])
        )
    if rest:
        text = html.escape(json.dumps(rest, indent=1, ensure_ascii=False))
        parts.append(f"<details><summary>all other values</summary><pre class='scroll'>{text}</pre></details>")
    return "\n".join(parts)


def figures(folder: str, report: dict[str, Any]) -> str:
    """Return the figures, as SVG."""
    stems = dict.fromkeys(Path(name).stem for name in report["figures"])
    return "\n".join(
        f'<figure><img src="{html.escape(folder)}/{html.escape(stem)}.svg" alt="{html.escape(stem)}">'
        f"<figcaption>{html.escape(label(stem))}</figcaption></figure>"
        for stem in stems
    )


def section(folder: str, report: dict[str, Any]) -> str:
    """Return one package's part of the page."""
    facts = f"version {report['version']} · {report['profile']} profile · seed {report['seed']} · {report['device']}"
    return f"""<section id="{html.escape(folder)}">
<h2>{html.escape(report["package"])}</h2>
<p class="facts">{html.escape(facts)} · {report["seconds"]:.0f} s</p>
{verdicts(report)}
{figures(folder, report)}
{metrics(report["metrics"])}
</section>"""


def page(root: Path) -> str:
    """Return the page over every `root/*/report.json`."""
    found = {path.parent.name: json.loads(path.read_text("utf-8")) for path in sorted(root.glob("*/report.json"))}
    links = "".join(f'<a href="#{html.escape(name)}">{html.escape(name)}</a>' for name in found)
    body = "\n".join(section(name, report) for name, report in found.items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sail demos</title><style>{STYLE}</style></head>
<body><main>
<h1>Sail demos</h1>
<p class="lead">{len(found)} of the packages ran here. A claim that does not hold is shown as such.</p>
<nav>{links}</nav>
{body}
<footer>Each section is its folder's report.json, rendered; the folders hold every value, seed and version.</footer>
</main></body></html>
"""


def main(root: Path) -> None:
    """Write `root/index.html`, replacing the old page at once."""
    root.mkdir(parents=True, exist_ok=True)
    temporary = root / "index.html.tmp"
    temporary.write_text(page(root), encoding="utf-8")
    temporary.replace(root / "index.html")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
