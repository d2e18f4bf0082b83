"""Weights that people have: what a path holds, its arrays by name, and how they become canonical parameters.

    kinds       what stands at a path, by its first bytes; what is no file of weights, in words
    reading     its arrays by name, floating numbers in what NumPy has; one file here for each format
    units       names and layouts of other libraries as modules in the canonical layout
    fitting     modules of a file onto those of a model, where exactly one way is right

Formats that a framework writes are read by its implementation, in a process of its own: see `conversion`.
"""
