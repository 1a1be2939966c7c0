"""A page to play Oogiri with a model: a picture or a question in; candidates, conditions and scores out."""

import inspect
from html import escape
from typing import Any

from oogiri_go.runs import needs

from clot._pipeline import CLoTPipeline, Leap

with needs("sail-clot", "ui"):
    import gradio

__all__ = ["page", "play"]

_LANGUAGES = [("English", "en"), ("中文", "zh"), ("日本語", "ja")]
_STYLE = """
.clot-answer { font-size: 1.5rem; font-weight: 600; margin: 0.4rem 0 1rem; }
.clot-table { width: 100%; border-collapse: collapse; border: none !important; }
.clot-table th, .clot-table td { text-align: left; padding: 0.4rem 0.6rem; border: none !important; }
.clot-table tr { border: none !important; border-bottom: 1px solid #8884 !important; }
.clot-table th { font-weight: 600; opacity: 0.7; }
.clot-table tr.chosen td { font-weight: 600; }
.clot-table tr.yours td { background: #e69f0030; }
.clot-table td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.clot-note { opacity: 0.7; }
"""


def page(pipeline: CLoTPipeline, *, title: str = "Oogiri with CLoT") -> Any:
    """Build the page.

    Args:
        pipeline: Answers the prompts.
        title: Its heading.

    Returns:
        A ``gradio.Blocks``; ``launch()`` it, or mount it in an application of your own. One prompt is answered at a
        time, for a model is one.

    Raises:
        MissingExtra: gradio is not installed.
    """

    def answer(picture: str | None, question: str, lang: str, yours: str) -> str:
        try:
            leap = pipeline(question=question, image=picture, lang=lang)
            return _shown(leap, pipeline, picture, question, lang, yours.strip())
        except (ValueError, OSError) as error:
            raise gradio.Error(str(error), print_exception=False) from None

    look = _look()
    in_blocks = {name: value for name, value in look.items() if name in inspect.signature(gradio.Blocks).parameters}
    with gradio.Blocks(title=title, analytics_enabled=False, **in_blocks) as blocks:
        gradio.Markdown(
            f"# {title}\nGive a picture, a question, or both. The model answers under conditions drawn at "
            "random, ranks its answers, and chooses one of the first two."
        )
        with gradio.Row():
            with gradio.Column(scale=2):
                picture = gradio.Image(label="Picture", type="filepath", height=280, elem_id="clot-picture")
                question = gradio.Textbox(label="Question, or the text of the picture", elem_id="clot-question")
                lang = gradio.Radio(_LANGUAGES, value="en", label="Language", elem_id="clot-language")
                yours = gradio.Textbox(
                    label="Your own answer (optional)", info="The model ranks it among its own.", elem_id="clot-yours"
                )
                button = gradio.Button("Answer", variant="primary", elem_id="clot-go")
            with gradio.Column(scale=3):
                result = gradio.HTML(label="Answer", elem_id="clot-result")
        asked = [picture, question, lang, yours]
        gradio.on([button.click, question.submit, yours.submit], answer, asked, result, api_name="answer")
    blocks.queue(default_concurrency_limit=1)
    return blocks


def play(pipeline: CLoTPipeline, *, host: str = "127.0.0.1", port: int | None = None, block: bool = True) -> Any:
    """Serve the page.

    Args:
        pipeline: Answers the prompts.
        host: The address to listen at; the default is this machine alone.
        port: The port; None takes a free one.
        block: Whether to serve until interrupted.

    Returns:
        The ``gradio.Blocks``, which has ``local_url`` and ``close()``.

    Raises:
        OSError: The port is taken.
    """
    blocks = page(pipeline)
    parameters = inspect.signature(blocks.launch).parameters
    look = {name: value for name, value in _look().items() if name in parameters}
    blocks.launch(
        server_name=host, server_port=port, share=False, quiet=True, show_error=True, prevent_thread_lock=True, **look
    )
    print(f"playing at {blocks.local_url} (Ctrl-C ends it)", flush=True)
    if block:
        blocks.block_thread()
    return blocks


def _look() -> dict[str, Any]:
    """Fonts of the reader's system, so that no page asks another server for any; gradio 5 and 6 take it elsewhere."""
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    return {"theme": theme, "css": _STYLE}


def _shown(leap: Leap, pipeline: CLoTPipeline, picture: str | None, question: str, lang: str, yours: str) -> str:
    """The answer and a table of what it was chosen from; everything that a model or a person wrote is escaped."""
    rows = [(one.rank, one.text, one.condition, one.score, one.chosen, False) for one in leap.proposals]
    if yours:
        texts = [one.text for one in leap.proposals if one.rank is not None]
        ranked = pipeline.rank([*texts, yours], question=question, image=picture, lang=lang)
        scores = dict(zip([*texts, yours], ranked, strict=True))
        rows = [
            (_place(text, ranked, scores), text, condition, scores.get(text), chosen, False)
            for _, text, condition, _, chosen, _ in rows
        ]
        rows.append((_place(yours, ranked, scores), yours, None, scores[yours], False, True))
    rows.sort(key=lambda row: (row[0] is None, row[0] or 0))
    body = "".join(map(_row, rows))
    note = (
        "" if leap.read else "<p class='clot-note'>The model's choice could not be read; this is its first answer.</p>"
    )
    return (
        f"<div class='clot-answer'>{escape(leap.text) or '(no answer)'}</div>{note}<table class='clot-table'>"
        "<thead><tr><th>rank</th><th>answer</th><th>condition</th><th>score</th></tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _row(row: tuple[int | None, str, str | None, float | None, bool, bool]) -> str:
    rank, text, condition, score, chosen, yours = row
    kind = " ".join(name for name, yes in (("chosen", chosen), ("yours", yours)) if yes)
    told = "yours" if yours else escape(condition) if condition else "-"
    return (
        f"<tr class='{kind}'><td class='number'>{'-' if rank is None else rank}{' ✓' if chosen else ''}</td>"
        f"<td>{escape(text)}</td><td>{told}</td>"
        f"<td class='number'>{'-' if score is None else f'{score:.3f}'}</td></tr>"
    )


def _place(text: str, ranked: list[float | None], scores: dict[str, float | None]) -> int | None:
    score = scores.get(text)
    return None if score is None else 1 + sum(other is not None and other > score for other in ranked)
