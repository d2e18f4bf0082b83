"""The recipe's constants: the defaults of libraries, and whatever number fits all that was recorded."""

from collections.abc import Callable, Iterator

from crosscheck.explain.variant import Case, Variant, recipe
from spec.training import SGD, RMSprop

KNOWN: dict[str, tuple[float, ...]] = {
    "beta1": (0.9, 0.95, 0.0),
    "beta2": (0.999, 0.99, 0.95),
    "epsilon": (1e-8, 1e-7, 1e-6, 1e-5, 0.0),
    "weight_decay": (0.0, 1e-4, 4e-3, 1e-2),
    "momentum": (0.0, 0.9),
    "alpha": (0.99, 0.9, 0.95),
    "learning_rate": (),
}
"""Defaults of PyTorch, optax and Keras."""

WORDS = {
    "beta1": "beta1",
    "beta2": "beta2",
    "epsilon": "the optimizer's epsilon",
    "weight_decay": "the weight decay",
    "momentum": "the momentum",
    "alpha": "the share that squares keep",
    "learning_rate": "the learning rate",
}


def of_experiment(case: Case) -> Iterator[Variant]:
    if case.check != "optimizer":
        return
    spec = case.experiment.training.optimizer
    decay = ("weight_decay",) if getattr(spec, "weight_decay", None) is not None else ()
    if isinstance(spec, SGD):
        # Without any decay, what decays is told beside the formula.
        fields = ("momentum", *(decay if spec.weight_decay else ()), "learning_rate")
    elif isinstance(spec, RMSprop):
        fields = ("alpha", "epsilon", "momentum", "learning_rate")
    else:
        fields = ("beta1", "beta2", "epsilon", *decay, "learning_rate")
    for field in fields:
        now = getattr(spec, field)
        make = _made(field, now)
        known = [value for value in KNOWN[field] if value != now]
        for value in known:
            yield make(value)
        if not (field == "momentum" and not now):
            solved = case.solve(make, now)
            if solved is not None and 0 <= solved < 1e6 and solved not in (*known, now):
                yield make(solved)


def _made(field: str, now: float) -> Callable[[float], Variant]:
    def make(value: float) -> Variant:
        words = f"{WORDS[field]} were {value:g} ({now:g} in the recipe)"
        source = {"weight_decay": "PB71", "epsilon": "PB70"}.get(field, "")
        return recipe(words, source, **{f"optimizer__{field}": value})._replace(differs=(WORDS[field], now, value))

    return make
