"""Segmentation of a study: heart locator, members with mirroring, average, post-processing."""

from __future__ import annotations

from cinelabel.segmentation.locator import HeartBox
from cinelabel.segmentation.postprocess import Postprocessing
from cinelabel.segmentation.predictor import Segmentation, Segmenter

__all__ = ["HeartBox", "Postprocessing", "Segmentation", "Segmenter"]
