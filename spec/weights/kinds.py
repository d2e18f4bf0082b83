"""What stands at a path: by its first bytes and what is inside, never by what its name ends in alone."""

import os
import re
import stat
import zipfile
from pathlib import Path
from typing import NamedTuple

import msgspec

from spec import files
from spec.errors import UsageError, shorten

SAFETENSORS, SHARDED, NPZ, KERAS, HDF5, MESSAGES, GRAPH, PICKLED, TREE = (
    *("safetensors", "sharded safetensors", "npz", "keras", "hdf5", "msgpack", "onnx", "pickled", "tree"),
)
"""The formats that can be read."""

PEEK = 4096
"""Bytes of a file that are looked at first."""

LARGEST_INDEX = 10**8
"""Bytes of an index of shards; that of a model with 10^5 tensors has 10^7."""

ENTRIES = 10**5
"""Files in an archive that are listed, at most."""

LEGACY = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")
"""How a pickle of tensors begins that is no archive. Source: `torch.serialization.MAGIC_NUMBER`."""

PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "RAR",
}
"""Compressed files, by how they begin."""

OTHERS = {
    b"GGUF": ("a GGUF file, whose weights are quantized", "give the checkpoint that it was made from"),
    b"\x93NUMPY": ("one array without a name (.npy)", "save all of them by name: numpy.savez(file, **arrays)"),
    b"%PDF": ("a PDF document", ""),
    b"\x89PNG": ("a picture", ""),
    b"\xff\xd8\xff": ("a picture", ""),
    b"\x7fELF": ("a program", ""),
}
"""What else is known by how it begins, with what helps."""


class Kind(NamedTuple):
    """What a path holds. format: one of those above, or "" for no weights. what: in words. remedy: what helps."""

    format: str
    what: str
    remedy: str = ""


def kind_of(path: Path) -> Kind:
    """What stands there. Raises UsageError where nothing does, or what cannot be opened: a device, a FIFO."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise UsageError(f"{path}: cannot be read: No such file or directory") from None
        raise UsageError(f"{path}: expected weights, got nothing: no such file") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(mode):
        return _directory(path)
    files.check_regular(path)
    try:
        with path.open("rb") as file:
            head = file.read(PEEK)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    return _file(path, head, path.stat().st_size)


def refusal(path: Path, kind: Kind) -> UsageError:
    """What to say of a path that holds no weights."""
    remedy = f": {kind.remedy}" if kind.remedy else ""
    return UsageError(f"{path}: expected weights, got {kind.what}{remedy}")


def _file(path: Path, head: bytes, size: int) -> Kind:
    if not head:
        return Kind("", "an empty file", "download or save it again")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"version https://git-lfs"):
        held = re.search(rb"\nsize (\d{1,20})\n", head)
        size_of = f" to a file of {int(held[1])} bytes" if held else ""
        return Kind("", f"a Git LFS pointer{size_of}, not the file", "git lfs pull, or download the file itself")
    if re.match(rb"<(!doctype|html|head|\?xml|!--)", text, re.IGNORECASE):
        return Kind("", "a web page (HTML)", "download the file itself, not the page that shows it")
    # Eight bytes of length come first, any of which may look like another format's beginning.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
        return Kind(SAFETENSORS, "a safetensors file")
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _archive(path)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return Kind(HDF5, "an HDF5 file")
    if head.startswith(LEGACY):
        return Kind(PICKLED, "a pickle of tensors")
    if head[0] == 0x80 and head[1] in range(2, 6):
        return Kind("", "a pickle, which runs the code that it names when it is opened", "save the arrays alone")
    for beginning, (what, remedy) in OTHERS.items():
        if head.startswith(beginning):
            return Kind("", what, remedy)
    packed = next((name for beginning, name in PACKED.items() if head.startswith(beginning)), None)
    if packed or head[257:262] == b"ustar":
        return Kind("", f"a {packed or 'tar'} archive", "unpack it, and give the file of weights in it")
    if text.startswith(b"{"):
        return _json(path, size)
    if path.suffix == ".onnx":
        return Kind(GRAPH, "an ONNX file")
    if head[0] in range(0x81, 0x90) or head[0] in (0xDE, 0xDF):
        return Kind(MESSAGES, "a msgpack file")
    if path.suffix == ".safetensors" or head[8:9] in (b"{", b"["):
        return Kind(SAFETENSORS, "a safetensors file")
    try:
        words = text[:60].decode("utf-8").split("\n")[0]
    except UnicodeDecodeError:
        words = ""
    if words.isprintable() and words:
        return Kind("", f"a text that begins with {words!r}")
    return Kind("", f"{size} bytes of no format that is known, the first being {head[:8].hex(' ')}")


def _archive(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [one.filename for one in archive.infolist()[:ENTRIES]]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        return Kind("", f"an archive that was cut short or damaged ({error})", "download or save it again")
    inner = {name.partition("/")[2] or name for name in names}
    if "data.pkl" in inner:
        if any(name.startswith("code/") for name in inner):
            return Kind("", "an archive of a scripted program, with code in it", "save its state_dict() alone")
        return Kind(PICKLED, "an archive of a pickle and tensors")
    if {"model.weights.h5", "config.json"} <= set(names):
        return Kind(KERAS, "a .keras file")
    if names and all(name.endswith(".npy") for name in names):
        return Kind(NPZ, "an .npz file")
    listed = shorten(", ".join(sorted(names)[:5])) or "nothing"
    return Kind("", f"an archive of no weights (in it: {listed})", "unpack it, and give the file of weights in it")


def _json(path: Path, size: int) -> Kind:
    if size > LARGEST_INDEX:
        return Kind("", f"{size} bytes of JSON")
    try:
        held = msgspec.json.decode(files.read(path, LARGEST_INDEX))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Kind("", "a text that begins with '{'")
    if isinstance(held, dict) and isinstance(held.get("weight_map"), dict):
        return Kind(SHARDED, "an index of shards")
    keys = shorten(", ".join(sorted(map(str, held))[:4])) if isinstance(held, dict) else ""
    what = "a configuration" if isinstance(held, dict) and "model_type" in held else "JSON"
    return Kind("", f"{what} (keys: {keys or 'none'})", "give the file of weights beside it")


def _directory(path: Path) -> Kind:
    try:
        names = sorted(os.listdir(path))[:ENTRIES]
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    if {"_METADATA", "_CHECKPOINT_METADATA"} & set(names) or is_stepped(path, names):
        return Kind(TREE, "a directory of arrays")
    inside = [name for name in names if re.search(r"\.index\.json$", name)] or [
        name for name in names if re.search(r"\.(safetensors|pth?|npz|h5|keras|msgpack|onnx)$", name)
    ]
    if "saved_model.pb" in names:
        return Kind("", "a directory of a TensorFlow SavedModel", "load it in Keras, and save_weights('x.weights.h5')")
    if inside:
        return Kind("", "a directory", f"give a file in it, such as {path / inside[0]}")
    return Kind("", "a directory with no checkpoint in it" if names else "an empty directory")


def is_stepped(path: Path, names: list[str]) -> bool:
    """Whether those are the names in a directory of checkpoints by their step."""
    steps = [name for name in names if name.isdecimal()]
    return any(os.path.exists(path / step / mark) for step in steps for mark in ("_CHECKPOINT_METADATA", "_METADATA"))
