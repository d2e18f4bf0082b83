"""What is measured: the workloads, what is to be reached, and what an implementation offers to be measured."""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, Protocol

import msgspec
import numpy as np

from spec.experiment import Experiment, load
from spec.framework import Precision, Settings
from spec.models import AnyModel, Embedding, Features, Model
from spec.models.gru import GRU
from spec.models.lstm import LSTM
from spec.models.rnn import RNN
from spec.models.transformer import TransformerEncoder
from spec.parameters import Parameters, draw, generator_for
from spec.tasks import Batch, Spelling
from spec.training import Adam, AnyOptimizer, CrossEntropy, LearnsSometimes, Training

Series = Literal["", "time", "batch", "hidden"]

LAYERS: dict[str, type[RNN] | type[LSTM] | type[GRU]] = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}


class Workload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """Base of all workloads: a piece of work that every contender does once a repetition.

    precision: of parameters, inputs and results.
    """

    name: str
    precision: Precision = "float32"

    @property
    def group(self) -> str:
        """Workloads of one group are measured in the same rounds, so that they can be compared with each other."""
        return self.name

    @property
    def operations(self) -> int | None:
        """Additions and multiplications of the matrix products in one repetition; None where nobody counts them."""
        return None

    @property
    def items(self) -> tuple[int, str] | None:
        """How many of what one repetition gets done, for a rate; None where a time says it all."""
        return None


class Product(Workload, frozen=True, kw_only=True, tag_field="kind"):
    """One product of two square matrices: what the machine's peak is measured with."""

    size: int

    @property
    def operations(self) -> int:
        return 2 * self.size**3

    def operands(self) -> tuple[np.ndarray, np.ndarray]:
        """Two matrices (size, size)."""
        first, second = generator_for(0, "operands").normal(size=(2, self.size, self.size)).astype(self.precision)
        return first, second


class Layer(Workload, frozen=True, kw_only=True, tag_field="kind"):
    """One recurrent layer over a whole batch, from a state of zeros.

    gradients: whether those by the inputs and by every parameter are computed as well, of sum(outputs * cotangent).
    series: what grows, where the workload is one point of a growing size. recomputed: whether contenders that save
    memory by computing states twice take part.
    """

    cell: Literal["RNN", "LSTM", "GRU"]
    gradients: bool
    time: int
    batch: int
    features: int
    hidden: int
    series: Series = ""
    recomputed: bool = False

    @property
    def group(self) -> str:
        return f"{self.cell.lower()}-{self.series}" if self.series else self.name

    @property
    def size(self) -> int:
        """Of what grows in the series."""
        return {"": 0, "time": self.time, "batch": self.batch, "hidden": self.hidden}[self.series]

    @property
    def operations(self) -> int:
        return operations(self.model, self.batch, self.time, self.gradients)

    @property
    def model(self) -> RNN | LSTM | GRU:
        """The layer as a model without a head, so that its outputs are the logits."""
        inputs = Features(size=self.features)
        return LAYERS[self.cell](inputs=inputs, classes=self.hidden, hidden_size=self.hidden, head=False)

    def parameters(self) -> Parameters:
        """Canonical parameters that every contender can hold."""
        return shared(self.model, self.precision)

    def inputs(self) -> np.ndarray:
        """(batch, time, features)."""
        shape = (self.batch, self.time, self.features)
        return generator_for(0, "inputs").normal(size=shape).astype(self.precision)

    def cotangent(self) -> np.ndarray:
        """(batch, time, hidden)."""
        shape = (self.batch, self.time, self.hidden)
        return generator_for(0, "cotangent").normal(size=shape).astype(self.precision)


class TrainingStep(Workload, frozen=True, kw_only=True, tag_field="kind"):
    """One optimizer step of a model that reads indices: forward, loss, backward, update."""

    model: AnyModel
    time: int
    batch: int
    optimizer: AnyOptimizer

    @property
    def operations(self) -> int:
        return operations(self.model, self.batch, self.time, gradients=True)

    @property
    def items(self) -> tuple[int, str]:
        return self.batch * self.time, "tokens"

    @property
    def experiment(self) -> Experiment:
        """The model and its recipe; the batch is `sample`, since a task's sequences would all be the same one."""
        vocabulary = "".join(chr(0x100 + index) for index in range(self.model.classes))
        text = "".join(vocabulary[index % self.model.classes] for index in range(self.time))
        return Experiment(
            name=self.name,
            description="A model of the size that text takes",
            seeds=1,
            model=self.model,
            task=Spelling(characters=vocabulary, source=text, target=text, encoding="index", batch_size=self.batch),
            training=Training(epochs=1, loss=CrossEntropy(reduction="mean"), optimizer=self.optimizer),
            outcome=LearnsSometimes(solved_rate=0.0),
        )

    def parameters(self) -> Parameters:
        """Canonical parameters that every contender can hold."""
        return shared(self.model, self.precision)

    def sample(self) -> Batch:
        """Random indices, each to be told from those before it."""
        text = generator_for(0, "text").integers(0, self.model.classes, (self.batch, self.time + 1), np.int64)
        return Batch(text[:, :-1].copy(), text[:, 1:].copy())


class WholeTraining(Workload, frozen=True, kw_only=True, tag_field="kind"):
    """A shipped experiment's whole training through the contract's `train`, the evaluations included."""

    experiment: str

    def load(self) -> Experiment:
        return load(self.experiment)

    def parameters(self) -> Parameters:
        """Canonical parameters from which every contender starts."""
        return draw(self.load().model.parameters(), 0, self.precision)


class ManyTrainings(Workload, frozen=True, kw_only=True, tag_field="kind"):
    """The whole trainings of many seeds, through the contract's `train_ensemble`."""

    experiment: str
    members: int

    @property
    def items(self) -> tuple[int, str]:
        return self.members, "trainings"

    def load(self) -> Experiment:
        return load(self.experiment)


