"""The table of what a user gets wrong at a train command. See spec/test_bad_input.py."""

import os
from importlib.metadata import version
from pathlib import Path

import numpy as np
from bad_train_changes import (
    CLASSIFIER,
    HUGE,
    NOISE,
    TRANSFORMER,
    Row,
    a_socket,
    alone,
    content,
    edited,
    flipped,
    header,
    metrics,
    moved,
    origin,
    plan,
    removed,
    resolved,
    size,
    there,
    weights,
)

from spec.experiment import SHIPPED
from spec.limits import LARGEST_FILE

MODEL = "hidden_size = 8"
EXPERIMENTS = [
    Row("hello-gur", "hello-gur: experiment: expected a shipped name or the path of a .toml file"),
    Row("", "experiment: expected a shipped name"),
    Row(".", "experiment: expected a shipped name"),
    Row("..", "experiment: expected a shipped name"),
    Row("no.toml", "no.toml: file: expected a readable TOML file, got no such file or directory"),
    Row("no/where.toml", "expected a readable TOML file"),
    Row("no.json", "no.json: cannot be read: No such file or directory"),
    Row("/", "expected a file, got a directory"),
    Row("full/", "expected a file, got a directory"),
    Row("/dev/null/x", "not a directory"),
    Row("/dev/zero", "expected a file, got a device"),
    Row("d.toml", "d.toml: file: expected a file, got a directory", there("d.toml", Path.mkdir)),
    Row("d.json", "d.json: expected a file, got a directory", there("d.json", Path.mkdir)),
    Row("f.toml", "f.toml: file: expected a file, got a FIFO", there("f.toml", os.mkfifo)),
    Row("f.json", "f.json: expected a file, got a FIFO", there("f.json", os.mkfifo)),
    Row("s.toml", "s.toml: file: expected a file, got a socket", there("s.toml", a_socket)),
    Row("l.toml", "no such file", there("l.toml", lambda path: path.symlink_to("nowhere"))),
    Row("l.toml", "symbolic links", there("l.toml", lambda path: path.symlink_to("l.toml"))),
    Row("l.toml", "got a device", there("l.toml", lambda path: path.symlink_to("/dev/zero"))),
    Row(f"{'x' * 300}.toml", "file name too long"),
    Row(f"{'x' * 300}.json", "File name too long"),
    Row("x" * 300, "expected a shipped name"),
    Row(f"{'x/' * 3000}x.toml", "file name too long"),
    Row("x\0.toml", "embedded null"),
    Row("x.toml", "expected valid TOML", content("x.toml", "[model\n")),
    Row("x.toml", "expected a value, got nothing", content("x.toml", "")),
    Row("x.toml", "can't decode byte", content("x.toml", b"\xff\xfe\x00")),
    Row("x.toml", f"expected at most {LARGEST_FILE} bytes, got more", content("x.toml", b"#" * (LARGEST_FILE + 1))),
    Row("x.toml", "at most 8 parts", content("x.toml", "a." * 400_000 + "a = 1")),
    Row("x.toml", "at most 8 parts", content("x.toml", "[" + '"a".' * 100_000 + "a]")),
    Row("x.toml", "at most 8 parts", content("x.toml", "x = {" + "a . " * 100_000 + "a = 1}")),
    Row("x.toml", "nested too deeply", content("x.toml", "a = " + "[" * 400_000)),
    Row("x.toml", "nested too deeply", content("x.toml", "a = " + "{a=" * 200_000)),
    Row("x.toml", "expected valid TOML", content("x.toml", f"seeds = {'9' * 5000}")),
    Row("x.toml", "an unknown key", content("x.toml", f"{'k' * 100_000} = 1")),
    Row("x.toml", "an unknown key", content("x.toml", '"\\u001b[31m\\n::error::" = 1')),
    Row("x.toml", "no such key (the file's name is the experiment's)", edited("seeds = 6", 'seeds = 6\nname = "y"')),
    Row("x.toml", "seeds: expected int, got '6'", edited("seeds = 6", 'seeds = "6"')),
    Row("x.toml", "seeds: expected int, got 6.5", edited("seeds = 6", "seeds = 6.5")),
    Row("x.toml", "seeds: expected int, got True", edited("seeds = 6", "seeds = true")),
    Row("x.toml", "seeds: expected int", edited("seeds = 6", "seeds = 1979-05-27")),
    Row("x.toml", "description: expected str", edited('"GRU with a linear head"', f'"{"x" * 20_000}"')),
    Row("x.toml", "model.name: expected one of", edited('name = "GRU"', 'name = "GRUU"')),
    Row("x.toml", "model.hidden_sizes: expected a key that exists", edited(MODEL, "hidden_sizes = 8")),
    Row("x.json", "expected valid JSON", content("x.json", "{")),
    Row("x.json", "expected object", content("x.json", "[]")),
    Row("x.json", "expected valid JSON", content("x.json", b"\xff")),
    Row("x.json", "nested too deeply", content("x.json", "[" * 500_000)),
    Row("x.json", "expected at most", content("x.json", b" " * (LARGEST_FILE + 1))),
    Row("x.json", "description: expected a value", content("x.json", '{"name": "x"}')),
    Row("x.json", "expected valid JSON", content("x.json", f'{{"seeds": {"9" * 5000}}}')),
]
NAMES = [
    Row("stopped/experiment.json", "name: expected letters, digits", resolved("name", name))
    for name in ("../up", "/absolute", "", "a/b", "a\\b", "n\0", "x" * 300, "ü" * 51, "a\nb", "-flag", ".hidden", "a:b")
]
NAMES += [
    Row("stopped/experiment.json", "a name that no system has for a device", resolved("name", name))
    for name in ("con", "NUL", "com1.x")
]
NAMES += [
    Row("stopped/experiment.json", "ends in neither a dot nor a space", resolved("name", name)) for name in ("a.", "b ")
]
NAMES += [
    Row("stopped/experiment.json", "name: expected str", resolved("name", 7)),
    Row("a*b.toml", "name: expected letters, digits", content("a*b.toml", (SHIPPED / "hello-gru.toml").read_bytes())),
    Row("nul.toml", "name that no system has", content("nul.toml", (SHIPPED / "hello-gru.toml").read_bytes())),
]
SIZES = [
    size("hidden_size", HUGE, "model.hidden_size: expected int <= 1000000000"),
    size("hidden_size", 0, "model.hidden_size: expected int >= 1, got 0"),
    size("hidden_size", -(10**20), "model.hidden_size: expected int >= 1"),
    size("hidden_size", 10**9, "model: expected at most 10000000000 parameters"),
    size("hidden_size", 55_000, "of memory, got one that takes"),
    size("num_layers", f"{10**12}\nhidden_size = 8", "model.num_layers: expected int <= 1000", line=MODEL),
    size("num_layers", 10**12, "model.num_layers: expected int <= 1000", TRANSFORMER),
    size("num_layers", 1001, "model.num_layers: expected int <= 1000", TRANSFORMER),
    size("heads", 10**18, "model.heads: expected int <= 1000000000", TRANSFORMER),
    size("heads", 3, "model.heads: expected a divisor of hidden_size", TRANSFORMER),
    size("feed_forward_size", HUGE, "model.feed_forward_size: expected int <= 1000000000", TRANSFORMER),
    size("feed_forward_size", 10**9, "at most 10000000000 parameters", TRANSFORMER),
    size("seeds", 10**12, "seeds: expected int <= 1000000"),
    size("epochs", 10**9, "training.epochs: expected int <= 10000000"),
    size("epochs", HUGE, "training.epochs: expected int <= 10000000"),
    size("epochs", -1, "training.epochs: expected int >= 0"),
    size("steps_per_epoch", 10**7, "training.steps_per_epoch: expected int <= 1000000", CLASSIFIER),
    size("length", 10**9, "task.length: expected int <= 1000000", CLASSIFIER),
    size("vocabulary", 10**9, "task.length: expected at most 10000 sequences", CLASSIFIER),
    size("batch_size", 10**10, "task.batch_size: expected int <= 1000000000", CLASSIFIER),
    size("batch_size", 10**9, "task.batch_size: expected at most 10000000000 input values", CLASSIFIER),
    size("features", HUGE, "task.features: expected int <= 1000000000", NOISE),
    Row(
        "x.toml",
        "training.epochs: expected at most 2147483647 optimizer steps in all, got 10000000000000",
        edited("epochs = 60", "epochs = 10000000\nsteps_per_epoch = 1000000"),
    ),
    Row("x.toml", "target: expected as many characters", edited('source = "hello"', f'source = "{"h" * 10**5}"')),
    Row("--epochs 1000000000", "training.epochs: expected int <= 10000000"),
    Row(f"--epochs {HUGE}", "training.epochs: expected int <= 10000000"),
    Row("--batch-size 1000000000000", "task.batch_size: expected int <= 1000000000"),
    Row("--batch-size 1000000000", "at most 10000000000 input values"),
    Row("--batch-size 450000000", "of memory, got one that takes"),
    Row("--seeds 4294967296 --epochs 1000000", "for the losses of 4294967296 seeds"),
    Row("--seeds 4294967297", "--seeds: expected seeds up to 4294967295"),
    Row(f"--seeds {HUGE}", "--seeds: expected seeds up to 4294967295"),
    Row("--seeds 2 --seed 4294967295", "--seeds: expected seeds up to 4294967295, got 2 from 4294967295"),
    Row("done/experiment.json", "hidden_size: expected int <= 1000000000", resolved("model.hidden_size", HUGE, "done")),
]
VALUES = [
    Row("--epochs 0", "hello-rnn: training.epochs: expected at least 1, got 0"),
    Row("--epochs -1", "hello-rnn: training.epochs: expected int >= 0, got -1"),
    Row("course-rnn-walk --epochs 1", "training.epochs: expected 0 with outcome Walk, got 1"),
    Row("--learning-rate 0", "training.optimizer.learning_rate: expected float > 0.0, got 0.0"),
    Row("--learning-rate nan", "training.optimizer.learning_rate: expected float > 0.0, got nan"),
    Row("--learning-rate inf", "training.optimizer.learning_rate: expected float <= "),
    Row("--learning-rate=-1e9", "training.optimizer.learning_rate: expected float > 0.0"),
    Row("--batch-size 0", "task.batch_size: expected int >= 1, got 0"),
    Row("course-rnn-walk --seeds 3", "--seeds: expected an experiment that trains"),
    Row("--seeds 3 --trace", "--trace: expected none with --seeds"),
    Row("--seeds 3 --log-every 2", "--log-every: expected none with --seeds"),
    Row("--seeds 3 --init-weights gru", "--init-weights: expected none with --seeds"),
    Row("--seeds 3 --export-weights w", "--export-weights: expected none with --seeds"),
    Row("--device cuda", "device: expected cpu, got cuda", code=3),
    Row("hello-embedding-sparse", "sparse: not here", code=3),
]
OUTPUTS = [
    Row("--out full", "--out full: expected a new or empty directory, got a directory that is not empty"),
    Row("--out stopped", "got a directory that is not empty (--resume continues it)"),
    Row("--out many --seeds 2", "got a directory that is not empty"),
    Row("--out file", "--out file: expected a new or empty directory, got a file"),
    Row("--out file/x", "--out file/x: expected a new or empty directory, got none: Not a directory"),
    Row("--out /dev/null", "got a device"),
    Row("--out f", "got a FIFO", there("f", os.mkfifo)),
    Row("--out s", "got a socket", there("s", a_socket)),
    Row("--out l", "got a broken link", there("l", lambda path: path.symlink_to("nowhere"))),
    Row("--out l", "--out l: ", there("l", lambda path: path.symlink_to("l"))),
    Row(f"--out {'x' * 300}", "File name too long"),
    Row(f"--seeds 2 --out {'x' * 300}", "File name too long"),
    Row("--out x\0y", "embedded null"),
    Row("--out /proc/none", "--out /proc/none: cannot be made"),
    Row("--out x --trace", "--out: expected none where nothing is trained"),
    Row("--out x course-rnn-walk", "--out: expected none where nothing is trained"),
    Row("hello-rnn", "--out runs: cannot be made: Not a directory", content("runs", "")),
    Row("--export-weights no/w", "--export-weights no/w: cannot be written: No such file or directory"),
    Row("--export-weights full", "--export-weights full: expected a file, got a directory"),
    Row("--export-weights gru/w", "--export-weights gru/w: cannot be written: Not a directory"),
    Row("--export-weights /dev/null", "--export-weights /dev/null: expected a file, got a device"),
    Row("--export-weights /dev/full", "expected a file, got a device"),
    Row("--export-weights /proc/w", "--export-weights /proc/w: cannot be written"),
    Row("--export-weights .", "--export-weights .: expected a file, got a directory"),
    Row("--export-weights f", "expected a file, got a FIFO", there("f", os.mkfifo)),
    Row("--export-weights s", "expected a file, got a socket", there("s", a_socket)),
    Row("--export-weights l", "expected a file, got a device", there("l", lambda path: path.symlink_to("/dev/null"))),
    Row("--export-weights l", "expected a file, got a directory", there("l", lambda path: path.symlink_to("full"))),
    Row("--export-weights l", "circle", there("l", lambda path: path.symlink_to("l"))),
    Row("--export-weights l", "No such file", there("l", lambda path: path.symlink_to("no/where"))),
    Row(f"--export-weights {'x' * 300}", "File name too long"),
    Row("--export-weights x\0y", "embedded null"),
    Row("x.toml --export-weights x.toml", "expected a file of its own, got x.toml", edited(MODEL, MODEL)),
    Row("--resume --out done --export-weights done/checkpoint.safetensors", "which the run needs"),
    Row(
        "--resume --out done --export-weights l",
        "expected a file of its own",
        there("l", lambda path: path.symlink_to("done/metrics.jsonl")),
    ),
    Row("course-rnn-walk --export-weights full", "expected a file, got a directory"),
]
FLOAT8 = '{"rnn.bias_hh_l0":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
# An older safetensors has no such type, and says that it cannot read the file.
KNOWN = tuple(map(int, version("safetensors").split(".")[:2])) >= (0, 6)
STRANGE = "w: rnn.bias_hh_l0: expected a dtype of F64, F32, F16" if KNOWN else "got one that cannot be read"
BFLOAT16 = FLOAT8.replace("F8_E4M3", "BF16").replace("[2]", "[1]")
GIVEN = [
    Row("--init-weights no", "no: expected weights, got nothing: no such file"),
    Row("--init-weights full", "full: expected weights, got a directory with no checkpoint in it"),
    Row("--init-weights file", "file: expected weights, got a text that begins with 'a file'"),
    Row("--init-weights /dev/zero", "expected a file, got a device"),
    Row("--init-weights f", "expected a file, got a FIFO", there("f", os.mkfifo)),
    Row("--init-weights l", "No such file", there("l", lambda path: path.symlink_to("nowhere"))),
    Row(f"--init-weights {'x' * 300}", "File name too long"),
    Row("--init-weights gru", "gru: rnn.weight_ih_l0: expected shape (8, 4), got (24, 4); rnn.weight_hh_l0: "),
    Row("hello-gru --init-weights w", "w: missing ['head.bias']", weights(head__bias=None)),
    Row("hello-gru --init-weights w", "w: not in the model ['more']", weights(more=np.zeros(1))),
    Row("hello-gru --init-weights w", "head.bias: expected a floating dtype", weights(head__bias=np.zeros(4, int))),
    Row("hello-gru --init-weights w", "w: head.bias: expected finite values, got nan at (2,)", weights(
        head__bias=np.array([0, 1, np.nan, 3])
    )),
    Row("hello-gru --init-weights w", "w: head.weight: expected finite values, got inf at (0, 0), and 31 more", weights(
        head__weight=np.full((4, 8), np.inf)
    )),
    Row("hello-gru --init-weights w", "got 1e+39 at (1,), which is beyond float32", weights(
        head__bias=np.array([0, 1e39, 0, 0])
    )),
    Row("hello-gru --init-weights w --precision float64", "got -inf at (3,)", weights(
        head__bias=np.array([0, 0, 0, -np.inf])
    )),
    Row("hello-gru --init-weights w", STRANGE, header(FLOAT8.replace("F8_E4M3", "F8_E8M0"), b"ab")),
    Row("hello-gru --init-weights w", "expected 1 of bias_hh [24] + bias_ih [24]", header(BFLOAT16, b"ab")),
    Row("hello-gru --init-weights w", "expected a safetensors file", header("{}", length=2**62)),
    Row("hello-gru --init-weights w", "expected a safetensors file", header("[" * 100_000)),
    Row("hello-gru --init-weights w", "expected a safetensors file", header(FLOAT8.replace("[0,2]", "[0,99]"), b"ab")),
    Row("hello-gru --init-weights w", "w: expected weights, got an empty file", content("w", "")),
    Row("hello-gru --init-weights w", "got an archive that was cut short", content("w", b"PK\x03\x04" + bytes(100))),
    Row("hello-gru --init-weights w", "got a Git LFS pointer", content("w", "version https://git-lfs...\n")),
    Row("hello-gru --init-weights gru", "gru: expected the checksum", flipped("gru", 0.9)),
    Row("hello-gru --init-weights gru", "gru: expected the checksum", flipped("gru", 1)),
    Row("--init-weights w.safetensors", "expected a file that fits into", there("w.safetensors", lambda path: (
        path.touch(), os.truncate(path, 2**42)
    ))),
]  # fmt: skip
CHECKPOINT = "stopped/checkpoint.safetensors"
RESUME = "--resume --out stopped"
RESUMED = [
    Row("--resume", "--resume: expected --out with the directory to resume, and no --init-weights"),
    Row(f"{RESUME} --init-weights gru", "--resume: expected --out with the directory"),
    Row("--resume --out no", "no/experiment.json: cannot be read: No such file"),
    Row("--resume --out full", "full/experiment.json: cannot be read: No such file"),
    Row("--resume --out file", "file/experiment.json: cannot be read: Not a directory"),
    Row(f"--resume --out {'x' * 300}", "File name too long"),
    Row(f"{RESUME} --seed 6", "--seed: expected 5, as in stopped, got 6"),
    Row(f"{RESUME} --precision float64", "--precision: expected float32, as in stopped, got float64"),
    Row(f"{RESUME} --learning-rate 0.5", "training.optimizer.learning_rate: expected 0.05, got 0.5"),
    Row(f"{RESUME} --epochs 30", "--epochs: expected at least 61, as in stopped, got 30"),
    Row(f"{RESUME} --epochs 70 --batch-size 2", "task.batch_size: expected 1, got 2"),
    Row(f"{RESUME} --epochs 1000000000", "training.epochs: expected int <= 10000000"),
    Row(f"{RESUME} hello-lstm", "name: expected 'hello-gru', got 'hello-lstm'"),
    Row(f"{RESUME} --seeds 3", "stopped/ensemble.json: cannot be read: No such file"),
    Row(RESUME, "training.optimizer.learning_rate: expected 0.05, got 0.5", resolved(
        "training.optimizer.learning_rate", 0.5
    )),
    Row(RESUME, "training.epochs: expected 61, got 10000000", resolved("training.epochs", 10**7)),
    Row(RESUME, "training.epochs: expected int <= 10000000", resolved("training.epochs", 10**9)),
    Row(RESUME, "training.epochs: expected 61, got 40", resolved("training.epochs", 40)),
    Row(RESUME, "name: expected 'hello-gru', got 'other'", resolved("name", "other")),
    Row(RESUME, "name: expected letters, digits", resolved("name", "../other")),
    Row(RESUME, "stopped/experiment.json: cannot be read", removed("stopped/experiment.json")),
    Row(RESUME, "expected a file, got a FIFO", there("stopped/experiment.json", os.mkfifo)),
    Row(RESUME, "expected a run to resume, got one that never began", alone(removed(CHECKPOINT))),
    Row(RESUME, "expected a file, got a FIFO", there(CHECKPOINT, os.mkfifo)),
    Row(RESUME, "metrics.jsonl: cannot be read", removed("stopped/metrics.jsonl")),
    Row(RESUME, "metrics.jsonl: expected a file, got a FIFO", there("stopped/metrics.jsonl", os.mkfifo)),
    Row(RESUME, "expected the checksum", alone(flipped(CHECKPOINT, 1))),
    Row(RESUME, "expected the checksum", alone(flipped(CHECKPOINT, 0.7))),
    Row(RESUME, "expected a safetensors file", alone(flipped(CHECKPOINT, 0))),
    Row(RESUME, "expected a safetensors file", alone(content(CHECKPOINT, b""))),
    Row(RESUME, "expected a checkpoint's metadata, got something else", moved("gru", CHECKPOINT)),
    Row(RESUME, "epochs: expected 0 to 61, got 1000000000", origin(epochs=10**9)),
    Row(RESUME, "epochs: expected 0 to 61, got -1", origin(epochs=-1)),
    Row(RESUME, f"epochs: expected 0 to 61, got {HUGE}", origin(epochs=HUGE)),
    Row(RESUME, "expected a checkpoint's metadata, got something else", origin(epochs="many")),
    Row(RESUME, f"steps: expected 28, 1 for each of 28 epochs, got {HUGE}", origin(steps=HUGE)),
    Row(RESUME, "expected a checkpoint's metadata, got something else", origin(steps="9" * 5000)),
    Row(RESUME, "steps: expected 28, 1 for each of 28 epochs, got 1000000000", origin(steps=10**9)),
    Row(RESUME, "steps: expected 7, 1 for each of 7 epochs, got 28", origin(epochs=7)),
    Row(RESUME, "of another run, or changed", origin(epochs=7, steps=7)),
    Row(RESUME, "expected the epochs 1 to 40 of the checkpoint, got 28 epochs", origin(epochs=40, steps=40)),
    Row(RESUME, "expected a checkpoint of format 3, got format 1: of another version", origin(format=1)),
    Row(RESUME, "expected a checkpoint of format 3, got format 4", origin(format=4)),
    Row(RESUME, "metrics.jsonl: seed: expected 6, as the checkpoint has, got 5", origin(seed=6)),
    Row(RESUME, "rnn.weight_ih_l0: expected float64, got float32", origin(precision="float64")),
    Row(RESUME, "expected a checkpoint's metadata, got something else", origin(precision="float16")),
    Row(RESUME, "expected a checkpoint's metadata, got something else", origin(resolved="{")),
    Row(RESUME, "expected a checkpoint's metadata, got something else", origin(resolved="[" * 100_000)),
    Row(RESUME, "experiment.json: expected the experiment of checkpoint.safetensors", origin(resolved="{}")),
    Row(RESUME, "training.epochs: expected 60, got 61", moved("done/checkpoint.safetensors", CHECKPOINT)),
    Row(RESUME, "metrics.jsonl: seed: expected 5, as the checkpoint has, got 0", moved(
        "done/metrics.jsonl", "stopped/metrics.jsonl"
    )),
    Row(RESUME, "got 27 epochs", metrics(lambda lines: lines[:28])),
    Row(RESUME, "got 27 epochs", metrics(lambda lines: [*lines[:5], *lines[6:]])),
    Row(RESUME, "got 0 epochs", metrics(lambda lines: ["nonsense", *lines])),
    Row(RESUME, "got 0 epochs", metrics(lambda lines: ["[" * 100_000, *lines])),
    Row(RESUME, "of another run, or changed", metrics(
        lambda lines: [*lines[:5], lines[5].replace('"loss":0.2', '"loss":0.3'), *lines[6:]]
    )),
    Row(RESUME, "of another run, or changed", metrics(
        lambda lines: [lines[0], *(line.replace('"solved":true', '"solved":false') for line in lines[1:])]
    )),
    Row("--resume --out many --seed 7", "--seed: expected 3, as in many, got 7"),
    Row("--resume --out many --epochs 9", "an ensemble keeps no state of its members"),
    Row("--resume --out many", "seeds: expected 9 to 10, as ensemble.json has, got 3 to 4", plan(first_seed=9)),
    Row("--resume --out many", "seeds: expected 3 to 5, as ensemble.json has, got 3 to 4", plan(chunk=3)),
    Row("--resume --out many", "expected an ensemble's, got something else", plan(seeds=10**12)),
    Row("--resume --out many", "expected an ensemble's, got something else", plan(chunk=0)),
    Row("--resume --out many", "seeds: expected at most 2000000, got 2000000001", plan(seeds=2 * 10**9 + 1)),
    Row("--resume --out many", "expected an ensemble's, got something else", content("many/ensemble.json", "[" * 9999)),
    Row("--resume --out many", "--resume: expected hello-gru (spec ", resolved("training.epochs", 5, "many")),
    Row("--resume --out many", "expected a file, got a FIFO", there("many/ensemble.json", os.mkfifo)),
]  # fmt: skip
ROWS = [*EXPERIMENTS, *NAMES, *SIZES, *VALUES, *OUTPUTS, *GIVEN, *RESUMED]
FRESH = [
    Row("no-such", "expected a shipped name"),
    Row("--epochs 0", "training.epochs: expected at least 1"),
    Row("f.toml", "expected a file, got a FIFO", there("f.toml", os.mkfifo)),
    Row("x.toml", "nested too deeply", content("x.toml", "a = " + "[" * 400_000)),
    Row("x.toml", "model.hidden_size: expected int <= 1000000000", edited(MODEL, f"hidden_size = {HUGE}")),
    Row("x.toml", "of memory, got one that takes", edited(MODEL, "hidden_size = 20000")),
    Row("--out full", "expected a new or empty directory"),
    Row("--export-weights /dev/stdout", "--export-weights /dev/stdout: "),
    Row("--init-weights w", STRANGE, header(FLOAT8.replace("F8_E4M3", "F8_E8M0"), b"ab")),
    Row(RESUME, "steps: expected 28", origin(steps=10**9)),
    Row(RESUME, "training.epochs: expected 61, got 10000000", resolved("training.epochs", 10**7)),
    Row("--device cuda", "device: expected ", code=3),
    Row("--device tpu", "device: expected ", code=3),
]
"""For a process of its own."""
