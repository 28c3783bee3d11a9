"""A row of metrics as a line that a person reads."""

from __future__ import annotations

from collections.abc import Mapping

_LOSSES = {
    "labelled_loss": "labelled",
    "teacher_labelled_loss": "teacher labelled",
    "unlabelled_loss": "unlabelled",
    "uda_loss": "UDA",
    "pseudo_label_loss": "pseudo label",
    "student_loss": "student",
    "student_labelled_loss": "student labelled",
}


def line(name: str, row: Mapping[str, float], steps: int) -> str:
    """`name: step 200 of 300000; losses: student 1.92, UDA 0.31; 43.1 % of pseudo labels wrong; h +1.2e-03 ± 4.0e-03`.

    Args:
        name: the run and its seed.
        row: means over the steps since the row before, as in metrics.csv.
        steps: of the whole run.
    """
    losses = [f"{words} {row[key]:.3f}" for key, words in _LOSSES.items() if key in row]
    parts = [f"losses: {', '.join(losses)}"] if losses else []
    if "pseudo_label_wrong" in row:
        parts.append(f"{100 * row['pseudo_label_wrong']:.1f} % of pseudo labels wrong")
    if "feedback" in row:
        parts.append(f"h {row['feedback']:+.1e} ± {row['feedback_spread']:.1e}")
    if row.get("noise_floor"):
        parts.append(f"of which noise {row['noise_floor']:+.1e}")
    return f"{name}: step {row['step']:.0f} of {steps}; {'; '.join(parts)}"
