"""The table of weights that people have: each format, each prefix, each way to name and lay out, each kind of damage.

Files are written by the libraries that write them; what a library's model predicts is compared with what the same
weights predict here.
"""

import gzip
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from spec import reference
from spec.experiment import load
from spec.framework import Settings
from spec.parameters import draw

Predict = Callable[[np.ndarray], np.ndarray]


class Good(NamedTuple):
    """Weights that are taken. write: makes the file in a folder, and says where it is and what its model predicts.

    says: what of it has to be said. needs: sides. libraries: whether it takes what `make test` does not install.
    """

    name: str
    experiment: str
    write: Callable[[Path], tuple[Path, Predict]]
    says: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    libraries: bool = False


class Bad(NamedTuple):
    """What is refused, in one line that says so."""

    name: str
    write: Callable[[Path], Path]
    says: str
    experiment: str = "hello-lstm"
    needs: tuple[str, ...] = ()
    libraries: bool = False
    code: int = 2


def arrays(experiment: str = "hello-lstm", dtype: str = "float32") -> dict[str, np.ndarray]:
    """A model's own parameters, drawn."""
    return draw(load(experiment).model.parameters(), 7, dtype, spread=0.3)


def predictions(experiment: str, parameters: Mapping[str, np.ndarray], inputs: np.ndarray) -> np.ndarray:
    """The reference's, in float64."""
    loaded = load(experiment)
    batch = loaded.task.batch(0, 0, "float64")._replace(inputs=inputs)
    wide = {name: array.astype(np.float64) for name, array in parameters.items()}
    return reference.open(loaded, Settings("float64")).forward(wide, batch)["logits"]


def torch_file(original: str, save: Callable[[Any, Path], Path], dtype: str | None = None) -> Callable[..., Any]:
    """What a torch model's state_dict becomes, in that dtype."""

    def write(folder: Path) -> tuple[Path, Predict]:
        import torch
        import torch_originals

        model = torch_originals.made(original)
        kind = getattr(torch, dtype) if dtype else None
        state = {name: one.to(kind) if kind else one for name, one in model.state_dict().items()}
        return save(state, folder), torch_originals.predicts(model, kind)

    return write


def as_safetensors(prefix: str = "", infix: tuple[str, str] = ("", "")) -> Callable[[Any, Path], Path]:
    def save(state: Any, folder: Path) -> Path:
        from safetensors.torch import save_file

        path = folder / "model.safetensors"
        save_file({prefix + name.replace(*infix): one.contiguous() for name, one in state.items()}, path)
        return path

    return save


def as_pickle(wrap: Callable[[Any], Any] = lambda state: state, name: str = "model.pt", **options: Any) -> Any:
    def save(state: Any, folder: Path) -> Path:
        import torch

        torch.save(wrap(state), folder / name, **options)
        return folder / name

    return save


def as_shards(state: Any, folder: Path) -> Path:
    """As transformers cuts a large model: an index, and two files."""
    from safetensors.torch import save_file

    names = list(state)
    parts = {"model-00001-of-00002.safetensors": names[:3], "model-00002-of-00002.safetensors": names[3:]}
    for file, inside in parts.items():
        save_file({name: state[name] for name in inside}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, inside in parts.items() for name in inside}}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    return path


def as_pickled_shards(state: Any, folder: Path) -> Path:
    import torch

    torch.save(dict(list(state.items())[:3]), folder / "pytorch_model-00001-of-00002.bin")
    torch.save(dict(list(state.items())[3:]), folder / "pytorch_model-00002-of-00002.bin")
    places = ["pytorch_model-00001-of-00002.bin"] * 3 + ["pytorch_model-00002-of-00002.bin"] * (len(state) - 3)
    path = folder / "pytorch_model.bin.index.json"
    path.write_text(json.dumps({"weight_map": dict(zip(state, places, strict=True))}))
    return path


def checkpoint(state: Any) -> dict[str, Any]:
    """As a training loop saves it: with an optimizer that has made a step."""
    import torch

    parameters = [torch.nn.Parameter(one.clone()) for one in state.values()]
    optimizer = torch.optim.Adam(parameters)
    for one in parameters:
        one.grad = torch.ones_like(one)
    optimizer.step()
    return {"epoch": 3, "model_state_dict": state, "optimizer_state_dict": optimizer.state_dict(), "loss": 0.5}


