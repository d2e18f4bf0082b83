"""The map between the parameters of two sides of a stranger's pair: proposed, proven by value, written down.

`propose` finds it, `verify` proves it, `divergences` lists where two sides part under it; `read`, `write` and `emit`
are its file and the converter that it becomes. NumPy and SciPy alone: the sides are asked through `spec.pair.Side`.
"""
