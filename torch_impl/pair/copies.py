"""A copy of a model that shares nothing with it that could be trained.

`copy.deepcopy` hands on functions as they are. One that a model made in its constructor and that calls the model's own
layers, `self.mlpf = lambda x: m.c_proj(m.c_fc(x))`, would go on calling those of the model that was copied: with other
values, in another precision, in another mode. Here such functions are copied with what they hold.
"""

import copy
from functools import partial
from types import CellType, FunctionType
from typing import Any

from torch import Tensor, nn


def copied(module: nn.Module) -> nn.Module:
    """Like `copy.deepcopy`, and functions in the model's attributes hold the copy's layers. Raises what that raises."""
    held = _Held()
    for part in module.modules():
        held.look_at(vars(part))
    memo: dict[int, Any] = {}
    cells = {id(cell): CellType() for function in held.functions for cell in function.__closure__ or ()}
    for function in held.functions:
        closure = tuple(cells[id(cell)] for cell in function.__closure__ or ())
        made = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, closure)
        made.__kwdefaults__ = function.__kwdefaults__
        made.__dict__.update(function.__dict__)
        memo[id(function)] = made
    found = copy.deepcopy(module, memo)
    for function in held.functions:
        for cell in function.__closure__ or ():
            if id(cell) in held.empty:
                continue
            # What holds no layers may be anything, such as what cannot be copied.
            content = cell.cell_contents
            cells[id(cell)].cell_contents = copy.deepcopy(content, memo) if held.look_at(content) else content
    return found


class _Held:
    """functions: that hold layers, directly or by others, in attributes and in other such functions. empty: cells."""

    def __init__(self) -> None:
        self.functions: list[FunctionType] = []
        self.empty: set[int] = set()
        self._seen: dict[int, bool] = {}

    def look_at(self, value: Any) -> bool:
        """Whether a value is a layer or an array, or holds one where it can be seen."""
        if isinstance(value, nn.Module | Tensor):
            return True
        if not isinstance(value, FunctionType | partial | dict | list | tuple):
            return False
        if id(value) not in self._seen:
            self._seen[id(value)] = False  # while it is looked at: it may hold itself
            found = [self.look_at(item) for item in self._items(value)]  # all of them: each may hold functions
            self._seen[id(value)] = any(found)
            if isinstance(value, FunctionType) and self._seen[id(value)]:
                self.functions.append(value)
        return self._seen[id(value)]

    def _items(self, value: Any) -> list[Any]:
        if isinstance(value, partial):
            return [value.func, *value.args, *value.keywords.values()]
        if isinstance(value, dict):
            return list(value.values())
        if not isinstance(value, FunctionType):
            return list(value)
        items = []
        for cell in value.__closure__ or ():
            try:
                items.append(cell.cell_contents)
            except ValueError:  # not filled yet, or not any more
                self.empty.add(id(cell))
        return items
