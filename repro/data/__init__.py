"""Data sets: what can be set, which needs no torch; each other file is a `Source`, or what one is made of."""

from repro.augment.settings import Arithmetic, CropViews, ImageViews, Operations
from repro.data.settings import (
    Cifar10Data,
    Data,
    DataSettings,
    DigitsData,
    FolderData,
    Placement,
    Split,
    SvhnData,
    TwoMoonsData,
    source_of,
)

__all__ = ["Arithmetic", "Cifar10Data", "CropViews", "Data", "DataSettings", "DigitsData", "FolderData", "ImageViews",
           "Operations", "Placement", "Split", "SvhnData", "TwoMoonsData", "source_of"]  # fmt: skip
