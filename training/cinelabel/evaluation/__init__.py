"""Scores, tables and figures: how a segmentation compares with a reference."""
