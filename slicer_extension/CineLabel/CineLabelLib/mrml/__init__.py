"""What CineLabel keeps in 3D Slicer's scene: study, segments, views. MRML and VTK only."""
