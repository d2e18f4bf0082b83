"""Trainings on several devices are the training on one: `make test-devices` asks it of more models and devices."""

import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np
import pytest

from crosscheck.faults import given
from crosscheck.faults.fault import Edit, Fault
from crosscheck.faults.plant import plant
from spec import devices
from spec.errors import UsageError
from spec.exit_codes import COULD_NOT_RUN
from spec.experiment import Experiment, override
from spec.framework import Settings, Trajectory
from spec.training import SGD, Clipping, State, initial_state

SIDES = ("torch_impl", "flax_impl")
FLOAT64 = Settings("float64")

STEPS = 3

CHANGES: dict[str, dict[str, Any]] = {
    "its own recipe": {},
    "SGD": {"training__optimizer": SGD(learning_rate=0.1), "training__clipping": None, "training__groups": ()},
    "four at once": {"task__batch_size": 4},
    "SGD, clipped": {"training__optimizer": SGD(learning_rate=0.1), "training__clipping": Clipping(max_norm=0.01)},
}

SMALL = [("recipe-parts", "its own recipe", 2)]  # Lengths, masks, a clipped norm, parts of three sequences.
MORE = [
    ("ragged-lstm", "its own recipe", 2),  # Shares have unequal numbers of targets.
    ("ragged-lstm", "SGD, clipped", 2),
    ("text-lstm", "SGD", 2),  # States are carried on.
    ("drawn-2", "its own recipe", 2),  # Three sequences on two devices.
    ("drawn-3", "SGD", 4),
    ("ragged-transformer", "SGD", 2),
    ("ragged-transformer", "SGD, clipped", 4),
    ("reverse", "its own recipe", 4),
    ("reverse", "SGD", 3),
    ("several-sequences", "SGD", 2),  # Attention.
    ("oscillation-gru", "SGD", 3),  # Numbers for targets; 64 sequences on three devices.
    ("text-lstm", "its own recipe", 4),
    ("last-step-classifier", "SGD", 4),
    ("bucketed", "SGD", 3),
    ("recipe-loss", "its own recipe", 2),  # Weights of classes.
    ("bfloat16-transformer", "its own recipe", 2),  # Products of rounded numbers.
    ("hello-gru-bfloat16", "four at once", 2),
]


def changed(name: str, change: str) -> Experiment:
    experiment = override(given.load(name), training__epochs=2, training__steps_per_epoch=STEPS)
    if name == "several-sequences":
        # Of one class there is no loss.
        experiment = override(experiment, task__classes=3, model__classes=3)
    return override(experiment, **CHANGES[change])


def start(side: str, experiment: Experiment, settings: Settings = FLOAT64) -> State:
    parameters = importlib.import_module(side).open(experiment, settings).initialize(3)
    return initial_state(experiment.training.optimizer, parameters)


def trained(side: str, experiment: Experiment, count: int, **options: Any) -> Trajectory:
    bound = importlib.import_module(side).open(experiment, msgspec.structs.replace(FLOAT64, devices=count))
    train = bound.train if count == 1 else bound.train_on_devices
    return train(start(side, experiment), 2, 5, **options)


def assert_alike(one: Trajectory, other: Trajectory) -> None:
    np.testing.assert_allclose(one.losses, other.losses, rtol=1e-10)
    np.testing.assert_allclose(one.logits, other.logits, rtol=1e-8, atol=1e-10)
    assert one.state.step == other.state.step
    for held, expected in zip((*one[3:6], *one.state[:2]), (*other[3:6], *other.state[:2]), strict=True):
        assert held.keys() == expected.keys()
        for name in held:
            np.testing.assert_allclose(held[name], expected[name], rtol=1e-8, atol=1e-10, err_msg=name)
    assert one.parameters


@pytest.mark.by_default("flax_impl-*")
@pytest.mark.parametrize(
    ("name", "change", "count"), [*SMALL, *(pytest.param(*row, marks=pytest.mark.devices) for row in MORE)]
)
@pytest.mark.parametrize("side", SIDES)
def test_the_trajectory_is_that_of_one_device(side: str, name: str, change: str, count: int) -> None:
    experiment = changed(name, change)
    alone, together = (trained(side, experiment, c, record=True, masks="spec") for c in (1, count))
    assert_alike(together, alone)
    assert np.abs(alone.losses[1:] / alone.losses[:-1] - 1).max() > 1e-6  # Something is learned.


