"""From two sides' recordings to verdicts."""
