"""Arrays in, arrays out: numpy or cupy, by the array given."""
