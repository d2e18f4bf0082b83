"""`python -m crosscheck bench`: how fast implementations are, measured in turns."""
