"""What `make test` leaves to `make test-long`: cases that others stand for, and none by a slip."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest


class Item:
    """A collected case, as far as it is looked at."""

    def __init__(self, name: str, case: str, patterns: Sequence[str] = ()) -> None:
        self.nodeid = f"{name}[{case}]"
        self.patterns = patterns
        self.marks: list[Any] = []

    def get_closest_marker(self, name: str) -> Any:
        return {
            "by_default": pytest.mark.by_default(*self.patterns).mark if self.patterns else None,
            "no_such_case": next((mark.mark for mark in self.marks if mark != "long"), None),
        }[name]

    def add_marker(self, mark: Any) -> None:
        self.marks.append(mark)


def test_what_no_pattern_names_is_long(conftest: ModuleType) -> None:
    patterns = ("one", "a[[]b]*")
    items = [Item("test", case, patterns) for case in ("one", "two", "a[b]c")] + [Item("other", "two")]
    conftest.mark_long(items, whole=True)
    assert [(item.nodeid, item.marks) for item in items if item.marks] == [("test[two]", ["long"])]


def test_a_pattern_that_names_no_case_is_red(conftest: ModuleType) -> None:
    """A case that was given another name would leave `make test` unseen."""
    items = [Item("test", case, ("one", "three")) for case in ("one", "two")]
    conftest.mark_long(items, whole=True)
    for item in items:
        assert "long" not in item.marks
        with pytest.raises(pytest.fail.Exception, match="expected ids of this test's cases, got three"):
            conftest.pytest_runtest_setup(item)


def test_whoever_names_a_case_may_have_no_other(conftest: ModuleType) -> None:
    (item,) = items = [Item("test", "two", ("one", "three"))]
    conftest.mark_long(items, whole=False)
    assert item.marks == ["long"]
    conftest.pytest_runtest_setup(item)
