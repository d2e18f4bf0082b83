"""How pictures tell several curves apart."""

STYLES = (
    ("#0072B2", "o"),
    ("#D55E00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#E69F00", "v"),
    ("#56B4E9", "P"),
    ("#000000", "X"),
)
"""Okabe and Ito's colours, which differ for the colour-blind too; markers tell them apart in grey."""
