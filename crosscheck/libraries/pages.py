"""The tables as Markdown pages. Facts come out of the data alone; what is written here says how they were found."""

from collections.abc import Iterable, Sequence

from crosscheck.libraries.defaults import Defaults
from crosscheck.libraries.layers import Attention, Bias, Holds, Layers, Recurrent
from crosscheck.libraries.made import Made
from crosscheck.libraries.optimizers import Counterpart, Optimizers, Section, Tried

INFINITE = 1e300


def optimizers(table: Optimizers) -> str:
    """docs/optimizers.md."""
    lines = [
        "# Optimizers, schedules and clipping by name",
        "",
        *_head(table.made, "crosscheck/libraries/optimizers.json"),
        "",
        "Each class of `torch.optim` with its arguments beside what optax has under that name, both in float64.",
        "*Parts* is the first step at which the two are further apart than rounding (eight roundings a step); the",
        "share beside it is the largest difference there, of the largest way that any parameter has gone until then,",
        "and then the same after the last step. Below the namesake stands what is equal by the fewest arguments, of",
        "all combinations that were tried; where none is equal, the one that parts last. What was tried is data:",
        "`tests/tables/optax_cases.py`.",
        "",
        "`p` are the parameters, `o` an optimizer with a rate of 0.1. The same rate is given to both; all else that",
        "is not written is the library's default.",
        "",
    ]
    for section, title, said in SECTIONS:
        rows = [row for row in table.rows if row.section == section]
        lines += [f"## {title}", "", *said, "", *_table(COLUMNS, (cells for row in rows for cells in _rows(row))), ""]
    return "\n".join(lines)


SECTIONS: tuple[tuple[Section, str, tuple[str, ...]], ...] = (
    (
        "optimizers",
        "Optimizers",
        (
            "50 steps on the same gradients, of 1e-9 to 1, some elements always zero and every tenth step all of",
            "them. *Matrices*: one matrix alone; *transposed*: optax was given the transposed matrix, as a port's",
            "kernel lies. *Sparse*: rows without a gradient in half of the steps. *Descent*: each follows its own",
            "gradients of the same quadratic.",
        ),
    ),
    (
        "schedules",
        "Schedules",
        (
            "The rates of 60 steps: torch's scheduler is stepped after each step of the optimizer, optax's schedule",
            "is asked for counts from 0. Shares are of the largest rate. On a plateau, *after a loss*: the rate once",
            "the loss has been given; *of a step with its loss*: the rate with which a step is made whose own loss",
            "is given, as both are documented to be called: optax's rate falls at once, torch's from the next step",
            "on.",
        ),
    ),
    (
        "clipping",
        "Clipping",
        (
            "Seven gradients: of norm 0, 1e-3, 0.5, 100 and 1e200, with an infinite element, with NaN. *Parts* names",
            "the first that comes out otherwise; shares are of the largest element. *Norms*: of ones in many leaves",
            "and of one element of 300, in four precisions.",
        ),
    ),
)

COLUMNS = ("torch", "verdict", "optax", "parts", "there", "at the end")


def _rows(row: Counterpart) -> list[tuple[str, ...]]:
    measure = "" if row.measure in ("replay", "rates", "clipping") else f"<br>*{row.measure}*"
    runs = [one for one in (row.namesake, row.best) if one is not None]
    cells = []
    for number, one in enumerate(runs):
        tried = f" <br>(best of {row.tried})" if one is row.best and row.tried > 1 else ""
        first = (f"{_code(row.torch)}{measure}", f"**{row.verdict}**") if number == 0 else ("", "")
        cells.append((*first, f"{_code(one.code)}{tried}", *_parted(one)))
    return cells


def _parted(one: Tried) -> tuple[str, str, str]:
    if one.failed:
        return ("", one.failed, "")
    if one.parts_at is None:
        return ("never", "", "")
    where = f"step {one.parts_at}" if isinstance(one.parts_at, int) else one.parts_at
    return (where, _share(one.size), _share(one.at_end))


