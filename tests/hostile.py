"""Texts that try to be more than text, and what no output may hold whatever it was given."""

import re

HOSTILE = {
    "a workflow command": "::error::forged",
    "one on a line of its own": "x\n::error file=a.py::forged",
    "one after spaces": "x\n  ::set-output name=a::forged",
    "one that a fold brings to a line's start": " ".join(["word"] * 30 + ["::warning::forged"] + ["word"] * 30),
    "one of the old form": "x ##[error]forged ##vso[task.setvariable variable=a]b",
    "a heading": "x\n# THE SAME: all experiments",
    "a verdict": "x\nTHE SAME: 35 experiments, 33266 comparisons\n",
    "cells": "x | **ok** | y |\n| forged | ok |",
    "code marks": "`` ` ``` x `",
    "a fence": "x\n```\n# out of it\n```",
    "HTML": "<script>alert(1)</script><img src=x onerror=alert(1)><!--",
    "a link and an image": "[x](https://a.example) ![y](https://b.example/z.png) https://c.example @somebody #1",
    "colours": "\x1b[31mred\x1b[0m\x1b[2J\x1b[1;1H",
    "a title": "\x1b]0;title\x07\x1b]8;;https://a.example\x1b\\link",
    "C1 controls": "\x9b31m\x9d0;title\x9c\x85next\x8d",
    "a carriage return": "FAIL\rok  ",
    "backspaces": "FAIL\b\b\b\bok  ",
    "bidirectional overrides": "a\u202eb\u2066c\u2069\u200f",
    "a line separator": "a\u2028# b\u2029\x0b\x0c# c",
    "a lone surrogate": "a\ud800b\udcff",
    "NUL": "a\x00b",
    "rich's markup": "[bold red]x[/] [link=https://a.example]y[/link] :smile:",
    "a list": "1. one\n- two\n+ three",
    "nothing but spaces": "   ",
    "emphasis": "__init__ *x* _y_ ~~z~~",
    "a backslash before a bar": "a\\|b\\\\|c",
    "an entity": "&lt;script&gt; &#60;",
    "a rule": "x\n---\n===",
}

COMMANDS = re.compile(r"^\s*::|##\w*\[", re.MULTILINE)
"""What GitHub's and others' runners take for a command."""


def problems(output: str) -> list[str]:
    """What is in an output that no text may bring into it."""
    found = [f"a command: {match[0]!r}" for match in COMMANDS.finditer(output)]
    return found + [f"U+{ord(c):04X}" for c in sorted(set(output)) if not c.isprintable() and c != "\n"]
