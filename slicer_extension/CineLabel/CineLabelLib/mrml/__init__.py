"""What CineLabel keeps in 3D Slicer's scene: the study, its segments, the views; MRML and VTK only."""
