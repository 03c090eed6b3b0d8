"""A loaded system behind HTTP."""
