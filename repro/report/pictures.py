"""A figure together with the words that go with it."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure, the name of its file, and what there is to see in it."""

    key: str
    figure: Figure
    alt: str
    caption: str = ""


def markdown(picture: Picture) -> str:
    """The picture as a link, its caption below."""
    alt = picture.alt.replace("[", "(").replace("]", ")")
    caption = f"\n\n*{picture.caption}*" if picture.caption else ""
    return f"![{alt}](figures/{picture.key}.png){caption}"
