"""What networks learned: similarity of representations."""