@pytest.mark.devices
@pytest.mark.parametrize("side", SIDES)
def test_own_masks_differ_from_device_to_device_and_are_the_same_again(side: str) -> None:
    experiment = changed("recipe-parts", "SGD")
    first, again, alone = (trained(side, experiment, count) for count in (2, 2, 1))
    np.testing.assert_array_equal(first.losses, again.losses)
    assert (first.losses != alone.losses).all()


@pytest.mark.by_default("flax_impl-*")
@pytest.mark.parametrize("name", ["recipe-parts", pytest.param("ragged-transformer", marks=pytest.mark.devices)])
@pytest.mark.parametrize("side", SIDES)
def test_in_a_fixed_order_weights_are_the_same_bits(side: str, name: str) -> None:
    """On 2 devices, on 1, and on 2 and then 1; `make test-devices` asks 4 as well."""
    experiment = override(given.load(name), training__epochs=2, training__steps_per_epoch=STEPS)
    experiment = override(experiment, task__batch_size=10) if name == "recipe-parts" else experiment
    settings = [Settings("float32", devices=count, fixed_order=True) for count in (1, 2, 4)]
    one, two, four = (importlib.import_module(side).open(experiment, each).train_on_devices for each in settings)
    begin = start(side, experiment, settings[0])
    expected = two(begin, 2, 5).state
    found = [one(begin, 2, 5).state, one(two(begin, 1, 5).state, 1, 5).state]
    found += [four(begin, 2, 5).state] if name != "recipe-parts" else []
    for state in found:
        for held, wanted in zip(state[:2], expected[:2], strict=True):
            for tensor, values in held.items():
                np.testing.assert_array_equal(values, wanted[tensor], err_msg=tensor)
    assert any((expected.parameters[tensor] != values).any() for tensor, values in begin.parameters.items())


