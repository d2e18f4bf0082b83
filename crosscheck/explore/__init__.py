"""Random experiments out of the whole space that the spec can express."""