def graph(original: str, traced: bool = True) -> Callable[[Path], tuple[Path, Predict]]:
    """torch's own export, the older one by a trace or the newer one."""

    def write(folder: Path) -> tuple[Path, Predict]:
        import warnings

        import torch
        import torch_originals

        model = torch_originals.made(original)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's age
            given = torch.zeros(1, 5, dtype=torch.int64) if original == "embedded" else torch.zeros(1, 5, 4)
            torch.onnx.export(model.eval(), (given,), str(folder / "model.onnx"), dynamo=not traced, verbose=False)
        return folder / "model.onnx", torch_originals.predicts(model)

    return write


def operator(kind: str, **attributes: Any) -> Callable[[Path], Path]:
    """A graph of one recurrent operator, as other exporters write it."""

    def write(folder: Path) -> Path:
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
        random = np.random.default_rng(0)
        shapes = {"W": (1, gates * 8, 4), "R": (1, gates * 8, 8), "B": (1, gates * 16), "V": (8, 4), "b": (4,)}
        tensors = {n: random.normal(size=shape).astype(np.float32) for n, shape in shapes.items()}
        nodes = [
            helper.make_node(kind, ["x", "W", "R", "B"], ["y"], name="cell", hidden_size=8, **attributes),
            helper.make_node("Squeeze", ["y", "axis"], ["z"]),
            helper.make_node("MatMul", ["z", "V"], ["m"]),
            helper.make_node("Add", ["m", "b"], ["out"]),
        ]
        initializers = [numpy_helper.from_array(one, name) for name, one in tensors.items()]
        initializers.append(numpy_helper.from_array(np.array([1]), "axis"))
        made = helper.make_graph(
            nodes,
            "one",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, 1, 4])],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, [5, 1, 4])],
            initializers,
        )
        onnx.save(helper.make_model(made), folder / "model.onnx")
        return folder / "model.onnx"

    return write


def evaluated(kind: str, **attributes: Any) -> Callable[[Path], tuple[Path, Predict]]:
    """The same, as the standard's own reference evaluates it."""

    def write(folder: Path) -> tuple[Path, Predict]:
        path = operator(kind, **attributes)(folder)

        def predict(inputs: np.ndarray) -> np.ndarray:
            from onnx.reference import ReferenceEvaluator

            given = np.ascontiguousarray(inputs.swapaxes(0, 1)).astype(np.float32)
            (out,) = ReferenceEvaluator(str(path)).run(None, {"x": given})
            return np.asarray(out).swapaxes(0, 1)

        return path, predict

    return write


def own(save: Callable[[Mapping[str, np.ndarray], Path], Path], experiment: str = "hello-lstm", dtype: str = "float32"):
    """The model's own names, saved by NumPy; what is right is the reference's own prediction."""

    def write(folder: Path) -> tuple[Path, Predict]:
        values = arrays(experiment, dtype)
        return save(values, folder), lambda inputs: predictions(experiment, values, inputs)

    return write


def as_npz(values: Mapping[str, np.ndarray], folder: Path) -> Path:
    np.savez_compressed(folder / "model.npz", **{name: np.asfortranarray(one) for name, one in values.items()})
    return folder / "model.npz"


def as_npz_of_bfloat16(values: Mapping[str, np.ndarray], folder: Path) -> Path:
    """As NumPy writes ml_dtypes' bfloat16: bytes without a type. The values have no more bits than that."""
    for one in values.values():
        one.view(np.uint32)[...] &= 0xFFFF0000
    raw = {name: (one.view(np.uint32) >> 16).astype(np.uint16).view("V2") for name, one in values.items()}
    np.savez(folder / "model.npz", **raw)
    return folder / "model.npz"


def linen(name: str) -> Callable[[Path], tuple[Path, Predict]]:
    def write(folder: Path) -> tuple[Path, Predict]:
        import flax_originals
        from flax import serialization

        variables, predict = flax_originals.linen(name)
        (folder / "model.msgpack").write_bytes(serialization.to_bytes(variables))
        return folder / "model.msgpack", predict

    return write


