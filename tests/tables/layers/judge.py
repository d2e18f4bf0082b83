"""What a layer is, found by asking it: which equation with which order of blocks gives what it gives."""

import itertools
import math
import pickle
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from blocks import Arrays, Block, Blocks, of_attention, of_recurrent
from equations import CONVENTIONS, GATES, attention, step
from laws import UNKNOWN, named

from crosscheck.libraries.layers import Attention, Bias, Holds, Padding, Recurrent

INPUTS, HIDDEN, BATCH, TIME = 3, 5, 4, 6
FEATURES, HEADS = 6, 2
LARGE_INPUTS, LARGE_HIDDEN, DRAWS = 20, 36, 12
"""Sizes at which initial laws are told apart, and how many seeds are drawn."""

SYMBOLS = {LARGE_INPUTS: "inputs", LARGE_INPUTS + LARGE_HIDDEN: "(inputs + hidden)"} | {
    count * LARGE_HIDDEN: f"{count} hidden" if count > 1 else "hidden" for count in (1, 2, 3, 4, 6, 8)
}
OF_ATTENTION = {
    LARGE_INPUTS: "features",
    3 * LARGE_INPUTS: "3 features",
    4: "heads",
    LARGE_INPUTS // 4: "size of a head",
}
"""What axes of these sizes are called."""

ALIKE = {"float64": 1e-12, "float32": 3e-6}
"""Rounding of values near 1: some fifty operations, each of half a unit in the last place. What is another formula, or
another order of gates, differs by more than a hundredth."""

LENGTHS = (6, 3, 1, 0)


