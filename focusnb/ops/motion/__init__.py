"""Motion of the frames of a movie: estimation, description, sums."""