def test_shares_are_as_equal_as_can_be() -> None:
    assert [range(8)[share] for share in devices.shares(8, 3)] == [range(3), range(3, 6), range(6, 8)]
    assert [range(4)[share] for share in devices.shares(4, 4)] == [range(i, i + 1) for i in range(4)]


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("hello-rnn", 2, "--devices: expected at most one for each of the batch's 1 sequences, got 2"),
        ("recipe-parts", 4, "expected at most one for each of the batch's 6 sequences for each of 2 parts, got 4"),
        ("ragged-lstm", 17, "expected at most one for each of the batch's 16 sequences, got 17"),
        ("hello-embedding-scale-by-frequency", 2, "expected at most one for each of the batch's 1 sequences"),
    ],
)
@pytest.mark.parametrize("side", SIDES)
def test_what_cannot_be_shared_out_is_refused(side: str, name: str, count: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        trained(side, given.load(name), count)


def command(side: str, *arguments: str, at: Path | None = None, **environment: str) -> subprocess.Popen[str]:
    """The train command. at: where it begins, and finds what it runs first."""
    return subprocess.Popen(
        [sys.executable, "-m", f"{side}.train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=at,
        env=os.environ | environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.devices
@pytest.mark.parametrize("side", SIDES)
def test_a_run_goes_on_with_another_number_of_devices(side: str, tmp_path: Path) -> None:
    """Losses of a run on 4, 2 and 1 devices are those of a run on one, to rounding."""
    runs = {}
    for name, counts in (("alone", (1, 1, 1)), ("several", (4, 2, 1))):
        out = str(tmp_path / name)
        for epochs, count in zip((1, 2, 3), counts, strict=True):
            where = ["--resume"] if epochs > 1 else ["ragged-lstm", "--seed", "3"]
            options = ["--epochs", str(epochs), "--precision", "float64", "--devices", str(count), "--out", out]
            process = command(side, *where, *options)
            said, _ = process.communicate(timeout=300)
            assert process.returncode in (0, 1), said
        events = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        runs[name] = [event["loss"] for event in events if event["event"] == "epoch"]
    assert len(runs["alone"]) == 3
    np.testing.assert_allclose(runs["several"], runs["alone"], rtol=1e-9)


DRIFTED = {
    "torch_impl": (
        Edit(
            "training.py:train",
            "                step += 1\n",
            "                step += 1\n"
            "                if place.number == 1 and step == 15:\n"
            "                    next(model.parameters()).data.view(-1)[3] += 2.0**-20\n",
        ),
    ),
    "flax_impl": (
        Edit(
            "devices.py:divided.on_one",
            "loss, gradients = jax.lax.psum((loss, gradients), AXIS)\n",
            "loss, gradients = jax.lax.psum((loss, gradients), AXIS)\n"
            "        gradients = jax.tree.map(lambda g: g.at[..., 0].add(device * 2.0**-10), gradients)\n",
        ),
    ),
}
"""One device's weights go another way than the other's: in torch_impl once an epoch has been saved."""


def edited(side: str, edits: tuple[Edit, ...], directory: Path) -> Path:
    """Where a copy of the side with these edits stands, and nothing else."""
    fault = Fault("planted", "", side, edits, "", "", "")  # pyright: ignore[reportArgumentType]
    plant(fault, Path(importlib.import_module(side).__file__ or "").parent, directory)
    return directory


@pytest.mark.devices
@pytest.mark.parametrize("side", SIDES)
def test_a_device_with_other_weights_is_named(side: str, tmp_path: Path) -> None:
    options = ["ragged-lstm", "--checkpoint-steps", "10", "--devices", "2", "--out", str(tmp_path / "run")]
    began = command(side, *options, at=edited(side, DRIFTED[side], tmp_path))
    said, _ = began.communicate(timeout=300)
    assert began.returncode == COULD_NOT_RUN, said
    line = said.splitlines()[-1]
    assert line.startswith("error: device 1 of 2 has other weights than the others after step "), line
    saved = {"torch_impl": 1, "flax_impl": 0}[side]
    assert (
        f"embedding.weight differs; epoch {saved} of 12 is saved, go on with any number of devices: python -m" in line
    )
    resumed = command(side, "--resume", "--epochs", "12", "--devices", "1", "--out", str(tmp_path / "run"))
    said, _ = resumed.communicate(timeout=300)
    assert resumed.returncode in (0, 1)
    assert f"resumed after epoch {saved}" in said


@pytest.mark.devices
def test_a_device_at_another_step_is_named(tmp_path: Path) -> None:
    edits = (Edit("training.py:train", "step = state.step\n", "step = state.step + place.number\n"),)
    options = ["ragged-lstm", "--checkpoint-steps", "10", "--devices", "2", "--out", str(tmp_path / "run")]
    began = command("torch_impl", *options, at=edited("torch_impl", edits, tmp_path))
    said, _ = began.communicate(timeout=300)
    assert began.returncode == COULD_NOT_RUN
    assert "error: device 1 of 2 is at step 11, device 0 at step 10; epoch 0 of 12 is saved" in said.splitlines()[-1]


COMMENT = {side: (Edit("__init__.py", "LEAVES_OUT", "# Of another version.\nLEAVES_OUT"),) for side in SIDES}


def launched(side: str, number: int, port: int) -> dict[str, str]:
    """The variables of one of two processes that find each other on this machine."""
    if side == "flax_impl":
        found = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": 2, "JAX_PROCESS_ID": number}
    else:
        found = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": number, "LOCAL_RANK": number}
        found |= {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    return {name: str(value) for name, value in found.items()}


@contextmanager
def two_processes(
    side: str, *options: str, at: Path | None = None, other_at: Path | None = None
) -> Iterator[list[subprocess.Popen[str]]]:
    """The first of two processes that find each other, and the other one."""
    port = free_port()
    places = enumerate((at, other_at or at))
    found = [command(side, *options, at=place, **launched(side, number, port)) for number, place in places]
    try:
        yield found
    finally:
        for process in found:
            process.kill()
            process.communicate()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.devices
def test_a_process_at_another_step_is_named(tmp_path: Path) -> None:
    """Of flax_impl, where the devices of a process are at one step by their nature."""
    edits = (Edit("processes.py:_take_part", "compare(job.state.step,", "compare(job.state.step + launched().number,"),)
    options = ["ragged-lstm", "--devices", "2", "--out", str(tmp_path / "run")]
    with two_processes("flax_impl", *options, at=edited("flax_impl", edits, tmp_path)) as (first, other):
        said, _ = first.communicate(timeout=300)
        assert first.returncode == COULD_NOT_RUN, said
        assert other.wait(60) == 0
    assert "error: process 1 of 2 is at step 1, process 0 at step 0; epoch 0 of 12 is saved" in said.splitlines()[-1]


@pytest.mark.devices
@pytest.mark.parametrize("side", SIDES)
def test_a_device_of_another_version_is_named(side: str, tmp_path: Path) -> None:
    """Two processes are started, of which the second finds another code."""
    options = ["ragged-lstm", "--devices", "2", "--out", str(tmp_path / "run")]
    with two_processes(side, *options, other_at=edited(side, COMMENT[side], tmp_path)) as (first, other):
        said, _ = first.communicate(timeout=300)
        assert first.returncode == COULD_NOT_RUN, said
        assert other.wait(60) == 0
    kind = {"torch_impl": "device", "flax_impl": "process"}[side]
    expected = rf"error: {kind} 1 of 2 computes by {side} \w{{12}}, {kind} 0 by \w{{12}}"
    assert re.match(expected, said.splitlines()[-1]), said


ALIKE = devices.Standing({"torch": "2.13.0"}, 7, {"a": 1, "b": 2})


@pytest.mark.parametrize(
    ("standings", "words"),
    [
        ([ALIKE, ALIKE], ""),
        ([ALIKE, ALIKE._replace(step=8)], "device 1 of 2 is at step 8, device 0 at step 7"),
        ([ALIKE._replace(step=6), ALIKE, ALIKE], "device 0 of 3 is at step 6, device 1 at step 7"),
        ([ALIKE, ALIKE, ALIKE._replace(weights={"a": 1, "b": 3})], "device 2 of 3 has other weights than the others"),
        ([ALIKE, ALIKE._replace(weights={"a": 1})], "after step 7: b differs"),
        ([ALIKE, ALIKE._replace(program={"torch": "2.12.0"})], "computes by torch 2.12.0, device 0 by 2.13.0"),
        ([ALIKE, ALIKE._replace(program={})], ""),  # Not loaded.
    ],
)
def test_what_devices_do_not_have_alike_is_said(standings: list[devices.Standing], words: str) -> None:
    found = devices.parted(standings)
    assert words in found if words else not found


def test_devices_are_compared_now_and_then_and_at_the_end() -> None:
    found = devices.compared(2 * devices.COMPARED + 5)
    assert [number for number, asked in enumerate(found, 1) if asked] == [100, 200, 205]
    assert devices.compared(1) == [True]


def test_checksums_tell_any_bit_and_any_place() -> None:
    """Both sides': of what is alike they are alike."""
    from flax_impl.devices import checksum

    values = np.random.default_rng(0).normal(size=(5, 7))
    swapped, turned, small = values.copy(), values.copy(), values.copy()
    swapped[0, [0, 1]] = swapped[0, [1, 0]]
    turned[2, 2] *= -1
    small[4, 6] = np.nextafter(small[4, 6], 1.0)
    for dtype, others in (("float64", (swapped, turned, small)), ("float32", (swapped, turned))):
        for made in (lambda a: devices.checksums({"a": a})["a"], lambda a: int(checksum(jax.numpy.asarray(a)))):
            with jax.enable_x64(dtype == "float64"):
                expected = made(values.astype(dtype))
                assert made(values.astype(dtype).copy()) == expected
                assert all(made(other.astype(dtype)) != expected for other in others)
    for size in (2, 32, 4096):  # Of sums or exclusive-ors of the words alone, zeros and ones would be alike.
        assert checksum(jax.numpy.zeros(size)) != checksum(jax.numpy.ones(size))


@pytest.mark.devices
def test_a_device_that_is_killed_ends_the_run_and_is_named(tmp_path: Path) -> None:
    began = command("torch_impl", "weather-gru", "--epochs", "5000", "--devices", "2", "--out", str(tmp_path / "run"))
    try:
        (child,) = started_by(began.pid, tmp_path / "run" / "metrics.jsonl")
        os.kill(child, signal.SIGKILL)
        killed = time.monotonic()
        said, _ = began.communicate(timeout=60)
    finally:
        began.kill()
    assert time.monotonic() - killed < 30
    assert began.returncode == COULD_NOT_RUN
    assert said.splitlines()[-1].startswith(f"error: device 1 of 2 (process {child}) was killed by SIGKILL; epoch ")
    assert "go on with any number of devices: python -m torch_impl.train --resume --out" in said
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()


@pytest.mark.devices
def test_processes_of_jax_train_together(tmp_path: Path) -> None:
    """To the losses of one process with two devices; nothing listens beyond the loopback interface, and when one is
    killed, the other one says so."""
    options = ["ragged-lstm", "--precision", "float64", "--devices", "2"]
    alone = command(
        "flax_impl", *options, "--checkpoint-steps", "10", "--epochs", "2", "--out", str(tmp_path / "alone")
    )
    out = tmp_path / "together"
    options += ["--checkpoint-steps", "10", "--json", "--out", str(out)]
    with two_processes("flax_impl", *options, "--epochs", "5000") as (first, other):
        until = time.monotonic() + 300
        while not (out / "metrics.jsonl").exists() or len((out / "metrics.jsonl").read_text().splitlines()) < 3:
            assert time.monotonic() < until
            assert first.poll() is None, first.communicate()
            time.sleep(0.1)
        found = listening(first.pid) | listening(other.pid)
        other.kill()
        killed = time.monotonic()
        said, _ = first.communicate(timeout=60)
        assert time.monotonic() - killed < 30
    assert found
    assert found <= LOOPBACK
    assert first.returncode == COULD_NOT_RUN
    *_, end = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert end["error"].startswith("process 1 of 2 is no more there: "), end
    assert "go on with any number of devices: python -m flax_impl.train --resume --out" in end["error"]
    assert (out / "checkpoint.safetensors").exists()
    alone.communicate(timeout=300)
    losses = list(zip(losses_of(out), losses_of(tmp_path / "alone"), strict=False))
    assert losses
    assert all(together == expected for together, expected in losses)


def losses_of(run: Path) -> list[float]:
    """Of a run's epochs."""
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [event["loss"] for event in events if event["event"] == "epoch"]


def started_by(parent: int, metrics: Path) -> list[int]:
    """The processes that it has started, once it has trained something."""
    until = time.monotonic() + 120
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 2:
        assert time.monotonic() < until
        time.sleep(0.1)
    return [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


@pytest.mark.devices
def test_nothing_listens_beyond_the_loopback_interface(tmp_path: Path) -> None:
    began = command("torch_impl", "weather-gru", "--epochs", "5000", "--devices", "2", "--out", str(tmp_path / "run"))
    try:
        group = [began.pid, *started_by(began.pid, tmp_path / "run" / "metrics.jsonl")]
        found = {address for process in group for address in listening(process)}
        began.send_signal(signal.SIGINT)
        said, _ = began.communicate(timeout=60)
    finally:
        began.kill()
    assert found
    assert found <= LOOPBACK
    assert "--devices 2" in said.splitlines()[-1]


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1, the same as IPv6 has it, and ::1."""


def listening(process: int) -> set[str]:
    """The addresses on which it takes connections, as the kernel writes them."""
    own = {os.readlink(f"/proc/{process}/fd/{handle}") for handle in os.listdir(f"/proc/{process}/fd")}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and f"socket:[{rest[5]}]" in own:
                found.add(local.partition(":")[0])
    return found


@pytest.mark.devices
def test_torchrun_starts_the_processes_itself(tmp_path: Path) -> None:
    runs = []
    for launcher in ([], ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]):
        out = tmp_path / str(len(runs))
        options = ["ragged-lstm", "--epochs", "2", "--precision", "float64", "--devices", "2", "--out", str(out)]
        finished = subprocess.run(
            [sys.executable, *launcher, "-m", "torch_impl.train", *options], capture_output=True, text=True, timeout=300
        )
        events = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        runs.append([event for event in events if event["event"] == "epoch"])
        assert "Missed" in finished.stdout + finished.stderr
    assert len(runs[0]) == 2
    assert runs[0] == runs[1]
