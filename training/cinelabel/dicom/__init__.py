"""Short-axis cine in DICOM files: images by their headers, sorted into slices and phases."""
