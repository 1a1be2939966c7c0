"""Questions for lm-evaluation-harness: a task file and its data."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from oogiri_go.runs import write_atomic

from ._asked import choice_prompt
from ._question import Question
from ._templates import Templates

_YAML = """\
# Written by sail-clot; wording {digest}.
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: "{{{{letters}}}}"
doc_to_target: "{{{{label}}}}"
target_delimiter: ""
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
  chance: {chance}
  questions: {count}
"""


def export_lm_eval(
    questions: Iterable[Question],
    out: str | os.PathLike[str],
    *,
    name: str = "oogiri_3t1",
    templates: Templates | None = None,
) -> dict[str, int]:
    """Write questions of one right option as a multiple-choice task of lm-evaluation-harness.

    The model is asked for the letter. The harness shows no pictures and knows one right option, so questions with a
    picture and those with several right options are left out and counted.

    Args:
        questions: Questions with answers.
        out: A folder; it gets ``NAME.yaml`` and ``NAME.jsonl``. Run ``lm_eval --include_path OUT --tasks NAME`` in it.
        name: The task's name: letters, digits and ``_``.
        templates: The wording; None takes the built-in one.

    Returns:
        How many were ``"written"``, left out with a ``"picture"``, or with ``"several"`` or no right options.

    Raises:
        ValueError: The name has other characters, or no question is left.

    Example:
        >>> import tempfile
        >>> from clot import Prompt
        >>> asked = [Question("q", Prompt("Why?"), ("Yes.", "No."), "en", answer=(1,))]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(export_lm_eval(asked, folder, name="why"), sorted(os.listdir(folder)))
        {'written': 1, 'picture': 0, 'several': 0} ['why.jsonl', 'why.yaml']
    """
    if not name.replace("_", "").isalnum() or not name.isascii():
        raise ValueError(f"the task name {name!r} may hold only letters, digits and '_'")
    templates = templates or Templates()
    counts = {"written": 0, "picture": 0, "several": 0}
    rows = []
    luck = 0.0
    for one in questions:
        if one.prompt_head.image is not None:
            counts["picture"] += 1
            continue
        if len(one.answer) != 1:
            counts["several"] += 1
            continue
        letters = [chr(ord("A") + at) for at in range(len(one.options))]
        prompt = choice_prompt(templates, one, one.options).text + "\n"
        row = {"id": one.id, "prompt": prompt, "letters": letters, "label": one.answer[0], "options": one.options}
        rows.append(json.dumps(row, ensure_ascii=False) + "\n")
        luck += 1 / len(letters)
        counts["written"] += 1
    if not rows:
        raise ValueError(f"no question can be exported: {counts}")
    folder = Path(out)
    write_atomic(folder / f"{name}.jsonl", "".join(rows))
    text = _YAML.format(
        digest=templates.digest[:16],
        name=name,
        data=f"{name}.jsonl",
        chance=round(luck / len(rows), 6),
        count=len(rows),
    )
    write_atomic(folder / f"{name}.yaml", text)
    return counts
