"""What a model computes on its way, seen by a dispatch mode below autograd; and float64 where it says float32.

`torch.utils._python_dispatch.TorchDispatchMode` is torch's documented way to see every operation, and is in no public
module: it is asked for here alone.
"""

import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from spec.errors import OhlolError, Unsupported
from spec.pair import Intermediate
from torch_impl.pair.kinds import paths_of
from torch_impl.pair.trees import as_entered, is_number, taken_out

try:
    from torch.utils._python_dispatch import TorchDispatchMode
except ImportError:  # pragma: no cover
    TorchDispatchMode = object  # pyright: ignore[reportAssignmentType]

NARROW = (torch.float32, torch.bfloat16, torch.float16)
WIDE = dict.fromkeys(NARROW, torch.float64) | {torch.complex64: torch.complex128}
"""What a dtype is widened to."""
COPIES = ("clone", "_to_copy", "detach", "alias", "_unsafe_view", "lift_fresh", "contiguous")
"""Operations that hand on what they take, as views do, in memory of its own."""
MOVES = ("cat", "stack", "unsafe_split", "unsafe_chunk", "index_select", "index", "embedding", "gather", "flip", "roll")
MOVES += ("constant_pad_nd", "repeat", "split_with_sizes_copy", "select_scatter", "slice_scatter", "masked_fill")
"""Operations whose result holds nothing but values of what they take, or a constant."""

UNWRITTEN = ("empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided")
"""Operations whose result holds whatever stood there before: it is a value once it is written."""

OURS = Path(__file__).parents[2]
STANDARD = sysconfig.get_path("stdlib")
NOT_THE_USERS = (str(Path(torch.__file__).parent), *(str(OURS / name) for name in ("torch_impl", "crosscheck")), "<")
LIBRARIES = ("/beartype/", "/jaxtyping/", "/keras/src/")
"""Parts of the paths of files that stand between the user's line and the framework's."""


@contextmanager
def plain_layers() -> Iterator[None]:
    """Layers computed operation by operation, in none of the ways that hide what is between."""
    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
        stack.callback(setattr, torch.backends.mkldnn, "enabled", torch.backends.mkldnn.enabled)
        torch.backends.mha.set_fastpath_enabled(False)
        torch.backends.mkldnn.enabled = False
        yield


