"""focusnb: from the electron microscope to structure determination, in a notebook."""
__version__ = "0.1.0"
