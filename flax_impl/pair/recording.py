"""What a model computes on its way: its jaxpr, evaluated equation by equation; and float64 where it says float32.

The names of equations and where they stand in the user's code are no part of JAX's stable interface: what is needed of
them beside `flax_impl.fast.jaxprs` is asked for here alone.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flax_impl.fast.jaxprs import Literal, Missing, find
from flax_impl.pair.kinds import PATH
from flax_impl.pair.trees import as_entered, is_number, taken_out
from spec.pair import Intermediate

NARROW = (jnp.float32, jnp.bfloat16, jnp.float16)
WIDE = {jnp.dtype(one): jnp.dtype(jnp.float64) for one in NARROW} | {
    jnp.dtype(jnp.complex64): jnp.dtype(jnp.complex128)
}
"""What a dtype is widened to."""
INLINED = ("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint", "custom_jvp_call")
INLINED += ("custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin")
"""Equations that are a function of their own."""
COPIES = ("transpose", "reshape", "squeeze", "convert_element_type", "copy", "copy_p", "expand_dims", "stop_gradient")
COPIES += ("broadcast_in_dim", "optimization_barrier", "sharding_constraint", "name", "reduce_precision")
"""Operations that hand on what they take."""
MOVES = ("slice", "dynamic_slice", "gather", "concatenate", "pad", "select_n", "split", "rev", "dynamic_update_slice")
"""Operations whose result holds nothing but values of what they take, or a constant."""
DTYPES = ("new_dtype", "preferred_element_type", "dtype", "input_dtype")

OURS = Path(__file__).parents[2]
JAX = str(Path(jax.__file__ or "").parent)
NOT_THE_USERS = (
    *(str(Path(one.__file__).parent) for one in (jax, flax) if one.__file__ is not None),
    *(str(OURS / name) for name in ("flax_impl", "crosscheck")),
    "<",
)
LIBRARIES = ("/beartype/", "/jaxtyping/", "/keras/src/")
"""Parts of the paths of files that stand between the user's line and the framework's."""
TRACER = find("jax.core", "Tracer")
USER_FRAMES = find("jax._src.source_info_util", "user_frames")


class Evaluated(NamedTuple):
    """outputs: the jaxpr's results. sources: of each, the intermediates and leaves that it is a view of."""

    outputs: list[Array]
    intermediates: list[Intermediate]
    pinned: dict[str, None]
    sources: list[tuple[int | str, ...]]


class Held(NamedTuple):
    """A value, and who computed it: intermediates by number and leaves by path."""

    value: Any
    by: tuple[int | str, ...]


def evaluate(
    closed: Any,
    arguments: Sequence[Any],
    *,
    wide: bool,
    record: bool = False,
    leaves: Sequence[str] = (),
    replaced: Mapping[int, np.ndarray] | None = None,
) -> Evaluated:
    """A closed jaxpr's results. leaves: paths of the first arguments.

    record: scans are gone through step by step, and every equation is computed by itself. Without it, this can be
    compiled, and loops stay loops.
    """
    run = _Run(wide, record, replaced or {})
    paths = [(path,) for path in leaves]
    entered = [
        Held(run.widen(one), by)
        for one, by in zip(arguments, [*paths, *[()] * (len(arguments) - len(paths))], strict=True)
    ]
    found = run.jaxpr(closed.jaxpr, closed.consts, entered, "")
    return Evaluated([one.value for one in found], run.intermediates, run.pinned, [one.by for one in found])


def widths(jaxpr: Any) -> set[str]:
    """Floating dtypes of what a jaxpr's equations give, those of functions within included."""
    found: set[str] = set()
    for equation in jaxpr.eqns:
        dtypes = [getattr(one.aval, "dtype", None) for one in equation.outvars]
        found |= {str(one) for one in dtypes if one is not None and jnp.issubdtype(one, jnp.floating)}
        for parameter in equation.params.values():
            inner = [
                getattr(one, "jaxpr", one) for one in (parameter if isinstance(parameter, tuple) else (parameter,))
            ]
            found = found.union(*(widths(one) for one in inner if hasattr(one, "eqns")))
    return found