def defaults(table: Defaults) -> str:
    """docs/defaults.md."""
    lines = [
        "# Defaults by name",
        "",
        *_head(table.made, "crosscheck/libraries/defaults.json"),
        "",
        "What the signatures of libraries' layers, functions and optimizers state. Arguments without a default, or",
        "with one that is no number, word or truth value, are left out. Explanations name those that differ between",
        "the sides: [What a difference looks like](explain.md).",
        "",
        *_table(("library", "called", "defaults"), _defaults(table)),
        "",
    ]
    return "\n".join(lines)


def _defaults(table: Defaults) -> Iterable[tuple[str, ...]]:
    for library, signatures in table.libraries.items():
        for number, (name, given) in enumerate(signatures.items()):
            told = ", ".join(f"`{argument}={value!r}`" for argument, value in given.items())
            yield library if not number else "", _code(name), told


def layers(table: Layers) -> str:
    """docs/layers.md."""
    lines = [
        "# Recurrent and attention layers by name",
        "",
        *_head(table.made, "crosscheck/libraries/layers.json"),
        "",
        "Each library ran in an environment of its own. A layer is asked with random weights, and of all orders of",
        "blocks and all conventions exactly one equation gave what it gave (`tests/tables/layers/equations.py`);",
        "each block of a bias was then set alone, and moved the gate that is named. So the names of gates are those",
        "of the equations, whatever a library calls them: r, z and n of a GRU (reset, update, candidate), i, f, g",
        "and o of an LSTM.",
        "",
        "| library | versions |",
        "|---|---|",
        *(
            f"| {library} | {', '.join(f'{n} {v}' for n, v in versions.items() if n != 'numpy')} |"
            for library, versions in table.versions.items()
        ),
        "",
    ]
    for kind, title in (("gru", "GRU"), ("lstm", "LSTM"), ("rnn", "RNN")):
        rows = [row for row in table.recurrent if row.kind == kind]
        lines += [f"## {title}", "", *_table(_recurrent_columns(kind), (_recurrent(row, kind) for row in rows)), ""]
    lines += [
        "**Can it hold torch's weights?** Random weights of torch's layer were put where the blocks were found, and",
        "both layers run on the same input from the same states. *Each*: every tensor has a place of its own.",
        "*Added up*: the outputs are the same, but two biases have to be added into one, which then trains as one.",
        "*No*: the largest difference, as a share of the largest output, and without what it would be equal.",
        "",
        "## Padding",
        "",
        "A batch with lengths of 6, 3, 1 and 0 of 6, from random states. Layers without an argument for lengths are",
        f"left out: {', '.join(f'{row.library} {row.layer}' for row in table.recurrent if not row.padding.by)}.",
        "",
        *_table(PADDING, (_padding(row) for row in table.recurrent if row.padding.by)),
        "",
        "## Attention",
        "",
        "*All masked* is what a query gives whose keys are all masked. The precision is the one in which it computes:",
        "layers of Keras, MLX and ONNX Runtime were given float32, all others float64.",
        "",
        *_table(ATTENTION, (_attention(row) for row in table.attention)),
        "",
        *_table(PLACES, (_places(row) for row in table.attention if row.arrays)),
        "",
        "A key's bias moves nothing, wherever there is one: it adds the same to all scores of a query. It was told",
        "by that.",
        "",
        "## How they start",
        "",
        "The law by which each array is drawn: of those that libraries document, the likeliest that twelve draws do",
        "not reject (Kolmogorov-Smirnov; a law that is right is rejected once in ten thousand, and then asked again",
        "with other seeds). *Cut at 2 / 0.8796*: a normal law cut at two deviations and widened to the deviation",
        "that is named. 0 is all zeros.",
        "",
        *_table(("library", "layer", "array", "law"), _laws([*table.recurrent, *table.attention])),
        "",
    ]
    return "\n".join(lines)


def _recurrent_columns(kind: str) -> tuple[str, ...]:
    own = {"gru": ("reset", "z keeps the"), "lstm": ("added to f", "projection"), "rnn": ("activation",)}
    return ("library", "layer", "gates in the kernels", "biases", *own[kind], "states", "torch's weights")