def orbax(name: str, wrap: Callable[[Any], Any], stepped: bool = False) -> Callable[[Path], tuple[Path, Predict]]:
    def write(folder: Path) -> tuple[Path, Predict]:
        import flax_originals
        import jax
        import orbax.checkpoint as ocp

        state, predict = flax_originals.stock(name)
        path = folder.absolute() / "checkpoint"
        with jax.enable_x64(True):
            if stepped:
                with ocp.CheckpointManager(path) as manager:
                    manager.save(3, args=ocp.args.StandardSave(jax.tree.map(lambda one: 0 * one, wrap(state))))
                    manager.save(7, args=ocp.args.StandardSave(wrap(state)))
                    manager.wait_until_finished()
            else:
                with ocp.StandardCheckpointer() as checkpointer:
                    checkpointer.save(path, wrap(state))
        return path, predict

    return write


def our_own(folder: Path) -> tuple[Path, Predict]:
    """What nnx.state gives of flax_impl's own model, as msgpack."""
    from flax import nnx, serialization

    from flax_impl import build

    values = arrays("hello-bidirectional-gru", "float64")
    state = build.load(load("hello-bidirectional-gru").model, values, Settings("float64"))
    (folder / "model.msgpack").write_bytes(serialization.to_bytes(nnx.to_pure_dict(state)))
    return folder / "model.msgpack", lambda inputs: predictions("hello-bidirectional-gru", values, inputs)


def keras(name: str, file: str) -> Callable[[Path], tuple[Path, Predict]]:
    def write(folder: Path) -> tuple[Path, Predict]:
        import keras_originals

        model, predict = keras_originals.made(name)
        (model.save_weights if file.endswith(".weights.h5") else model.save)(folder / file)
        return folder / file, predict

    return write


def keras_of_bfloat16(folder: Path) -> tuple[Path, Predict]:
    import keras_originals

    model, _ = keras_originals.made("lstm", "bfloat16")
    model.save_weights(folder / "model.weights.h5")
    values = [np.asarray(one).astype(np.float64) for one in model.get_weights()]
    wide, predict = keras_originals.made("lstm")
    wide.set_weights(values)
    return folder / "model.weights.h5", predict