class _Run:
    def __init__(self, wide: bool, record: bool, replaced: Mapping[int, np.ndarray]) -> None:
        self.wide, self.record, self.replaced, self.place = wide, record, replaced, ""
        self.intermediates: list[Intermediate] = []
        self.pinned: dict[str, None] = {}

    def widen(self, value: Any) -> Any:
        if isinstance(value, float | np.floating):
            value = np.asarray(value)
        if not hasattr(value, "dtype") or jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            return value
        return jnp.asarray(value, WIDE.get(value.dtype, value.dtype) if self.wide else value.dtype)

    def constant(self, value: Any, where: str) -> Any:
        """A literal or an array that the user's code holds; a narrow one as what it is likely to have been before."""
        if not (self.wide and hasattr(value, "dtype") and value.dtype in NARROW) or isinstance(value, TRACER):
            return self.widen(value)
        held = np.asarray(value)
        if held.size == 1 and held.dtype == np.float32:
            meant = _decimal(float(held.reshape(())))
            if meant is not None:
                return jnp.full(held.shape, meant, jnp.float64)
        scaled = np.asarray(held, np.float64) * 1024
        exact = np.isin(held, (np.inf, -np.inf)) | (np.abs(held) > 1e8) | (scaled == np.round(scaled))
        if not exact.all():
            self.pinned[where] = None
        return self.widen(value)

    def jaxpr(self, jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Held], scope: str) -> list[Held]:
        held: dict[Any, Held] = {}
        for variable, value in zip(jaxpr.constvars, constants, strict=True):
            held[variable] = Held(self.constant(value, "a constant array of the model"), ())
        held.update(zip(jaxpr.invars, arguments, strict=True))

        def read(one: Any) -> Held:
            if not isinstance(one, Literal):
                return held[one]
            aval: Any = one.aval
            return Held(self.constant(np.asarray(one.val, aval.dtype), "a literal"), ())

        for equation in jaxpr.eqns:
            taken = [read(one) for one in equation.invars]
            names = str(equation.source_info.name_stack)
            found = self.equation(equation, taken, f"{scope}/{names}" if names else scope)
            held.update(zip(equation.outvars, found, strict=True))
        return [read(one) for one in jaxpr.outvars]

    def equation(self, equation: Any, taken: list[Held], scope: str) -> list[Held]:
        name, parameters = equation.primitive.name, equation.params
        inner = next((parameters[one] for one in ("jaxpr", "call_jaxpr", "fun_jaxpr") if one in parameters), None)
        if name in INLINED and inner is not None:
            before = self.place
            # Of a function of JAX's own, traced once for all calls, only the call's line is the user's.
            self.place = before or (source(equation) if _is_of_jax(getattr(inner, "jaxpr", inner)) else "")
            found = self.jaxpr(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), taken, scope)
            self.place = before
            return found
        if name == "scan":
            return self.scan(parameters, taken, scope)
        if name == "while":
            return self.loop(parameters, taken, scope)
        if name == "cond":
            return self.cond(parameters, taken, scope)
        values = self.bound(equation, [one.value for one in taken])
        return self.kept(equation, taken, values, scope) if self.record else [Held(one, ()) for one in values]

    def bound(self, equation: Any, values: list[Any]) -> list[Any]:
        name, parameters = equation.primitive.name, dict(equation.params)
        if self.wide:
            if name == "bitcast_convert_type":
                before = equation.invars[0].aval.dtype
                values = [one.astype(before) if one.dtype == jnp.float64 else one for one in values]
            elif name == "reduce_precision":
                return values
            else:
                for one in DTYPES:
                    if parameters.get(one) is not None:
                        parameters[one] = WIDE.get(jnp.dtype(parameters[one]), parameters[one])
            if name == "scatter-add":
                keys = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
                return [jax.lax.scatter_add(*values, **{one: parameters[one] for one in keys})]
        found = equation.primitive.bind(*values, **parameters)
        return [self.widen(one) for one in (found if equation.primitive.multiple_results else [found])]

    def kept(self, equation: Any, taken: list[Held], values: list[Any], scope: str) -> list[Held]:
        name = equation.primitive.name
        # Where the choice is made by a mask, and the start of a slice, are no values that flow on.
        flowing = taken[1:] if name == "select_n" else taken[:1] if name in ("gather", "dynamic_slice") else taken
        by = tuple(dict.fromkeys(one for held in flowing for one in held.by))
        view = name in COPIES or name in MOVES
        of_leaves = view and bool(by) and all(isinstance(one, str) for one in by) and name != "gather"
        place = self.place or source(equation)
        if name in COPIES or of_leaves:
            return [Held(value, by) for value in values]
        return [self.held(name, value, by, view, scope, place) for value in values]

    def held(self, op: str, value: Any, by: tuple[int | str, ...], view: bool, scope: str, place: str) -> Held:
        """A value with a number of its own, where it is floating and not a single number; or what stands for it."""
        if not hasattr(value, "dtype") or not is_number(value) or value.size < 2:
            return Held(value, by)
        number = len(self.intermediates)
        if number in self.replaced:
            value = as_entered(self.replaced[number], value.dtype).reshape(value.shape)
        leaves = tuple(one for one in by if isinstance(one, str))
        operands = tuple(one for one in by if isinstance(one, int))
        module = _module_of(scope) or (leaves[0].rpartition(".")[0] if leaves else "")
        self.intermediates.append(Intermediate(number, op, module, place, taken_out(value), leaves, operands, view))
        return Held(value, (number,))

    def scan(self, parameters: Mapping[str, Any], taken: list[Held], scope: str) -> list[Held]:
        constants, carried, body = parameters["num_consts"], parameters["num_carry"], parameters["jaxpr"]
        fixed, carry, stacked = taken[:constants], taken[constants : constants + carried], taken[constants + carried :]
        if not self.record:

            def step(carry: Any, items: Any) -> Any:
                entered = [*fixed, *[Held(one, ()) for one in (*carry, *items)]]
                found = [one.value for one in self.jaxpr(body.jaxpr, body.consts, entered, scope)]
                return tuple(found[:carried]), tuple(found[carried:])

            values = [tuple(one.value for one in part) for part in (carry, stacked)]
            length, reverse = parameters["length"], parameters["reverse"]
            last, given = jax.lax.scan(step, *values, length=length, reverse=reverse)
            return [Held(one, ()) for one in (*last, *given)]
        steps = range(parameters["length"])
        given: dict[int, list[Held]] = {}
        for number in reversed(steps) if parameters["reverse"] else steps:
            items = [Held(one.value[number], _row(one.by, number)) for one in stacked]
            found = self.jaxpr(body.jaxpr, body.consts, [*fixed, *carry, *items], scope)
            carry, given[number] = found[:carried], found[carried:]
        together = []
        for item in range(len(body.jaxpr.outvars) - carried):
            rows = [given[number][item] for number in steps]
            value = jnp.stack([one.value for one in rows])
            by = tuple({one: None for row in rows for one in row.by})
            together.append(self.held("stack", value, by, True, scope, ""))
        return [*carry, *together]

    def loop(self, parameters: Mapping[str, Any], taken: list[Held], scope: str) -> list[Held]:
        first, second = parameters["cond_nconsts"], parameters["body_nconsts"]
        asked, fixed, state = taken[:first], taken[first : first + second], taken[first + second :]
        condition, body = parameters["cond_jaxpr"], parameters["body_jaxpr"]

        def goes_on(state: Sequence[Held]) -> Any:
            quiet = _Run(self.wide, False, {})
            return quiet.jaxpr(condition.jaxpr, condition.consts, [*asked, *state], scope)[0].value

        if not self.record:

            def step(values: Any) -> Any:
                entered = [*fixed, *[Held(one, ()) for one in values]]
                return tuple(one.value for one in self.jaxpr(body.jaxpr, body.consts, entered, scope))

            values = tuple(one.value for one in state)
            last = jax.lax.while_loop(lambda values: goes_on([Held(one, ()) for one in values]), step, values)
            return [Held(one, ()) for one in last]
        while bool(goes_on(state)):
            state = self.jaxpr(body.jaxpr, body.consts, [*fixed, *state], scope)
        return list(state)

    def cond(self, parameters: Mapping[str, Any], taken: list[Held], scope: str) -> list[Held]:
        branches, (index, *rest) = parameters["branches"], taken
        if self.record:
            branch = branches[min(max(int(index.value), 0), len(branches) - 1)]
            return self.jaxpr(branch.jaxpr, branch.consts, rest, scope)

        def one(branch: Any) -> Any:
            return lambda *values: tuple(
                found.value
                for found in self.jaxpr(branch.jaxpr, branch.consts, [Held(value, ()) for value in values], scope)
            )

        found = jax.lax.switch(index.value, [one(branch) for branch in branches], *[held.value for held in rest])
        return [Held(value, ()) for value in found]


