"""A task of one's own, in Python."""

import hashlib
import os
import subprocess
import sys
import tempfile
import traceback
import types
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from spec import files
from spec.errors import UsageError, shorten
from spec.limits import LARGEST_FILE
from spec.models.base import Length, Size
from spec.parameters import generator_for
from spec.tasks.base import IGNORED, Batch, Task, asked, not_asked
from spec.tasks.drawing import STEPS_DRAWN_TOGETHER
from spec.typical import NOT_DRAWN, typical

EXAMPLE = str(resources.files("spec") / "examples" / "parity.py")
"""The task that comes with ohlol, and is taken where no path is given."""

DIGITS = 16
"""Hexadecimal digits of a digest, as of other data."""

PATIENCE = 120
"""Seconds that a process may take to draw a batch for one that does not import the file itself."""


class Python(Task, frozen=True, kw_only=True, tag_field="name"):
    """Batches that a class in a Python file draws. docs/own_data.md has an example.

    path: the file, relative to the folder of the experiment's file; none: an example that comes with ohlol. class_name:
    of the class in it. It is made with this record, and has `draw(generator)`, which gives (inputs, targets) or
    (inputs, targets, lengths), from nothing but the NumPy generator that it is handed: then a batch is a function of
    (task, seed, step). If it has `evaluation(generator)`, the model is judged on what that gives, which may have
    another number of sequences; else on what `draw` gives for a fixed generator.

    inputs: "numbers", floating (batch, length, size), or "index", int64 (batch, length) below `size`. Targets are int64
    (batch, length), or (batch,) with `readout` "last step", below `classes`, or -100 where nothing is asked; with
    `targets` "numbers" floating, with `classes` numbers for each of these, NaN where nothing is asked. lengths: int64
    (batch,), 1 to `length`. What is not so is refused, with the file and what was expected.

    digest: of the file, found out where it is not given; another file is refused, so that no run goes on with other
    batches. The file is imported where models are computed, and by a process of its own where they are only compared.
    """

    path: Annotated[str, NOT_DRAWN] = ""
    digest: Annotated[str, NOT_DRAWN] = ""
    class_name: Annotated[str, NOT_DRAWN] = "Parity"
    length: Annotated[Length, typical(*range(2, 8))]
    classes: Annotated[Size, typical(2, 3)]
    batch_size: Size
    inputs: Annotated[Literal["numbers", "index"], NOT_DRAWN] = "numbers"
    targets: Annotated[Literal["classes", "numbers"], NOT_DRAWN] = "classes"
    size: Annotated[Size, typical(1, 2, 3)] = 1
    readout: Annotated[Literal["every step", "last step"], NOT_DRAWN] = "every step"  # pyright: ignore[reportIncompatibleMethodOverride]
    ragged: Annotated[bool, NOT_DRAWN] = True  # pyright: ignore[reportIncompatibleVariableOverride]

    def __post_init__(self) -> None:
        try:
            content = files.read(Path(self.file), LARGEST_FILE)
        except UsageError as error:
            raise ValueError(f"path: expected a Python file that can be read, got {error}") from None
        found = hashlib.sha256(content).hexdigest()[:DIGITS]
        if self.digest and self.digest != found:
            raise ValueError(
                f"digest: expected {found}, that of {self.file}, got {shorten(self.digest)}: "
                "the file is not the one that it was, or another"
            )
        msgspec.structs.force_setattr(self, "digest", found)

    @property
    def file(self) -> str:
        """Where the class is."""
        return self.path or EXAMPLE

    @property
    def data_source(self) -> str:
        return f"{self.class_name} of {self.path or 'an example of ohlol'}, SHA-256 {self.digest}"

    @property
    def input_size(self) -> int:
        return self.size

    @property
    def indices(self) -> bool:
        return self.inputs == "index"

    @property
    def numeric(self) -> bool:
        return self.targets == "numbers"

    def batch(self, seed: int, step: int, dtype: str) -> Batch:
        return self._checked("draw", self._drawn(seed, step), dtype)

    def evaluation_batch(self, dtype: str) -> Batch:
        return self._checked("evaluation", _evaluated(self), dtype)

    def _drawn(self, seed: int, step: int) -> tuple[np.ndarray, ...]:
        if not imports_allowed and step == EVALUATION:
            return _elsewhere(self, seed, (step,))[0]
        if not imports_allowed:
            return _block_elsewhere(self, seed, step // STEPS_DRAWN_TOGETHER)[step % STEPS_DRAWN_TOGETHER]
        return draw(self, seed, step)

    def _checked(self, function: str, arrays: tuple[np.ndarray, ...], dtype: str) -> Batch:
        """The batch, if it is one. Raises UsageError."""
        inputs, targets = arrays[:2]
        lengths = arrays[2] if len(arrays) > 2 else None

        def wrong(what: str, expected: str, got: object) -> UsageError:
            return UsageError(
                f"{self.file}: {self.class_name}.{function}: {what}: expected {expected}, got {shorten(str(got))}"
            )

        count = len(targets) if function == "evaluation" and targets.ndim else self.batch_size
        kinds, shape = ("iu", (count, self.length)) if self.indices else ("fiu", (count, self.length, self.size))
        if inputs.dtype.kind not in kinds or inputs.shape != shape:
            kind = "integer" if self.indices else "floating"
            raise wrong("inputs", f"{kind} {shape}", f"{inputs.dtype} {inputs.shape}")
        if self.ragged != (lengths is not None):
            expected = "integer lengths" if self.ragged else "none (ragged = false)"
            raise wrong("lengths", expected, "none" if lengths is None else f"{lengths.dtype} {lengths.shape}")
        valid = np.ones((count, self.length), bool)
        if lengths is not None:
            if lengths.dtype.kind not in "iu" or lengths.shape != (count,):
                raise wrong("lengths", f"integer {(count,)}", f"{lengths.dtype} {lengths.shape}")
            if lengths.min() < 1 or lengths.max() > self.length:
                raise wrong("lengths", f"1 to {self.length}", lengths.tolist())
            valid = np.arange(self.length) < lengths[:, None]
        if self.indices and (inputs[valid].min() < 0 or inputs[valid].max() >= self.size):
            raise wrong("inputs", f"0 to {self.size - 1}", f"{inputs[valid].min()} to {inputs[valid].max()}")
        if not self.indices and not np.isfinite(inputs[valid]).all():
            raise wrong("inputs", "finite numbers", inputs[valid][~np.isfinite(inputs[valid])][0])
        shape = (count,) if self.readout == "last step" else (count, self.length)
        shape = (*shape, self.classes) if self.numeric else shape
        if targets.dtype.kind not in ("f" if self.numeric else "iu") or targets.shape != shape:
            kind = "floating" if self.numeric else "integer"
            raise wrong("targets", f"{kind} {shape}", f"{targets.dtype} {targets.shape}")
        known = targets[asked(targets)]
        if self.numeric and not np.isfinite(known).all():
            raise wrong("targets", "finite numbers, or NaN", known[~np.isfinite(known)][0])
        if not known.size or (not self.numeric and (known.min() < 0 or known.max() >= self.classes)):
            got = f"{known.min()} to {known.max()}" if known.size else "nothing that is asked"
            expected = "a number somewhere" if self.numeric else f"0 to {self.classes - 1}, or {IGNORED}"
            raise wrong("targets", expected, got)
        if self.readout == "every step":
            kept = valid[..., None] if self.numeric else valid
            targets = np.where(kept, targets, not_asked(targets))
        given = inputs.astype(np.int64 if self.indices else dtype)
        wanted = targets.astype(dtype if self.numeric else np.int64)
        return Batch(given, wanted, None if lengths is None else lengths.astype(np.int64))


imports_allowed = False
"""Whether this process may import people's files: those that compute may, see `allow_imports`."""


def allow_imports() -> None:
    """Let this process import the files of such tasks: it computes models, or draws a batch and ends."""
    global imports_allowed
    imports_allowed = True


EVALUATION = -1
"""In the place of a step: the batch that the model is judged on."""


def draw(task: Python, seed: int, step: int) -> tuple[np.ndarray, ...]:
    """What the class gives, as arrays. Raises UsageError, with the file and the line, for what goes wrong in it."""
    made = _made(task)
    try:
        if step == EVALUATION:
            given = getattr(made, "evaluation", made.draw)(generator_for(0, "evaluation"))
        else:
            given = made.draw(generator_for(seed, "batch", step))
        arrays = tuple(np.asarray(array) for array in given)
    except Exception as error:
        raise UsageError(f"{task.file}{_line(error, task.file)}: {task.class_name}: {_told(error)}") from None
    if len(arrays) not in (2, 3):
        raise UsageError(
            f"{task.file}: {task.class_name}: expected inputs, targets and, if any, lengths, got {len(arrays)} arrays"
        )
    return arrays


@cache
def _made(task: Python) -> Any:
    """The object. Raises UsageError where the file cannot be imported or has no such class."""
    content = files.read(Path(task.file), LARGEST_FILE)
    if hashlib.sha256(content).hexdigest()[:DIGITS] != task.digest:
        raise UsageError(f"{task.file}: expected the file as it was at the beginning, got one that has changed")
    module = types.ModuleType(f"ohlol_task_{task.digest}")
    module.__file__ = task.file
    made, found = None, None
    try:
        exec(compile(content, task.file, "exec"), module.__dict__)
        found = getattr(module, task.class_name, None)
        made = found(task) if callable(found) and hasattr(found, "draw") else None
    # Also SystemExit: it is the file's failure.
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise UsageError(f"{task.file}{_line(error, task.file)}: cannot be imported: {_told(error)}") from None
    if made is None:
        got = "none of that name" if found is None else "one without it"
        raise UsageError(f"{task.file}: expected a class {task.class_name} with a function draw, got {got}")
    return made


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {shorten(str(error))}" if str(error) else type(error).__name__


def _line(error: BaseException, file: str) -> str:
    """Where in the file, as ", line 7"; empty where it was not there."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return f", line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f", line {lines[-1]}" if lines else ""


@lru_cache(maxsize=8)
def _evaluated(task: Python) -> tuple[np.ndarray, ...]:
    return task._drawn(0, EVALUATION)


@lru_cache(maxsize=2)
def _block_elsewhere(task: Python, seed: int, block: int) -> list[tuple[np.ndarray, ...]]:
    """Kept, since who asks for one step asks for others too, and a process takes longer than many batches."""
    first = block * STEPS_DRAWN_TOGETHER
    return _elsewhere(task, seed, range(first, first + STEPS_DRAWN_TOGETHER))


def _elsewhere(task: Python, seed: int, steps: Sequence[int]) -> list[tuple[np.ndarray, ...]]:
    """What `draw` gives for each step, drawn by a process of its own. Raises UsageError."""
    with tempfile.TemporaryDirectory(prefix="ohlol-") as folder:
        place = Path(folder, "batch.npz")
        values = msgspec.json.encode({"task": task, "seed": seed, "steps": list(steps), "place": str(place)})
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)}
        try:
            done = subprocess.run(
                [sys.executable, "-m", "spec.tasks.python_process"],
                input=values,
                capture_output=True,
                env=environment,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UsageError(f"{task.file}: expected a batch within {PATIENCE} s, got none") from None
        if done.returncode:
            told = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing was said"]
            raise UsageError(told[-1])
        with np.load(place, allow_pickle=False) as archive:
            found = {step: [name for name in archive.files if name.startswith(f"{step}/")] for step in steps}
            return [tuple(archive[name] for name in names) for names in found.values()]
