"""The two implementations mirror each other: the same files, in each the same public names in the same order, and the
same signatures but for the frameworks' own types."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIDES = ("torch", "flax")

UNPAIRED = {
    "torch's layers have their fast paths inside": [
        f"flax fast/{name}.py"
        for name in ("__init__", "choice", "fused", "jaxprs", "linearization", "products", "recomputed", "unrolled")
    ],
    "torch's layers are stock, and start by the spec's laws": ["flax linear.py", "flax stock.py"],
    "under vmap, torch draws no masks, and not every operation has a rule": [
        "torch member_masks.py",
        "torch vmapping.py",
    ],
    "a module is copied to be asked; a function of its leaves needs no copy": ["torch pair/copies.py"],
}
"""Files that one side has, by the reason."""

UNLIKE = {
    "torch has this in stock": [
        "attention.py: signature of attend",  # which drops nothing: that is inside of torch's MultiheadAttention
        "dropout.py: flax has Dropout",
        "gru.py: flax has GRUCell",
        "lstm.py: flax has LSTMCell",
        "model.py: flax has Embedding",
        "optimizer.py: flax has scale_by_adam",
        "recurrent.py: flax has Cell",
        "recurrent.py: flax has Layers",
        "rnn.py: flax has ElmanCell",
        "transformer.py: flax has Encoder",
        "transformer.py: flax has EncoderLayer",
        "recurrent.py: signature of Recurrent.begin",  # whose states are those of stock layers, and of cells of ours
        "recurrent.py: signature of Recurrent.step",
        "transformer.py: flax has PackedSelfAttention",
        "transformer.py: torch has step_layer",
    ],
    "torch's layers are stock, and their products are seen as they are computed; Flax's are given them": [
        "mixed_precision.py: flax has Products",
        "mixed_precision.py: signature of products",
        "mixed_precision.py: torch has MultiheadAttention",
        "mixed_precision.py: torch has active",
        "mixed_precision.py: torch has attention",
        "mixed_precision.py: torch has check",
        "mixed_precision.py: torch has without_gradients",
        "recurrent.py: signature of TiedHead.__init__",
    ],
    "a module is called by what torch calls forward": [
        "recurrent.py: flax has TiedHead.__call__",
        "recurrent.py: torch has TiedHead.forward",
    ],
    "stock layers take no masks, show no intermediates, and forget no rescaled rows: that is done around them": [
        "contract.py: torch has watch",
        "dropout.py: torch has given",
        "model.py: torch has Model.recording",
        "model.py: torch has embedding",
        "recurrent.py: signature of unroll_cell",
        "recurrent.py: torch has Recurrent.recur",
        "recurrent.py: torch has run",
        "recurrent.py: torch has run_stretches",  # since stock layers cannot be set back within a sequence
        "recurrent.py: torch has unroll",
    ],
    "torch's modules and optimizers hold values and change in place; JAX's functions take and give them": [
        "build.py: flax has load",
        "build.py: signature of build",
        "dropout.py: flax has set_mode",
        "dropout.py: torch has mode",
        "model.py: flax has predict",
        "model.py: flax has run",
        "optimizer.py: signature of clip",
        "optimizer.py: flax has decayed",
        "optimizer.py: flax has own",
        "optimizer.py: signature of load_slots",
        "optimizer.py: signature of make",
        "optimizer.py: signature of slots",
        "optimizer.py: torch has dense",
        "parameters.py: flax has Leaf",
        "parameters.py: flax has assemble",
        "parameters.py: flax has canonical_names",
        "parameters.py: flax has layout",
        "parameters.py: flax has to_canonical",
        "parameters.py: flax has to_native",
        "parameters.py: torch has export",
        "parameters.py: torch has export_gradients",
        "parameters.py: torch has load",
        "pair/kinds.py: flax has ModelFunction",
        "pair/kinds.py: flax has model_of",
        "pair/kinds.py: torch has arrays_of",
        "pair/kinds.py: torch has leaves_of",
        "pair/keras_models.py: torch has KerasModule",
        "pair/keras_models.py: torch has as_module",
        "pair/kinds.py: torch has packed_of",
        "pair/kinds.py: torch has paths_of",
        "pair/kinds.py: torch has recurrent_of",
        "pair/side.py: signature of Side.__init__",
        "training.py: flax has Carry",
        "training.py: flax has fingerprints",  # of all steps at once, which torch tells one by one
        "training.py: flax has first_carry",
        "training.py: flax has renormalized",
        "training.py: signature of descend",
        "training.py: signature of evaluate",
    ],
    "JAX compiles whole trainings, whose inputs are stacked; torch runs one step after the other": [
        "benchmark.py: flax has Compiled",
        "benchmark.py: flax has measured",
        "benchmark.py: torch has one_by_one",
        "compilation.py: flax has ensemble_options",
        "compilation.py: flax has is_large",
        "compilation.py: flax has is_small",
        "compilation.py: flax has is_small_ensemble",
        "compilation.py: flax has jit",
        "compilation.py: flax has known",
        "compilation.py: flax has listen",
        "compilation.py: flax has multiplications",
        "compilation.py: flax has records",
        "compilation.py: flax has right",
        "compilation.py: signature of options",
        "compilation.py: torch has check",
        "compilation.py: torch has compile_model",
        "compilation.py: torch has unheeded",
        "ensemble.py: flax has block_size",
        "ensemble.py: flax has side_by_side",
        "generation.py: flax has compile_steps",
        "generation.py: flax has first_carry",
        "generation.py: flax has with_every_row",
        "generation.py: signature of choose",
        "members.py: flax has compile_members",
        "members.py: flax has make_arguments",
        "members.py: torch has Members",
        "members.py: torch has clip_members",
        "members.py: torch has renormalized",
        "parameters.py: flax has as_vector",
        "parameters.py: flax has from_vectors",
        "training.py: flax has Inputs",
        "training.py: flax has Outputs",
        "training.py: flax has Recorded",
        "training.py: flax has compile_epochs",
        "training.py: flax has make_step",
        "training.py: torch has backward",
        "training.py: torch has dropout_in",
        "training.py: torch has whole_of",
        "training.py: flax has cut_rows",
        "training.py: flax has dtype_of",
        "training.py: flax has in_parts",
        "training.py: flax has stack_constants",
        "training.py: flax has stack_inputs",
        "training.py: torch has dropout_of",
    ],
    "what torch computes is seen while it does; what JAX will compute is a list, to be gone through": [
        "pair/recording.py: flax has Held",
        "pair/recording.py: flax has Evaluated",
        "pair/recording.py: flax has evaluate",
        "pair/recording.py: signature of source",
        "pair/recording.py: torch has Recorder",
        "pair/recording.py: torch has plain_layers",
        "pair/recording.py: flax has widths",
        "pair/recording.py: torch has Widths",
        "pair/recording.py: torch has widened",
    ],
    "a device is a process of torch's, which takes its share; JAX's are one process's, and it divides the work": [
        "devices.py: flax has checksum",
        "devices.py: flax has count_of",
        "devices.py: flax has devices_of",
        "devices.py: flax has divided",
        "devices.py: flax has in_order",
        "devices.py: flax has padded",
        "devices.py: flax has parted",
        "devices.py: flax has rows_of",
        "devices.py: flax has share_of",
        "devices.py: torch has Ordered",
        "devices.py: signature of compare",
        "devices.py: torch has Place",
        "devices.py: torch has Replica",
        "devices.py: torch has check",
        "devices.py: torch has cuts",
        "devices.py: torch has seed_on",
        "devices.py: torch has sum_of",
        "processes.py: flax has Place",
        "processes.py: flax has begin",
        "processes.py: flax has made_ready",
        "training.py: flax has check_alike",
        "training.py: flax has comparing",
        "training.py: signature of train",
    ],
    "JAX draws by keys, and inside of compiled functions too": [
        "parameters.py: flax has key_of",
        "parameters.py: flax has sample",
        "parameters.py: signature of draw",
    ],
    "each has switches of its own, and torch is told the device and dtype of every tensor": [
        "arrays.py: signature of to_array",
        "benchmark.py: signature of repeated",
        "settings.py: flax has formulation",
        "settings.py: signature of computing",
        "settings.py: signature of device_of",
        "settings.py: torch has deterministic",
        "settings.py: torch has dtype_of",
        "settings.py: torch has is_small",
        "settings.py: torch has one_thread",
        "training.py: signature of to_arrays",
        "transformer.py: signature of sinusoids",
        "transformer.py: torch has later_steps",
    ],
}
"""Differences between files of the same name, by the reason."""

WORDS = (
    (r"torch\.Tensor|\bTensor\b|\bArrayLike\b", "Array"),
    ("Tensor", "Array"),
    ("tensor", "array"),
    (r"\bnn\.Module", "nnx.Module"),
    (r"torch\.dtype", "jnp.dtype"),
    (r"\*, rngs: nnx\.Rngs(, )?", ""),
    (r", (?=\)|$)", ""),
)
"""The frameworks' own words, and what both are taken for."""

