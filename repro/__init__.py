"""Reproduces and cross-examines *Meta Pseudo Labels* (Pham et al. 2021, arXiv 2003.10580).

For a training loop of your own: `from repro import MetaPseudoLabels, RandAugment`. For a model that `repro fit` left:
`from repro import Classifier`.
"""

import importlib
from typing import Any

_PLACES = {"Classifier": "repro.fit.saved", "MetaPseudoLabels": "repro.library",
           "RandAugment": "repro.augment.views"}  # fmt: skip
__all__ = ["Classifier", "MetaPseudoLabels", "RandAugment"]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are asked for: `repro --help` loads no PyTorch."""
    if name not in _PLACES:
        raise AttributeError(f"module 'repro' has no attribute '{name}'")
    return getattr(importlib.import_module(_PLACES[name]), name)