def _row(by: tuple[int | str, ...], number: int) -> tuple[int | str, ...]:
    """Of leaves that are stacked for a scan, the row that one step takes: "layers.kernel[2]"."""
    return tuple(f"{one}[{number}]" if isinstance(one, str) and not one.endswith("]") else one for one in by)


def _decimal(value: float) -> float | None:
    """The number that was likely meant by one of float32: a short decimal, a root, a fraction; or None."""
    narrow = np.float32(value)
    shortest = float(str(narrow))
    if not math.isfinite(value) or float(narrow) == shortest or len(str(narrow).replace(".", "").strip("-0")) <= 6:
        return shortest
    sign, size = math.copysign(1, value), abs(value)
    square = round(size**2)
    inverse = round(1 / size**2)
    candidates = [math.sqrt(square), 1 / math.sqrt(inverse) if inverse else 0.0]
    candidates += [number * factor for number in (math.pi, math.e, math.log(2)) for factor in (0.25, 0.5, 1, 2)]
    candidates += [math.sqrt(2 / math.pi), 1 / math.sqrt(2 * math.pi), 2 / math.sqrt(math.pi)]
    candidates += [round(size * other) / other for other in range(3, 1025) if round(size * other)]
    for one in candidates:
        if np.float32(one) == np.float32(size):
            return sign * one
    return None