SEP = ("torch",)
GOOD = [
    Good("canonical float32", "hello-lstm", own(lambda v, f: saved(v, f))),
    Good("canonical float64", "hello-gru", own(lambda v, f: saved(v, f), "hello-gru", "float64")),
    Good("names of one's own", "hello-lstm", torch_file("lstm", as_safetensors()), ("lstm.l0 is rnn.l0", "fc is"), SEP),
    Good("float16", "hello-gru", torch_file("gru", as_safetensors(), "float16"), (), SEP),
    Good("bfloat16", "hello-gru", torch_file("gru", as_safetensors(), "bfloat16"), ("bfloat16 widened",), SEP),
    Good("float8", "hello-gru", torch_file("gru", as_safetensors(), "float8_e4m3fn"), ("float8_e4m3fn widened",), SEP),
    Good("float8 e5m2", "hello-gru", torch_file("gru", as_safetensors(), "float8_e5m2"), ("float8_e5m2 wid",), SEP),
    Good("module.", "hello-lstm", torch_file("lstm", as_safetensors("module.")), ("'module.' removed",), SEP),
    Good("_orig_mod.", "hello-lstm", torch_file("lstm", as_safetensors("_orig_mod.")), (), SEP),
    Good(
        "wrappers of wrappers",
        "hello-transformer-no-positions",
        torch_file("transformer", as_safetensors("model.module._orig_mod.", (".attn.", "._orig_mod.attn."))),
        ("'model.module.' removed",),
        SEP,
    ),
    Good("canonical names, prefix", "hello-lstm", own(lambda v, f: saved({f"module.{n}": a for n, a in v.items()}, f)),
         ("prefix 'module.' removed",)),
    Good("canonical names, wrapped", "hello-lstm", own(
        lambda v, f: saved({f"net._orig_mod.{n.replace('rnn.', 'rnn._orig_mod.')}": a for n, a in v.items()}, f)
    ), ("prefix 'net.' removed", "wrappers")),
    Good("shards", "hello-lstm", torch_file("lstm", as_shards), ("2 shards",), SEP),
    Good("shards of pickles", "hello-lstm", torch_file("lstm", as_pickled_shards), ("2 shards",), SEP),
    Good("q, k, v apart", "hello-transformer-no-positions", torch_file("transformer", as_safetensors()),
         ("queries, keys and values joined", "blocks.1.ln2 is encoder.layers.1.norm2"), SEP),
    Good("torch's own encoder", "hello-transformer-no-positions", torch_file("stock", as_safetensors()),
         ("body.layers.1.norm2 is encoder.layers.1.norm2",), SEP),
    Good("q, k, v packed", "hello-self-attention-no-positions", torch_file("one head", as_safetensors()),
         ("key taken out of the packed projections",), SEP),
    Good("layers one by one", "hello-stacked-rnn", torch_file("stacked", as_safetensors()),
         ("rnn3.l0 is rnn.l2",), SEP),
    Good("both directions", "hello-bidirectional-gru", torch_file("both ways", as_safetensors()),
         ("bi.l0 is rnn.l0 backward",), SEP),
    Good("an embedding", "hello-embedding-rnn", torch_file("embedded", as_safetensors()), ("emb is embedding",), SEP),
    Good(".npz by columns", "hello-lstm", own(as_npz)),
    Good(".npz of bfloat16", "hello-lstm", own(as_npz_of_bfloat16), ("bfloat16 widened",)),
    Good(".pt", "hello-lstm", torch_file("lstm", as_pickle()), (), SEP),
    Good(".pth of the old format", "hello-gru", torch_file(
        "gru", as_pickle(name="model.pth", _use_new_zipfile_serialization=False)), (), SEP),
    Good(".pt of a training", "hello-lstm", torch_file("lstm", as_pickle(checkpoint)),
         ("'model_state_dict.' removed", "other arrays (optimizer_state_dict)"), SEP),
    Good(".ckpt of bfloat16", "hello-lstm", torch_file(
        "lstm", as_pickle(lambda state: {"state_dict": {f"net.{n}": one for n, one in state.items()}}, "last.ckpt"),
        "bfloat16"), ("bfloat16 widened", "'state_dict.net.' removed"), SEP),
    Good(".onnx LSTM", "hello-lstm", graph("lstm"), ("gates i, o, f, c (ONNX's order) put as i, f, g, o",), SEP, True),
    Good(".onnx GRU both ways", "hello-bidirectional-gru", graph("both ways"), ("gates z, r, h (ONNX's",), SEP, True),
    Good(".onnx RNN", "hello-stacked-bidirectional-relu", graph("relu"), (), SEP, True),
    Good(".onnx embedding", "hello-embedding-rnn", graph("embedded"), ("emb is embedding",), SEP, True),
    Good(".onnx Transformer", "hello-transformer-no-positions", graph("stock"), ("embed is input",), SEP, True),
    Good(".onnx, data beside", "hello-gru", graph("gru", traced=False), ("gates z, r, h (ONNX's",), SEP, True),
    Good(".onnx of steps", "hello-stacked-bidirectional-relu", graph("relu", traced=False), (), SEP, True),
    Good(".onnx, q, k, v packed", "hello-self-attention-no-positions", graph("one head", traced=False),
         ("key taken out of",), SEP, True),
    Good(".onnx of others", "hello-gru", evaluated("GRU", linear_before_reset=1), ("(ONNX's order)",)),
    Good("linen LSTM", "hello-lstm", linen("lstm"), ("a kernel for each gate", "no bias_ih"), ("flax",)),
    Good("linen GRU", "hello-gru", linen("gru"), ("GRU put together from a kernel for each gate",), ("flax",)),
    Good("linen RNN", "hello-rnn", linen("rnn"), ("no bias_hh: zero",), ("flax",)),
    Good("linen Transformer", "hello-transformer-no-positions", linen("transformer"),
         ("heads joined, kernel transposed; queries, keys and values joined",), ("flax",)),
    Good("nnx, our own", "hello-bidirectional-gru", our_own, (), ("flax",)),
    Good("Orbax LSTM", "hello-lstm", orbax("lstm", lambda state: state), ("a kernel for each gate",), ("flax",)),
    Good("Orbax LSTM in two", "hello-lstm", orbax("optimized lstm", lambda state: state), (), ("flax",)),
    Good("Orbax, the last step", "hello-gru", orbax("gru", lambda state: state, stepped=True),
         ("no bias_hh",), ("flax",)),
    Good("Orbax of a training", "hello-gru", orbax(
        "gru", lambda state: {"params": state, "opt_state": [state, {"count": np.int32(3)}], "step": 3}),
        ("prefix 'params.' removed", "other arrays (opt_state)"), ("flax",)),
    Good("Keras LSTM", "hello-lstm", keras("lstm", "model.weights.h5"),
         ("gates i, f, c, o (Keras's order) are i, f, g, o", "no bias_hh"), libraries=True),
    Good("Keras GRU", "hello-gru", keras("gru", "model.weights.h5"), ("gates z, r, h (Keras's",), libraries=True),
    Good(".keras GRU", "hello-gru", keras("gru", "model.keras"), ("gates z, r, h (Keras's",), libraries=True),
    Good("Keras's old .h5", "hello-rnn", keras("rnn", "model.h5"), (), libraries=True),
    Good(".keras both ways", "hello-bidirectional-lstm", keras("both ways", "model.keras"), (), libraries=True),
    Good("Keras stacked", "hello-stacked-rnn", keras("stacked", "model.weights.h5"),
         ("simple_rnn_2.cell is rnn.l2",), libraries=True),
    Good("Keras embedding", "hello-embedding-rnn", keras("embedded", "model.weights.h5"), (), libraries=True),
    Good(".keras attention", "hello-multi-head-attention", keras("attending", "model.keras"),
         ("heads joined, kernel transposed",), libraries=True),
    Good("Keras bfloat16", "hello-lstm", keras_of_bfloat16, ("bfloat16 widened",), libraries=True),
]  # fmt: skip


