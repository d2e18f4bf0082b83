"""Tests with a stated chance of a false alarm: of draws against a distribution, of ensembles against each other."""