Public = dict[str, str]
"""Name -> signature, in the order of the file; a method's has its class before it. A class has no signature."""


def both(text: str) -> str:
    for word, common in WORDS:
        text = re.sub(word, common, text)
    return text


def public(source: str) -> Public:
    found: Public = {}

    def add(node: ast.stmt, owner: str = "") -> None:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            found[both(node.name)] = ""
            for member in node.body:
                add(member, f"{both(node.name)}.")
        elif isinstance(node, ast.FunctionDef) and not re.match("_(?!_init__|_call__)", node.name):
            returns = ast.unparse(node.returns) if node.returns else "nothing said"
            found[f"{owner}{both(node.name)}"] = f"({both(ast.unparse(node.args))}) -> {both(returns)}"

    for node in ast.parse(source).body:
        add(node)
    return found


def differences(torch_source: str, flax_source: str) -> list[str]:
    """In what two files are unlike, of a class that one lacks not its methods."""
    ours = dict(zip(SIDES, (public(torch_source), public(flax_source)), strict=True))
    found = []
    for side, other in (SIDES, SIDES[::-1]):
        only = [name for name in ours[side] if name not in ours[other]]
        found += [f"{side} has {name}" for name in only if name.rpartition(".")[0] not in only]
    shared = [[name for name in ours[side] if name in ours["torch"] and name in ours["flax"]] for side in SIDES]
    if shared[0] != shared[1]:
        found.append(f"order of {next(a for a, b in zip(*shared, strict=True) if a != b)}")
    return found + [f"signature of {n}" for n in shared[0] if ours["torch"][n] != ours["flax"][n]]