AnyWorkload = Product | Layer | TrainingStep | WholeTraining | ManyTrainings


def shared(model: Model, precision: Precision) -> Parameters:
    """Parameters drawn from the model's laws, but for a GRU's b_hn, which is zero: not every stock layer has one."""
    parameters = draw(model.parameters(), 0, precision)
    if isinstance(model, GRU):
        for name, values in parameters.items():
            if ".bias_hh_" in name:
                values[2 * model.hidden_size :] = 0
    return parameters


def operations(model: Model, batch: int, time: int, gradients: bool) -> int:
    """Additions and multiplications of a model's matrix products; a backward pass has two products for each."""
    # A weight acts once a step and sequence. An embedding is looked up, and biases are no products.
    weights = [p for p in model.parameters() if len(p.shape) == 2 and p.name != "embedding.weight"]
    multiplications = batch * time * sum(weight.size for weight in weights)
    if isinstance(model, TransformerEncoder):
        multiplications += 2 * model.num_layers * batch * time**2 * model.hidden_size
    return 2 * multiplications * (3 if gradients else 1)


class Planned(NamedTuple):
    """Bytes that a compiled function takes beside its arguments, by the compiler's own account."""

    temporary: int
    results: int


class Prepared(NamedTuple):
    """A contender that is ready to do a workload.

    run: do it that many times, one after the other; returns when the last result is there. The first call compiles.
    result: do it once more and return what came out, by canonical names, so that contenders can be compared.
    share: the part of the workload that a repetition does, where all of it would take too long.
    planned: what a compiler says that it takes; None where there is none.
    """

    run: Callable[[int], None]
    result: Callable[[], dict[str, np.ndarray]]
    share: float = 1.0
    planned: Callable[[], Planned | None] = lambda: None


class Benchmark(Protocol):
    """What a module IMPLEMENTATION.benchmark offers."""

    def contenders(self, workload: AnyWorkload) -> tuple[str, ...]:
        """Who takes part, by name: the implementation itself, under its own, and what it is held against."""
        ...

    def prepare(self, contender: str, workload: AnyWorkload, settings: Settings) -> Prepared:
        """Make a contender ready. Raises Unsupported for what it lacks, DeviceMissing as the contract does."""
        ...


SIZES = {"tiny": (5, 1, 4, 4), "small": (64, 32, 64, 128), "long": (512, 16, 128, 256), "big": (128, 64, 256, 512)}
"""Of a layer: time, batch, features, hidden."""

TEXT = {"vocabulary": 256, "hidden": 256, "time": 128, "batch": 32}

MEMBERS = 1000

PEAK = Product(name="product-1024", size=1024)
"""The workload whose rate counts as the machine's peak."""


def _layers() -> Iterator[Layer]:
    for size, (time, batch, features, hidden) in SIZES.items():
        for cell in ("RNN", "LSTM", "GRU"):
            for gradients in (False, True):
                name = f"{cell.lower()}-{size}-{'forward+backward' if gradients else 'forward'}"
                yield Layer(
                    name=name,
                    cell=cell,
                    gradients=gradients,
                    time=time,
                    batch=batch,
                    features=features,
                    hidden=hidden,
                )


def _growing() -> Iterator[Layer]:
    """Forward and backward; everything else stays as it is."""
    points: dict[Series, tuple[int, ...]] = {
        "time": (64, 128, 256, 512, 1024, 2048),
        "batch": (1, 8, 32, 128),
        "hidden": (64, 128, 256, 512),
    }
    for cell in ("LSTM", "GRU"):
        for series, values in points.items():
            for value in values:
                sizes = {"time": 64, "batch": 16, "hidden": 128} | {series: value}
                yield Layer(
                    name=f"{cell.lower()}-{series}-{value}",
                    cell=cell,
                    gradients=True,
                    time=sizes["time"],
                    batch=sizes["batch"],
                    features=64,
                    hidden=sizes["hidden"],
                    series=series,
                    recomputed=series == "time",
                )


def _text() -> Iterator[TrainingStep]:
    hidden, classes = TEXT["hidden"], TEXT["vocabulary"]
    inputs = Embedding(num_embeddings=classes, embedding_dim=hidden)
    models: dict[str, AnyModel] = {
        "lstm": LSTM(inputs=inputs, classes=classes, hidden_size=hidden),
        "gru": GRU(inputs=inputs, classes=classes, hidden_size=hidden),
        "transformer": TransformerEncoder(
            inputs=inputs,
            classes=classes,
            hidden_size=hidden,
            heads=4,
            num_layers=2,
            feed_forward_size=4 * hidden,
            activation="gelu",
            positions="sinusoidal",
            norm_first=True,
            dropout=0.0,
            attention_dropout=0.0,
        ),
    }
    for name, model in models.items():
        optimizer = Adam(learning_rate=1e-3)
        yield TrainingStep(
            name=f"text-{name}", model=model, time=TEXT["time"], batch=TEXT["batch"], optimizer=optimizer
        )


WORKLOADS: tuple[AnyWorkload, ...] = (
    PEAK,
    *_layers(),
    *_growing(),
    *_text(),
    *(WholeTraining(name=name, experiment=name) for name in ("hello-rnn", "hello-lstm", "hello-gru")),
    *(ManyTrainings(name=f"ensemble-{name}", experiment=name, members=MEMBERS) for name in ("hello-rnn", "hello-gru")),
)
"""What is measured by default. Names are unique."""

QUICK = ("product-*", "*-tiny-*", "*-small-*", "*-time-64", "*-time-128", "*-time-256", "hello-*")
"""The small ones, by patterns of names."""