def _module_of(scope: str) -> str:
    """The path of the module in a stack of names: the innermost whole path, or linen's names joined."""
    names = [name for name in scope.split("/") if name]
    inner = [name for one in names for name in _unwrapped(one)]
    paths = [name.removeprefix(PATH) for name in inner if name.startswith(PATH)]
    if paths:
        return paths[-1]
    words = [name for name in inner if name.isidentifier() or "." in name]
    return ".".join(words[1:])


def _unwrapped(name: str) -> Iterator[str]:
    """ "vmap(jvp(a))" is "a"."""
    while name.endswith(")") and "(" in name:
        name = name[name.index("(") + 1 : -1]
    yield name


def _is_of_jax(jaxpr: Any) -> bool:
    """Whether a function that was traced is one of JAX's own, as jnp.where is."""
    file = getattr(getattr(jaxpr, "debug_info", None), "func_filename", None)
    return isinstance(file, str) and file.startswith(JAX)


def source(equation: Any) -> str:
    """The user's line that is being computed: the innermost one outside of the frameworks."""
    if USER_FRAMES is Missing:
        return ""
    traceback = equation.source_info.traceback
    try:
        frames = list(USER_FRAMES(traceback))
    except (AttributeError, TypeError):
        try:
            frames = list(USER_FRAMES(equation.source_info))
        except (AttributeError, TypeError):
            return ""
    own = [
        one
        for one in frames
        if not (one.file_name.startswith(NOT_THE_USERS) or any(name in one.file_name for name in LIBRARIES))
    ]
    return f"{Path(own[0].file_name).name}:{own[0].start_line}" if own else ""
