"""Who is wrong where two sides differ, and where: `spec.reference` votes, and forcing separates cause from consequence.

A blame explains a verdict and never changes it.
"""
