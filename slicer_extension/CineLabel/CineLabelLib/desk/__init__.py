"""What a reader does, as plain objects: no window, no scene of Slicer, no HTTP of their own."""
