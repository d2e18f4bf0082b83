"""Numbers as somebody would have written them."""


def written(value: float) -> float | None:
    """The shortest decimal that it is, as somebody would have written it; None where it is none."""
    for digits in range(4):
        short = float(f"{value:.{digits}e}")
        if abs(short - value) <= 1e-5 * abs(value):
            return short
    return None
