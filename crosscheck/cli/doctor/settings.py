"""Variables that change what sides compute, or how fast: a row each, judged by its value alone."""

import codecs
import locale
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from crosscheck.cli.doctor.line import DoctorLine, LineStatus
from spec import text
from spec.machine import THREADS, cores

YES = ("1", "true", "t", "yes", "y", "on")


class SettingRule(NamedTuple):
    """spoils: what a value spoils; None where it spoils nothing. fix: empty for "unset it"."""

    variable: str
    spoils: Callable[[str], str | None]
    status: LineStatus = "warn"
    fix: str = ""


def on(what: str) -> Callable[[str], str | None]:
    """For a switch."""
    return lambda value: what if value.strip().lower() in YES else None


def other_than(*fine: str, what: str) -> Callable[[str], str | None]:
    """For a choice of which some are fine."""
    return lambda value: None if value.strip().lower() in fine else what


HARMFUL_FLAGS = {
    "xla_cpu_enable_fast_math=true": "XLA may reorder sums, and takes NaN for impossible",
    "xla_cpu_enable_fast_min_max=true": "maxima of NaN are no NaN",
    "xla_gpu_enable_fast_min_max=true": "maxima of NaN are no NaN",
    "xla_backend_optimization_level=0": "XLA compiles other code than is run elsewhere, and slower",
    "xla_force_host_platform_device_count=": "the CPU is cut into several devices, which share its threads",
    "xla_disable_hlo_passes=": "XLA compiles other code than is run elsewhere",
    "xla_cpu_multi_thread_eigen=false": "products are summed in another order than they are elsewhere",
}
"""Of XLA_FLAGS, by how they begin."""


def _flags(value: str) -> str | None:
    given = [re.sub(r"^--?", "", word) for word in value.split()]
    bad = [f"--{word}: {why}" for word in given for start, why in HARMFUL_FLAGS.items() if word.startswith(start)]
    # A switch without a value is on.
    bad += [
        f"--{word}: {why}"
        for word in given
        for start, why in HARMFUL_FLAGS.items()
        if start.endswith("=true") and word == start.removesuffix("=true")
    ]
    return "; ".join(bad) or None


def _platforms(value: str) -> str | None:
    given = [word.strip().lower() for word in value.split(",") if word.strip()]
    return "JAX sees no CPU, on which comparisons run unless told otherwise" if given and "cpu" not in given else None


def _threads(value: str) -> str | None:
    if not value.strip():
        return None
    if not value.strip().isdecimal() or int(value) < 1:
        return "expected a number of threads"
    if int(value) > cores():
        return f"more threads than the {cores()} cores that this process may use"
    if int(value) > 1:
        return (
            "small models are fastest on one thread a side, which is what comparisons take; sums of long products "
            "may be rounded otherwise"
        )
    return None


WIDER = "models of a pair file begin in float64 where they begin in float32 elsewhere"

RULES = (
    SettingRule("JAX_ENABLE_X64", on(WIDER)),
    SettingRule("JAX_DEFAULT_DTYPE_BITS", other_than("32", what=WIDER)),
    SettingRule(
        "JAX_DEFAULT_MATMUL_PRECISION",
        other_than(
            "",
            "highest",
            "float32",
            "f32",
            "f32_f32_f32",
            what="products of JAX are rounded to fewer bits on accelerators, those of torch are not",
        ),
    ),
    SettingRule("JAX_NUMPY_DTYPE_PROMOTION", other_than("", "standard", what="code that mixes types raises an error")),
    SettingRule(
        "JAX_DISABLE_JIT", on("nothing is compiled: other roundings than elsewhere, and hours instead of minutes")
    ),
    SettingRule("JAX_DEBUG_NANS", on("a NaN that is only padding ends the run")),
    SettingRule("JAX_DEBUG_INFS", on("an infinity that is masked ends the run")),
    SettingRule("JAX_PLATFORMS", _platforms, "fail", "unset JAX_PLATFORMS, or add cpu at its end"),
    SettingRule("JAX_PLATFORM_NAME", _platforms, "fail"),
    SettingRule("XLA_FLAGS", _flags, fix="leave these flags out of XLA_FLAGS"),
    SettingRule(
        "NVIDIA_TF32_OVERRIDE", on("NVIDIA's libraries round products to TF32, whatever either framework asks for")
    ),
    SettingRule("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", on("torch rounds products on a GPU to TF32, JAX need not")),
    *(
        SettingRule(
            name,
            other_than("", "strict", what="oneDNN may round torch's products and convolutions to bfloat16 or TF32"),
        )
        for name in ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE")
    ),
    SettingRule(
        "CUBLAS_WORKSPACE_CONFIG",
        other_than(
            "",
            ":4096:8",
            ":16:8",
            what="cuBLAS may give other bits at each call, and a side is then taken for one that is not deterministic",
        ),
    ),
    *(SettingRule(name, _threads) for name in THREADS),
    SettingRule("PYTHONOPTIMIZE", other_than("", "0", what="assertions in a pair file are not looked at")),
    SettingRule(
        "PYTHONWARNINGS",
        lambda value: "a warning of either framework ends its side" if value.strip().startswith("error") else None,
    ),
)
"""PYTHONHASHSEED is not here: nothing depends on it."""


def lines(environment: Mapping[str, str] = os.environ) -> Iterator[DoctorLine]:
    """A line for each variable that spoils something, and one that says of how many that is known."""
    judged = [(rule, environment[rule.variable]) for rule in RULES if rule.variable in environment]
    spoilt = 0
    for rule, value in judged:
        if spoils := rule.spoils(value):
            spoilt += 1
            said = f"{rule.variable}={text.admit(value, text.NAME // 5)}: {spoils}"
            fix = rule.fix or f"unset {rule.variable}"
            yield DoctorLine(group="settings", name=rule.variable, status=rule.status, said=said, fix=fix)
    others = f"{len(RULES) - spoilt} {'others ' if spoilt else ''}that could spoil something do not"
    yield DoctorLine(group="settings", name="variables", status="ok", said=others)
    yield encoding()


def encoding() -> DoctorLine:
    """Whether files and terminals take every character."""
    said = sys.stdout.encoding or "none" if sys.stdout else "none"
    found = {"files": locale.getpreferredencoding(False), "output": said}
    other = {where: name for where, name in found.items() if name != "none" and not _is_utf8(name)}
    if not other:
        return DoctorLine(group="settings", name="encoding", status="ok", said="UTF-8")
    named = ", ".join(f"{where} {name}" for where, name in other.items())
    return DoctorLine(
        group="settings",
        name="encoding",
        status="warn",
        said=f"{named}, expected UTF-8: what it lacks is shown as escapes, and a pair file that reads text reads it "
        "otherwise",
        fix="set PYTHONUTF8=1, or LC_ALL=C.UTF-8",
    )


def _is_utf8(name: str) -> bool:
    try:
        return codecs.lookup(name).name == "utf-8"
    except LookupError:
        return False
