"""One known variant of a formula a file. What a file may have stands in crosscheck.explain.catalogue."""