@contextmanager
def widened(recorder: "Recorder") -> Iterator[None]:
    """New arrays are float64, and what is cast to float32 is not."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with recorder:
            yield
    finally:
        torch.set_default_dtype(default)


class _Written(NamedTuple):
    """A part of a storage. view: offset, shape and strides. span: first and last position. computed: not only seen."""

    view: tuple[int, tuple[int, ...], tuple[int, ...]]
    span: tuple[int, int]
    by: tuple[int | str, ...]
    computed: bool


class _Memory:
    """Who wrote what a storage holds: intermediates by number and leaves by path, for each part written."""

    def __init__(self, leaves: Mapping[str, Tensor]) -> None:
        self.written: dict[int, list[_Written]] = {}
        self.alive: list[Tensor] = []  # so that no storage is given the address of one that was let go
        for path, array in leaves.items():
            self.write(array, (path,))

    def write(self, array: Tensor, by: tuple[int | str, ...], computed: bool = True) -> None:
        """computed: written to; else a view of it was given a number of its own."""
        entry = _Written(*_place(array), by, computed)
        held = self.written.setdefault(array.untyped_storage().data_ptr(), [])
        if computed:
            held[:] = [other for other in held if not _covers(entry, other)]
        held.append(entry)
        self.alive.append(array)

    def read(self, array: Tensor) -> tuple[int | str, ...]:
        if array.numel() == 0:
            return ()
        view, (first, last) = _place(array)
        found: list[int | str] = []
        for other in reversed(self.written.get(array.untyped_storage().data_ptr(), [])):
            sibling = other.view[1:] == view[1:] and other.view[0] != view[0]  # another slice of the same array
            same = (other.view[0], int(np.prod(other.view[1])), other.span) == (first, array.numel(), (first, last))
            if sibling or not (same or other.computed):
                continue
            start, stop = other.span
            if start <= last and first <= stop:
                found += other.by
                if same or (start <= first and last <= stop):
                    break
        return tuple(dict.fromkeys(found))


def _place(array: Tensor) -> tuple[tuple[int, tuple[int, ...], tuple[int, ...]], tuple[int, int]]:
    if array.is_complex():  # whose parts may be read one by one, as numbers of half its size
        array = torch.view_as_real(array.conj() if array.is_conj() else array)
    offset = int(array.storage_offset())
    last = offset + sum((size - 1) * int(stride) for size, stride in zip(array.shape, array.stride(), strict=True))
    return (offset, tuple(array.shape), array.stride()), (offset, last)


def _covers(entry: _Written, other: _Written) -> bool:
    dense = entry.span[1] - entry.span[0] + 1 == int(np.prod(entry.view[1]))
    return other.view == entry.view or (dense and entry.span[0] <= other.span[0] and other.span[1] <= entry.span[1])


class Recorder(TorchDispatchMode):  # pyright: ignore[reportGeneralTypeIssues]
    """Sees every operation while it is entered. wide: float64 throughout. record: keeps intermediates.

    original: the model that `module` is a copy of, none of whose layers may compute.
    """

    def __init__(
        self,
        module: nn.Module,
        leaves: Mapping[str, Tensor],
        *,
        wide: bool,
        record: bool,
        replaced: Mapping[int, np.ndarray] | None = None,
        original: nn.Module | None = None,
    ) -> None:
        if TorchDispatchMode is object:
            raise Unsupported(f"torch {torch.__version__} has no TorchDispatchMode, by which intermediates are seen")
        super().__init__()
        self.wide, self.record, self.replaced = wide, record, replaced or {}
        self.intermediates: list[Intermediate] = []
        self.pinned: dict[str, None] = {}
        self.memory = _Memory(leaves if record else {})
        self.paths = paths_of(module)
        self.copied = {id(one): path for path, one in original.named_modules()} if original is not None else {}
        self.modules: list[str] = []

    @contextmanager
    def modules_followed(self) -> Iterator[None]:
        """Knows meanwhile which module computes."""

        def enter(module: nn.Module, _: Any) -> None:
            self.modules.append(self.paths.get(id(module), self.modules[-1] if self.modules else ""))
            if id(module) in self.copied:
                layer = self.copied[id(module)] or type(module).__name__
                raise OhlolError(
                    f"expected layers of the model that is handed in, got {layer} of the one that was made"
                )

        def leave(*_: Any) -> None:
            self.modules.pop()

        hooks = (
            register_module_forward_pre_hook(enter),
            register_module_forward_hook(leave, always_call=True),
        )
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.wide:
            written = {i for i, one in enumerate(func._schema.arguments) if one.alias_info and one.alias_info.is_write}
            args = tuple(one if i in written else self._widen(one) for i, one in enumerate(args))
            kwargs = {name: one if name == "out" else self._widen(one) for name, one in kwargs.items()}
        if not self.record:
            return func(*args, **kwargs)
        read = tuple(dict.fromkeys(by for one in _tensors((args, kwargs)) for by in self.memory.read(one)))
        return self._recorded(func, read, args, func(*args, **kwargs))

    def _recorded(self, func: Any, read: tuple[int | str, ...], args: Any, result: Any) -> Any:
        name = func.overloadpacket.__name__
        taken = {id(one): one for one in _tensors(args)}
        if name == "copy_":
            read = self.memory.read(args[1])
        is_view = bool(getattr(func, "is_view", False))
        handed_on = is_view or name in COPIES or name == "copy_"
        view = handed_on or name in MOVES
        largest = max((one.numel() for one in taken.values()), default=0)

        def one(array: Tensor) -> Tensor:
            if not is_number(array) or name in UNWRITTEN:
                return array
            same = handed_on and array.numel() >= largest
            of_leaves = view and bool(read) and all(isinstance(by, str) for by in read) and name != "embedding"
            if array.numel() < 2 or same or of_leaves:
                if not is_view:
                    self.memory.write(array, read)
                return array
            number = len(self.intermediates)
            if number in self.replaced:
                given = as_entered(self.replaced[number], array.dtype).reshape(array.shape)
                array = array.copy_(given) if id(array) in taken else given
            leaves = tuple(by for by in read if isinstance(by, str))
            operands = tuple(by for by in read if isinstance(by, int))
            module, place = self.modules[-1] if self.modules else "", source()
            value = taken_out(array)
            self.intermediates.append(Intermediate(number, name, module, place, value, leaves, operands, view))
            self.memory.write(array, (number,), not is_view or number in self.replaced)
            return array

        return _each(one, result)

    def _widen(self, value: Any) -> Any:
        if isinstance(value, torch.dtype):
            return WIDE.get(value, value)
        if isinstance(value, list | tuple):
            return type(value)(self._widen(item) for item in value)
        if isinstance(value, Tensor) and value.dtype in WIDE:
            if value.numel() > 1:
                self.pinned[source()] = None
            return value.to(WIDE[value.dtype])
        return value


class Widths(TorchDispatchMode):  # pyright: ignore[reportGeneralTypeIssues]
    """Sees while it is entered in which floating dtypes operations give their results."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.found |= {str(one.dtype).partition(".")[2] for one in _tensors(result) if one.is_floating_point()}
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _each(one: Any, value: Any) -> Any:
    if isinstance(value, Tensor):
        return one(value)
    if isinstance(value, list | tuple):
        return type(value)(_each(one, item) for item in value)
    return value


def source() -> str:
    """The user's line that is being computed: the innermost one outside of the framework."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        standard = name.startswith(STANDARD) and "site-packages" not in name
        if not (standard or name.startswith(NOT_THE_USERS) or any(one in name for one in LIBRARIES)):
            return f"{Path(name).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
