"""A simulated microscope's physics, written independently of the code it tests."""
