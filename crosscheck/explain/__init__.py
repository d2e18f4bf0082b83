"""What a difference looks like: known variants of the equations, tried where two sides part.

One is named only where the side that departs agrees with it as closely as an honest side would with the equations, by
the very bounds that the check judges by, and where none of another kind does. A wrong explanation is worse than none.
See docs/explain.md.
"""
