"""CineLabel: segmentation, review and correction of short-axis cardiac cine MRI."""

__version__ = "0.1.0"