def names(side: str) -> set[str]:
    found = {path.relative_to(ROOT / f"{side}_impl").as_posix() for path in (ROOT / f"{side}_impl").rglob("*.py")}
    assert found
    return found


def test_both_have_the_same_files() -> None:
    torch_files, flax_files = names("torch"), names("flax")
    only = [f"torch {n}" for n in torch_files - flax_files] + [f"flax {n}" for n in flax_files - torch_files]
    assert sorted(only) == sorted(file for files in UNPAIRED.values() for file in files)


@pytest.mark.parametrize("file", sorted(names("torch") & names("flax")))
def test_files_of_one_name_have_the_same_public_names(file: str) -> None:
    found = differences(*((ROOT / f"{side}_impl" / file).read_text() for side in SIDES))
    allowed = [line.partition(": ")[2] for lines in UNLIKE.values() for line in lines if line.startswith(f"{file}: ")]
    assert sorted(found) == sorted(allowed)


def test_every_exception_is_of_a_file_that_both_have() -> None:
    files = {line.partition(": ")[0] for lines in UNLIKE.values() for line in lines}
    assert files <= names("torch") & names("flax")


ONE = "def one(x: Tensor, size: int = 3) -> Tensor: ...\n"
TWO = "class Two(nn.Module):\n    def __init__(self, spec: Spec): ...\n    def step(self, x: Tensor) -> None: ...\n"
MIRRORED = (ONE + TWO).replace("Tensor", "Array").replace("spec: Spec", "spec: Spec, *, rngs: nnx.Rngs")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "", []),
        ("def one", "def _one", ["torch has one"]),
        ("def one", "def uno", ["torch has one", "flax has uno"]),
        ("class Two", "class Zwei", ["torch has Two", "flax has Zwei"]),
        ("def step", "def _step", ["torch has Two.step"]),
        ("= 3", "= 4", ["signature of one"]),
        ("size: int", "width: int", ["signature of one"]),
        ("size: int", "*, size: int", ["signature of one"]),
        ("-> Array", "-> Array | None", ["signature of one"]),
        ("Spec, *,", "Spec, heads: int = 1, *,", ["signature of Two.__init__"]),
        ("def step", "def _hidden(self): ...\n    def step", []),
    ],
)
def test_what_is_unlike_is_seen(old: str, new: str, expected: list[str]) -> None:
    assert differences(ONE + TWO, MIRRORED.replace(old, new, 1) if old else MIRRORED) == expected


def test_another_order_is_seen() -> None:
    flax_one, flax_two = MIRRORED[: MIRRORED.index("class")], MIRRORED[MIRRORED.index("class") :]
    assert differences(ONE + TWO, flax_two + flax_one) == ["order of one"]