class Library:
    """A library's script in a process of its own."""

    def __init__(self, python: Path, script: Path, *arguments: str) -> None:
        command = [str(python), str(script), *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.described = self._answer()

    def ask(self, layer: str, function: str, *arguments: Any) -> Any:
        """Raises RuntimeError with what the library raised."""
        assert self.process.stdin is not None
        pickle.dump((layer, function, arguments), self.process.stdin)
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        try:
            found = pickle.load(self.process.stdout)
        except EOFError:
            raise SystemExit(f"{self.process.args}: ended without an answer, see above") from None
        if isinstance(found, RuntimeError):
            raise found
        return found

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def random(*key: int) -> np.random.Generator:
    return np.random.default_rng([17, *key])


def alike(one: Any, two: Any, precision: str) -> bool:
    one, two = np.asarray(one), np.asarray(two)
    return one.shape == two.shape and bool(np.abs(one - two).max(initial=0.0) <= ALIKE[precision])


def laws_of(draw: Callable[[int], Arrays], hidden: int, symbols: dict[int, str]) -> dict[str, str]:
    """By array. Of a hundred arrays one is rejected by chance now and then; what is no law is so on new seeds too."""
    found: dict[str, str] = {}
    for first in (0, DRAWS):
        draws = [draw(seed) for seed in range(first, first + DRAWS)]
        for name in draws[0]:
            if found.get(name, UNKNOWN) == UNKNOWN:
                found[name] = named([np.asarray(one[name]) for one in draws], hidden, symbols)
        if UNKNOWN not in found.values():
            break
    return found


class RecurrentJudge:
    """A recurrent layer's facts. ask: (function, arguments) -> the answer of the library's script."""

    def __init__(self, ask: Any, described: dict[str, Any], precision: str) -> None:
        self.ask, self.described, self.precision = ask, described, precision
        self.kind: Any = described["kind"]
        if described["laws"]:
            made = {name: np.shape(one) for name, one in ask("initial", 0, INPUTS, HIDDEN).items()}
        else:
            made = {name: tuple(one) for name, one in ask("shapes", INPUTS, HIDDEN).items()}
        self.shapes = made
        self.blocks: Blocks = of_recurrent(made, INPUTS, HIDDEN)
        self.x = random(0).standard_normal((BATCH, TIME, INPUTS))
        count = 2 if self.kind == "lstm" else 1
        self.states = [random(1, n).standard_normal((BATCH, HIDDEN)) for n in range(count)]

    def empty(self) -> Arrays:
        return {name: np.zeros(shape) for name, shape in self.shapes.items()}

    def kernels(self) -> Arrays:
        """Random kernels, and no biases."""
        arrays = self.empty()
        for number, block in enumerate([*self.blocks.inputs, *self.blocks.hidden]):
            block.put(arrays, random(2, number).standard_normal(block.elements.shape))
        return arrays

    def one_step(self, arrays: Arrays) -> list[np.ndarray]:
        _, states = self.ask("run", arrays, self.x[:, :1], self.states, None)
        return [np.asarray(one) for one in states]

    def read(self) -> None:
        """The order of the gates in both kernels, and the equation. Raises ValueError unless exactly one fits."""
        arrays = self.kernels()
        seen = self.one_step(arrays)
        gates = GATES[self.kind]
        turned = (False, True) if self.blocks.transposable else (False,)
        fits = []
        for order, other, convention, turn in itertools.product(
            itertools.permutations(gates), itertools.permutations(gates), CONVENTIONS[self.kind], turned
        ):
            wi = {g: block.take(arrays) for g, block in zip(order, self.blocks.inputs, strict=True)}
            wh = {g: self._hidden(block, turn).take(arrays) for g, block in zip(other, self.blocks.hidden, strict=True)}
            expected = step(self.kind, convention, wi, wh, self.x[:, 0], self.states)
            if all(alike(one, two, self.precision) for one, two in zip(seen, expected, strict=True)):
                fits.append((order, other, convention, turn))
        if len(fits) != 1:
            raise ValueError(f"expected one equation that fits, got {len(fits)}: {fits}")
        ((self.order, self.other, self.convention, self.turn),) = fits
        self.wi = dict(zip(self.order, self.blocks.inputs, strict=True))
        self.wh = {g: self._hidden(b, self.turn) for g, b in zip(self.other, self.blocks.hidden, strict=True)}
        self.biases = [self._bias(block) for block in self.blocks.biases]

    @staticmethod
    def _hidden(block: Block, turn: bool) -> Block:
        return block._replace(elements=block.elements.T) if turn else block

    def _bias(self, block: Block) -> Bias:
        """Which gate a block of a bias moves, alone beside random kernels, and where it is added."""
        arrays = self.kernels()
        value = random(3).standard_normal(HIDDEN)
        block.put(arrays, value)
        seen = self.one_step(arrays)
        wi, wh = ({g: b.take(arrays) for g, b in one.items()} for one in (self.wi, self.wh))
        fits = []
        for gate, side in itertools.product(GATES[self.kind], ("input", "hidden")):
            sides = {"bi" if side == "input" else "bh": {gate: value}}
            expected = step(self.kind, self.convention, wi, wh, self.x[:, 0], self.states, **sides)
            if all(alike(one, two, self.precision) for one, two in zip(seen, expected, strict=True)):
                fits.append((gate, side))
        gates = {gate for gate, _ in fits}
        if len(gates) != 1:
            raise ValueError(f"{block.array}, block {block.number}: expected one gate that it moves, got {fits}")
        return Bias(array=block.array, gate=gates.pop(), side=fits[0][1] if len(fits) == 1 else "")

    def loaded(self, weights: Arrays) -> tuple[Arrays, list[str], bool]:
        """torch's weights in the places that were found; what found none, and whether two were added into one."""
        arrays = self.empty()
        wi, wh, bi, bh = (
            dict(zip(GATES[self.kind], np.split(weights[name], len(GATES[self.kind])), strict=True))
            for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        )
        # sigmoid(-x) is 1 - sigmoid(x): an update gate that keeps the other state is the same with its sign turned.
        signs = {g: -1.0 if g == "z" and self.convention.update == "new" else 1.0 for g in wi}
        lost, summed = [], False
        for gate, sign in signs.items():
            self.wi[gate].put(arrays, sign * wi[gate])
            self.wh[gate].put(arrays, sign * wh[gate])
            places = [(b, k) for b, k in zip(self.blocks.biases, self.biases, strict=True) if k.gate == gate]
            offset = self.convention.forget_offset if gate == "f" else 0.0
            by_side = {known.side: block for block, known in places if known.side}
            if by_side:
                for side, value in (("input", bi[gate]), ("hidden", bh[gate])):
                    if side in by_side:
                        by_side[side].put(arrays, value)
                    else:
                        lost.append(f"{'b_i' if side == 'input' else 'b_h'}{gate}")
            elif len(places) >= 2:
                places[0][0].put(arrays, sign * bi[gate] - offset)
                places[1][0].put(arrays, sign * bh[gate])
            elif places:
                places[0][0].put(arrays, sign * (bi[gate] + bh[gate]) - offset)
                summed = True
            else:
                lost += [f"b_i{gate}", f"b_h{gate}"]
        return arrays, lost, summed

    def holds(self, weights: Arrays, torch: Any) -> Holds:
        """torch: (weights) -> its outputs and states, h and c, from the same x and states h and c."""
        arrays, lost, summed = self.loaded(weights)
        difference = self._beside(arrays, torch(weights))
        if difference <= ALIKE[self.precision] * TIME:
            return Holds(verdict="summed" if summed else "each", difference=shown(difference))
        without: tuple[str, ...] = ()
        gates = GATES[self.kind]
        if lost:
            less = {name: one.copy() for name, one in weights.items()}
            for name in lost:
                tensor = {"b_i": "bias_ih_l0", "b_h": "bias_hh_l0"}[name[:3]]
                place = gates.index(name[3])
                less[tensor][place * HIDDEN : (place + 1) * HIDDEN] = 0.0
            if self._beside(self.loaded(less)[0], torch(less)) <= ALIKE[self.precision] * TIME:
                without = tuple(lost)
        return Holds(verdict="no", difference=shown(difference), lost=tuple(lost), without=without)

    def _beside(self, arrays: Arrays, theirs: tuple[np.ndarray, list[np.ndarray]]) -> float:
        given = dict(zip(("h", "c"), self.states, strict=False))
        outputs, states = self.ask("run", arrays, self.x, [given[s] for s in self.convention.states], None)
        ordered = dict(zip(self.convention.states, states, strict=True))
        pairs = [(outputs, theirs[0]), *((ordered[s], one) for s, one in zip(("h", "c"), theirs[1], strict=False))]
        return max(float(np.abs(np.asarray(a) - b).max() / np.abs(b).max()) for a, b in pairs)

    def padding(self) -> Padding:
        by = self.described["lengths"]
        if not by:
            return Padding(by="")
        arrays = self.empty()
        for number, name in enumerate(arrays):
            arrays[name] = random(4, number).standard_normal(arrays[name].shape)
        lengths = np.array(LENGTHS)

        def run(lengths: np.ndarray, x: np.ndarray, rows: slice = slice(None)) -> Any:
            outputs, states = self.ask("run", arrays, x[rows], [one[rows] for one in self.states], lengths[rows])
            return np.asarray(outputs), [np.asarray(one) for one in states]

        nonzero = slice(0, 3)
        outputs, states = run(lengths, self.x, nonzero)
        short, row = LENGTHS[1], slice(1, 2)
        alone, alone_states = self.ask("run", arrays, self.x[row, :short], [one[row] for one in self.states], None)
        whole, whole_states = self.ask("run", arrays, self.x[row], [one[row] for one in self.states], None)
        tail = outputs[1, short:]
        options = {
            "zero": np.zeros_like(tail),
            "the last output, again": np.repeat(np.asarray(alone)[0, -1:], len(tail), 0),
            "computed from the padding": np.asarray(whole)[0, short:],
        }
        state_options = {"at its length": alone_states, "after all steps": whole_states}
        marked = self.x.copy()
        for number, length in enumerate(LENGTHS):
            marked[number, length:] = np.nan
        dirty, dirty_states = run(lengths, marked, nonzero)
        reached = [
            name
            for name, values in (
                ("outputs within the length", [dirty[n, : LENGTHS[n]] for n in range(3)]),
                ("last states", [one for state in dirty_states for one in state]),
            )
            if any(np.isnan(one).any() for one in values)
        ]
        facts = {
            "outputs": self._called(tail, options),
            "state": self._called([one[row] for one in states], state_options),
            "nan_reaches": " and ".join(reached) or "neither",
        }
        try:
            outputs, states = run(lengths, self.x)
        except RuntimeError as error:
            return Padding(by=by, zero_state=f"raises {error}", **facts)
        last = slice(3, 4)
        whole, whole_states = self.ask("run", arrays, self.x[last], [one[last] for one in self.states], None)
        state = [one[last] for one in states]
        initial = [one[last] for one in self.states]
        zero_options = {
            "the initial state": initial,
            "zeros": [np.zeros_like(one) for one in initial],
            "after all steps": whole_states,
        }
        if self.kind == "lstm":
            zero_options["initial h, and c after all steps"] = [initial[0], whole_states[1]]
        output_options = {
            "zero": np.zeros_like(outputs[3]),
            "the initial state": np.repeat(initial[self.convention.states.index("h")], TIME, 0),
            "computed from the padding": np.asarray(whole)[0],
        }
        return Padding(
            by=by,
            zero_state=self._called(state, zero_options),
            zero_outputs=self._called(outputs[3], output_options),
            **facts,
        )

    def _called(self, seen: Any, options: dict[str, Any]) -> str:
        """Which of the options it is. None of them is a fact as well."""
        found = [
            name
            for name, expected in options.items()
            if all(
                alike(a, b, self.precision)
                for a, b in zip(np.asarray(seen)[None], np.asarray(expected)[None], strict=True)
            )
        ]
        return found[0] if found else "something else"

    def initial(self) -> dict[str, str]:
        if not self.described["laws"]:
            return {}
        return laws_of(lambda seed: self.ask("initial", seed, LARGE_INPUTS, LARGE_HIDDEN), LARGE_HIDDEN, SYMBOLS)

    def row(self, library: str, layer: str, weights: Arrays, torch: Any) -> Recurrent:
        self.read()
        return Recurrent(
            library=library,
            layer=layer,
            kind=self.kind,
            precision=self.precision,
            kernels=tuple(f"{name} {_symbols(shape)}" for name, shape in self.shapes.items()),
            gates=self._named(self.order, self.blocks.inputs),
            recurrent_gates=self._named(self.other, self.blocks.hidden),
            biases=tuple(self.biases),
            reset=self.convention.reset,
            update=self.convention.update,
            activation=self.convention.activation,
            forget_offset=self.convention.forget_offset,
            states=self.convention.states,
            projection=self.described["projection"],
            holds=self.holds(weights, torch),
            padding=self.padding(),
            initial=self.initial(),
        )

    @staticmethod
    def _named(order: Sequence[str], blocks: Sequence[Block]) -> tuple[str, ...]:
        apart = len({block.array for block in blocks}) > 1
        return tuple(f"{gate} in {b.array}" if apart else gate for gate, b in zip(order, blocks, strict=True))


def _symbols(shape: Sequence[int]) -> str:
    names = {INPUTS: "I", HIDDEN: "H", 3 * HIDDEN: "3H", 4 * HIDDEN: "4H", 6 * HIDDEN: "6H", 8 * HIDDEN: "8H"}
    names |= {2 * HIDDEN: "2H", INPUTS + HIDDEN: "I + H"}
    return f"({', '.join(names.get(one, str(one)) for one in shape)})"


def shown(share: float) -> float:
    return float(f"{share:.1e}") if math.isfinite(share) else 1e308


ROLES = ("query", "key", "value", "output")


class AttentionJudge:
    def __init__(self, ask: Any, described: dict[str, Any], precision: str) -> None:
        self.ask, self.described, self.precision = ask, described, precision
        made = ask("initial", 0, FEATURES, HEADS)
        self.shapes = {name: np.shape(one) for name, one in made.items()}
        self.kernels, self.biases = of_attention(self.shapes, FEATURES)
        self.given = tuple(random(5, n).standard_normal((2, 4, FEATURES)) for n in range(3))

    def drawn(self) -> Arrays:
        arrays = {name: np.zeros(shape) for name, shape in self.shapes.items()}
        for number, block in enumerate(self.kernels):
            block.put(arrays, random(6, number).standard_normal(block.elements.shape) / FEATURES**0.5)
        return arrays

    def read(self) -> None:
        """The role of each kernel, and the scale. A layer that rounds to float32 whatever comes is read as such."""
        fits = self._fits()
        if not fits and self.precision == "float64":
            self.precision = "float32"
            fits = self._fits()
        if len(fits) != 1:
            raise ValueError(f"expected one equation that fits, got {len(fits)}")
        ((self.scale, self.placed),) = fits
        self.bias_places: dict[str, Block] = {}
        for block in self.biases:
            self.bias_places[self._bias(block)] = block

    def _fits(self) -> list[tuple[str, dict[str, Block]]]:
        arrays = self.drawn()
        seen = self.ask("run", arrays, *self.given, None)
        fits = []
        for scale in ("sqrt(size of a head)", "sqrt(features)", "nothing"):
            for order in itertools.permutations(ROLES[: len(self.kernels)]):
                for turned in itertools.product((False, True), repeat=len(self.kernels)):
                    placed = dict(zip(order, map(self._turned, self.kernels, turned), strict=True))
                    found = {role: block.take(arrays) for role, block in placed.items()}
                    if alike(seen, attention(found, {}, *self.given, HEADS, scale), self.precision):
                        fits.append((scale, placed))
        return fits

    @staticmethod
    def _turned(block: Block, turn: bool) -> Block:
        return block._replace(elements=block.elements.T) if turn else block

    def _bias(self, block: Block) -> str:
        """Its role. A key's bias moves nothing: it adds the same to all scores of a query."""
        arrays = self.drawn()
        value = random(7).standard_normal(FEATURES)
        block.put(arrays, value)
        seen = self.ask("run", arrays, *self.given, None)
        kernels = {role: one.take(arrays) for role, one in self.placed.items()}
        fits = [
            role
            for role in ROLES
            if alike(seen, attention(kernels, {role: value}, *self.given, HEADS, self.scale), self.precision)
        ]
        if len(fits) != 1:
            raise ValueError(f"{block.array}, block {block.number}: expected one role, got {fits}")
        return fits[0]

    def mask(self) -> tuple[str, str]:
        """What True means, and what a query gets whose keys are all masked."""
        arrays = self.drawn()
        for role, block in self.bias_places.items():
            block.put(arrays, random(8, ROLES.index(role)).standard_normal(FEATURES))
        kernels = {role: one.take(arrays) for role, one in self.placed.items()}
        biases = {role: one.take(arrays) for role, one in self.bias_places.items()}
        one = np.zeros((2, 4, 4), bool)
        one[..., 1] = True
        seen = self.ask("run", arrays, *self.given, one)
        options = {"attends": one, "is left out": ~one}
        meanings = [
            name
            for name, keep in options.items()
            if alike(seen, attention(kernels, biases, *self.given, HEADS, self.scale, keep), self.precision)
        ]
        if len(meanings) != 1:
            return "something else", "not asked"
        keep = np.ones((2, 4, 4), bool)
        keep[0] = False
        mask = keep if meanings[0] == "attends" else ~keep
        try:
            seen = np.asarray(self.ask("run", arrays, *self.given, mask))
        except RuntimeError as error:
            return meanings[0], f"raises {error}"
        value = self.given[2]
        values = value @ kernels["value"].T + biases.get("value", 0.0) if "value" in kernels else value
        mean = np.broadcast_to(values.mean(1, keepdims=True), values.shape)
        into = (lambda v: v @ kernels["output"].T + biases.get("output", 0.0)) if "output" in kernels else (lambda v: v)
        options = {
            "the mean of all values": into(mean),
            "zero before the output projection" if "output" in kernels else "zero": into(np.zeros_like(mean)),
            "as if nothing were masked": attention(kernels, biases, *self.given, HEADS, self.scale),
        }
        if np.isnan(seen[0]).all():
            others = "" if np.isfinite(seen[1]).all() else ", in other sequences too"
            return meanings[0], f"NaN{others}"
        found = [name for name, expected in options.items() if alike(seen[0], expected[0], self.precision)]
        return meanings[0], found[0] if found else "something else"

    def holds(self, weights: Arrays, torch: Any) -> Holds | None:
        if not self.kernels:
            return None
        arrays = {name: np.zeros(shape) for name, shape in self.shapes.items()}
        parts = dict(zip(ROLES, [*np.split(weights["in_proj_weight"], 3), weights["out_proj.weight"]], strict=True))
        biases = dict(zip(ROLES, [*np.split(weights["in_proj_bias"], 3), weights["out_proj.bias"]], strict=True))
        for role, block in self.placed.items():
            block.put(arrays, parts[role])
        for role, block in self.bias_places.items():
            block.put(arrays, biases[role])
        lost = tuple(f"the {role}'s bias" for role in ROLES if role not in self.bias_places)
        theirs = torch(weights)
        ours = np.asarray(self.ask("run", arrays, *self.given, None))
        difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        alright = difference <= ALIKE[self.precision] * TIME
        return Holds(verdict="each" if alright and not lost else "no", difference=shown(difference), lost=lost)

    def initial(self) -> dict[str, str]:
        if not self.described["laws"]:
            return {}
        return laws_of(lambda seed: self.ask("initial", seed, LARGE_INPUTS, 4), LARGE_INPUTS, OF_ATTENTION)

    def row(self, library: str, layer: str, weights: Arrays, torch: Any) -> Attention:
        self.read()
        mask, masked_row = self.mask()
        return Attention(
            library=library,
            layer=layer,
            precision=self.precision,
            arrays={role: self._place(self.placed[role]) for role in ROLES if role in self.placed},
            biases={role: self._place(self.bias_places[role]) for role in ROLES if role in self.bias_places},
            default_biases=self.described["biases"],
            scale=self.scale,
            mask_argument=self.described["mask"],
            mask=mask,
            masked_row=masked_row,
            holds=self.holds(weights, torch),
            initial=self.initial(),
        )

    def _place(self, block: Block) -> str:
        count = math.prod(self.shapes[block.array]) // block.elements.size
        shape = tuple(self.shapes[block.array])
        words = {FEATURES: "E", 3 * FEATURES: "3E", HEADS: "heads", FEATURES // HEADS: "E / heads"}
        shaped = f"{block.array} ({', '.join(words.get(one, str(one)) for one in shape)})"
        return f"{shaped}, part {block.number + 1} of {count}" if count > 1 else shaped