def saved(values: Mapping[str, np.ndarray], folder: Path, name: str = "model.safetensors") -> Path:
    safetensors.numpy.save_file(dict(values), folder / name)
    return folder / name


def content(name: str, held: bytes | str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(held if isinstance(held, bytes) else held.encode())
        return folder / name

    return write


def changed(**changes: Any) -> Callable[[Path], Path]:
    """The model's own parameters with others in place of some; None takes one away."""

    def write(folder: Path) -> Path:
        values = arrays(dtype="float64") | {name.replace("__", "."): one for name, one in changes.items()}
        return saved({name: one for name, one in values.items() if one is not None}, folder)

    return write


def of(write: Callable[[Path], tuple[Path, Predict]]) -> Callable[[Path], Path]:
    return lambda folder: write(folder)[0]


def cut(write: Callable[[Path], tuple[Path, Predict]], kept: float) -> Callable[[Path], Path]:
    """Its beginning alone, as a download that was interrupted leaves it."""

    def damaged(folder: Path) -> Path:
        path = write(folder)[0]
        path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
        return path

    return damaged


class Touches:
    """What a pickle may do when it is opened: here, leave a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


MARKER = "code-was-run"


def pickled(folder: Path) -> Path:
    (folder / "model.pkl").write_bytes(pickle.dumps({"w": Touches(folder / MARKER)}))
    return folder / "model.pkl"


def torch_pickle_with_code(folder: Path) -> Path:
    import torch

    torch.save({"w": torch.zeros(2), "more": Touches(folder / MARKER)}, folder / "model.pt")
    return folder / "model.pt"


def whole_module(folder: Path) -> Path:
    import torch

    torch.save(torch.nn.Linear(2, 2), folder / "model.pt")
    return folder / "model.pt"


def scripted(folder: Path) -> Path:
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(folder / "model.pt")
    return folder / "model.pt"


def enormous_view(folder: Path) -> Path:
    """A tensor of a terabyte whose storage has four bytes."""
    import torch

    torch.save({"w": torch.zeros(1).expand(2**38)}, folder / "model.pt")
    return folder / "model.pt"


def without_shards(folder: Path) -> Path:
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))
    return path


def shards_elsewhere(folder: Path) -> Path:
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
    return path


def zeros_npz(folder: Path) -> Path:
    """Half a gigabyte of zeros in half a megabyte."""
    path = folder / "model.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("w.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (2**27,)})
        for _ in range(2**9):
            file.write(bytes(2**20))
    return path


def lying_npz(folder: Path) -> Path:
    """A header of a terabyte over eight bytes."""
    path = folder / "model.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("w.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (2**38,)})
        file.write(bytes(8))
    return path


def objects_npz(folder: Path) -> Path:
    np.savez(folder / "model.npz", w=np.array([Touches(folder / MARKER)], object))
    return folder / "model.npz"


def lying_message(folder: Path) -> Path:
    import msgspec

    inner = msgspec.msgpack.encode([[2**40], "float32", b"1234"])
    path = folder / "model.msgpack"
    path.write_bytes(msgspec.msgpack.encode({"w": msgspec.msgpack.Ext(1, inner)}))
    return path


def empty_hdf5(folder: Path) -> Path:
    """A terabyte that is never stored: HDF5 fills it in."""
    import h5py  # pyright: ignore[reportMissingImports]

    with h5py.File(folder / "model.h5", "w") as file:
        file.create_dataset("w", (2**38,), "f4", chunks=(2**20,))
    return folder / "model.h5"


def linked_hdf5(folder: Path) -> Path:
    """An array whose bytes are another file's."""
    import h5py  # pyright: ignore[reportMissingImports]

    (folder / "secret").write_bytes(bytes(16))
    with h5py.File(folder / "model.h5", "w") as file:
        file.create_dataset("w", (4,), "f4", external=[(str(folder / "secret"), 0, 16)])
    return folder / "model.h5"


def empty_step(folder: Path) -> Path:
    path = of(orbax("gru", lambda state: state, stepped=True))(folder)
    (path / "9").mkdir()
    return path


def kept_elsewhere(folder: Path) -> Path:
    """A graph without the file that its weights are in."""
    import onnx

    path = operator("LSTM")(folder)
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    (folder / "weights.bin").unlink()
    return path


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
BAD = [
    Bad("nothing", lambda folder: folder / "no.pt", "expected weights, got nothing: no such file"),
    Bad("empty", content("model.safetensors", ""), "got an empty file: download or save it again"),
    Bad("Git LFS", content("model.safetensors", POINTER), "got a Git LFS pointer to a file of 12345 bytes"),
    Bad("a page", content("model.pt", "\n<!DOCTYPE html><html>"), "got a web page (HTML): download the file itself"),
    Bad("a configuration", content("config.json", '{"model_type": "bert"}'), "got a configuration (keys: model_type)"),
    Bad("text", content("model.safetensors.txt", "Not Found"), "got a text that begins with 'Not Found'"),
    Bad("gzip", content("model.pt.gz", gzip.compress(b"x")), "got a gzip archive: unpack it"),
    Bad("GGUF", content("model.gguf", b"GGUF" + bytes(20)), "got a GGUF file, whose weights are quantized"),
    Bad("noise", content("model.bin", bytes(range(160, 256))), "got 96 bytes of no format that is known"),
    Bad("safetensors cut short", cut(own(saved), 0.8), "expected a safetensors file, got one that cannot be read"),
    Bad("bits changed", lambda folder: flipped(folder), "it was changed"),
    Bad("a length beyond all", content("model.safetensors", struct.pack("<Q", 2**60) + b"{}"), "expected a"),
    Bad("index alone", without_shards, "shards beside it, got 0: model-00001-of-00002.safetensors is missing"),
    Bad("index to elsewhere", shards_elsewhere, "expected names of files beside it, got '../../etc/passwd'"),
    Bad("a pickle", pickled, "got a pickle, which runs the code that it names when it is opened"),
    Bad(".pt with code", torch_pickle_with_code, "got a pickle that names code (", needs=SEP),
    Bad("a whole module", whole_module, "names code (torch.nn.modules.linear.Linear), which is not run", needs=SEP),
    Bad("a scripted module", scripted, "got an archive of a scripted program, with code in it", needs=SEP),
    Bad(".pt cut short", cut(torch_file("lstm", as_pickle()), 0.6), "cut short or damaged", needs=SEP),
    Bad("old .pt cut short", cut(torch_file("gru", as_pickle(_use_new_zipfile_serialization=False)), 0.6),
        "expected a file of torch.save, got one that cannot be read", needs=SEP),
    Bad("a view of a terabyte", enormous_view, "got 1.1 TB", needs=SEP),
    Bad("zeros of a gigabyte", zeros_npz, "expected at most 100 times its"),
    Bad("a header that lies", lying_npz, "expected 1099511627776 bytes for shape (274877906944,), got 8"),
    Bad("objects", objects_npz, "got Python objects, a pickle"),
    Bad("one array", lambda folder: (np.save(folder / "w.npy", np.zeros(3)), folder / "w.npy")[1], "numpy.savez"),
    Bad("a message that lies", lying_message, "expected 4398046511104 bytes for shape (1099511627776,), got 4"),
    Bad("a deep message", content("model.msgpack", b"\x81\xa1a" * 5000 + b"\xc0"), "cannot be read"),
    Bad("a directory", lambda folder: (own(saved)(folder), folder)[1], "got a directory: give a file in it, such as"),
    Bad("an empty directory", lambda folder: folder, "got an empty directory"),
    Bad("an empty step", empty_step, "the last step of 3, got one that holds no arrays", "hello-gru", needs=("flax",)),
    Bad("one missing", changed(head__bias=None), "missing ['head.bias']"),
    Bad("one too many", changed(more=np.zeros(3)), "not in the model ['more']"),
    Bad("beyond float32", changed(head__bias=np.array([0, 1e39, 0, 0])),
        "head.bias: expected finite values, got 1e+39 at (1,), which is beyond float32"),
    Bad("not a number", changed(head__bias=np.array([0, 0, np.nan, 0])), "head.bias: expected finite values, got nan"),
    Bad("two sets", lambda folder: saved(
        {f"{top}.{n}": a + k for k, top in enumerate(("model", "ema")) for n, a in arrays().items()}, folder),
        "expected one set of the model's weights, got several: 'ema.' and 'model.'"),
    Bad("names that tell nothing", lambda folder: saved(
        {n.replace("query", "a").replace("key", "b").replace("value", "c"): a
         for n, a in arrays("hello-self-attention").items()}, folder),
        "expected names that tell which of a, b, c is which of query, key, value", "hello-self-attention"),
    Bad("another model", lambda folder: saved(arrays("hello-gru"), folder), "rnn.weight_ih_l0: expected shape (32, 4)"),
    Bad("a layer too many", of(torch_file("stacked", as_safetensors())),
        "expected the model's modules alone, got others beside: ", "hello-rnn", needs=SEP),
    Bad("ONNX's other GRU", operator("GRU"), "GRU cell: expected linear_before_reset = 1", "hello-gru"),
    Bad("ONNX with relu", operator("RNN", activations=["Relu"]), "expected weights of nonlinearity = tanh, got relu",
        "hello-rnn"),
    Bad("ONNX of steps with relu", of(graph("unrolled relu", traced=False)), "expected weights of nonlinearity = tanh",
        "hello-rnn", needs=SEP, libraries=True),
    Bad("ONNX without its data", kept_elsewhere, "expected weights.bin beside it"),
    Bad("ONNX cut short", cut(evaluated("LSTM"), 0.5), "expected an ONNX file, got one that cannot be read"),
    Bad("Keras's other GRU", of(keras("old gru", "model.weights.h5")),
        "expected a GRU with two biases (reset_after = true), got one of shape (24,)", "hello-gru", libraries=True),
    Bad(".keras, other GRU", of(keras("old gru", "model.keras")), "expected reset_after = true", "hello-gru",
        libraries=True),
    Bad("Keras GRU, no biases", of(keras("no biases", "model.weights.h5")), "is not told", "hello-gru", libraries=True),
    Bad(".keras with relu", of(keras("relu", "model.keras")), "expected weights of nonlinearity = tanh, got relu",
        "hello-rnn", libraries=True),
    Bad("HDF5 of zeros", empty_hdf5, "expected at most", libraries=True),
    Bad("HDF5 of another file", linked_hdf5, "expected an array in the file itself, got a link", libraries=True),
    Bad("HDF5 cut short", cut(keras("lstm", "model.weights.h5"), 0.5), "expected an HDF5 file", libraries=True),
]  # fmt: skip


def flipped(folder: Path) -> Path:
    """As this project's own `save` writes it, with one bit changed afterwards."""
    from spec.parameters import save

    save(folder / "model.safetensors", arrays())
    held = bytearray((folder / "model.safetensors").read_bytes())
    held[-3] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(held))
    return folder / "model.safetensors"