def _recurrent(row: Recurrent, kind: str) -> tuple[str, ...]:
    own = {
        "gru": (f"{row.reset} the product", f"{row.update} state"),
        "lstm": (f"{row.forget_offset:g}", f"`{row.projection}`" if row.projection else "none"),
        "rnn": (row.activation,),
    }
    gates = ", ".join(row.gates)
    if [one.split()[0] for one in row.gates] != [one.split()[0] for one in row.recurrent_gates]:
        gates += f"; recurrent {', '.join(row.recurrent_gates)}"
    return (
        row.library,
        _code(row.layer),
        gates,
        _biases(row.biases),
        *own[kind],
        ", ".join(row.states),
        _holds(row.holds),
    )


def _biases(biases: Sequence[Bias]) -> str:
    """By array, which gates it moves; on which side of the reset gate, where that is another function."""
    by_array: dict[str, list[str]] = {}
    for one in biases:
        by_array.setdefault(one.array, []).append(
            f"{one.gate} ({'inside' if one.side == 'hidden' else 'outside'} of r)" if one.side else one.gate
        )
    return "; ".join(f"`{name}`: {', '.join(gates)}" for name, gates in by_array.items())


def _holds(one: Holds | None) -> str:
    if one is None:
        return ""
    if one.verdict == "no":
        lost = f", no place for {', '.join(one.lost)}" if one.lost else ""
        without = f"; equal where {', '.join(one.without)} is 0" if one.without else ""
        return f"**no**: {_share(one.difference)}{lost}{without}"
    return {"each": "each", "summed": "added up"}[one.verdict]


PADDING = (
    "library",
    "layer",
    "by",
    "outputs at padding",
    "last state",
    "state at length 0",
    "outputs at length 0",
    "NaN",
)


def _padding(row: Recurrent) -> tuple[str, ...]:
    one = row.padding
    reached = "stays in the padding" if one.nan_reaches == "neither" else f"reaches {one.nan_reaches}"
    return (
        row.library,
        _code(row.layer),
        _code(one.by),
        one.outputs,
        one.state,
        one.zero_state,
        one.zero_outputs or "none",
        reached,
    )


ATTENTION = (
    "library",
    "layer",
    "mask",
    "True",
    "all masked",
    "scores divided by",
    "biases",
    "precision",
    "torch's weights",
)


def _attention(row: Attention) -> tuple[str, ...]:
    biases = {True: "by default", False: "only if asked", None: "no parameters"}[row.default_biases]
    names = (row.library, _code(row.layer), _code(row.mask_argument))
    return (*names, row.mask, row.masked_row, row.scale, biases, row.precision, _holds(row.holds))


PLACES = ("library", "layer", "query", "key", "value", "output")


def _places(row: Attention) -> tuple[str, ...]:
    return (row.library, _code(row.layer), *(row.arrays.get(role, "") for role in PLACES[2:]))


def _laws(rows: Iterable[Recurrent | Attention]) -> Iterable[tuple[str, ...]]:
    """A line for each law of a layer, with the arrays that have it."""
    for row in rows:
        by_law: dict[str, list[str]] = {}
        for array, law in row.initial.items():
            by_law.setdefault(law, []).append(array)
        for number, (law, arrays) in enumerate(by_law.items()):
            named = (row.library, _code(row.layer)) if number == 0 else ("", "")
            yield (*named, ", ".join(map(_code, arrays)), law)


def _head(made: Made, path: str) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in made.versions.items())
    return [
        f"Made by `{made.command}` on {made.date}, with Python {made.python} on {made.machine}, and {versions}.",
        f"No fact is typed: this is `{path}` written out. A test says when a pinned version is no longer one of these.",
    ]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return [*lines, *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)]


def _code(text: str) -> str:
    return f"`{text}`"


def _share(value: float) -> str:
    return "infinite" if value > INFINITE else f"{value:.1e}"
