"""What every model is: a frozen record that knows its own parameters, dropout sites and named intermediates."""

import sys
from collections import Counter
from typing import Annotated, ClassVar

import msgspec
import numpy as np

from spec.dropout import DropoutSite
from spec.errors import InvalidBatch
from spec.limits import LARGEST_DEPTH, LARGEST_LENGTH, LARGEST_SIZE
from spec.mixed_precision import MixedPrecision
from spec.parameters import Normal, Parameter, linear
from spec.typical import typical

Size = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_SIZE), typical(*range(1, 10), rare=(12, 16, 17))]
Depth = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_DEPTH), typical(1, 2, 3, 4, rare=(11, 12))]
Length = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_LENGTH), typical(*range(1, 10))]
Rate = Annotated[float, msgspec.Meta(ge=0, lt=1), typical(0.0, 0.1, 0.25, 0.5, rare=(0.9,))]
Positive = Annotated[float, msgspec.Meta(gt=0, le=sys.float_info.max)]
"""Above zero and finite: TOML can write `inf`, and JSON, which the hash is made of, cannot."""
Finite = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
NonNegative = Annotated[float, msgspec.Meta(ge=0, le=sys.float_info.max)]


RECURRENCE, ATTENTION = "recurrent multiplications", "attention weights"
SIZES = {
    RECURRENCE: "of a layer's forward pass, in one direction: sequences, steps and weights multiplied",
    ATTENTION: "of one attention: sequences, heads and the steps squared multiplied",
}
"""Kinds of size by which an implementation may choose its code. See spec.sizes."""


class Features(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """Inputs that are numbers already, shape (batch, time, size): a one-hot vector a step, for instance."""

    size: Size

    @property
    def symbols(self) -> int:
        """How many one-hot vectors there are."""
        return self.size

    def parameters(self) -> tuple[Parameter, ...]:
        return ()

    def check(self, inputs: np.ndarray) -> None:
        """Raise InvalidBatch unless `inputs` has shape (batch, time, size) and a floating dtype."""
        if inputs.ndim != 3 or inputs.shape[-1] != self.size or not np.issubdtype(inputs.dtype, np.floating):
            raise InvalidBatch(
                f"inputs: expected floating (batch, time, {self.size}), got {inputs.dtype} {inputs.shape}"
            )


class Embedding(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """Inputs that are indices, int64 (batch, time); each picks a row of `embedding.weight`.

    - `padding_idx`: that row starts at zero and gets no gradient.
    - `max_norm`, `norm_type`: in training, before a row is used, a row whose p-norm is above `max_norm` is replaced,
      for good, by row * max_norm / (norm + renormalization_epsilon); no gradient flows through that factor.
      Evaluation uses the same rescaled rows and leaves the parameter as it is.
    - `scale_grad_by_freq`: a row's gradient is divided by how often its index occurs in the batch.
    - `sparse`: the gradient is kept as the touched rows alone. A matter of storage: the values do not change.

    Source: `torch.nn.Embedding`, whose names these are.
    """

    num_embeddings: Size
    embedding_dim: Size
    padding_idx: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_SIZE), typical(*range(5))] | None = None
    max_norm: Annotated[Positive, typical(1.0, 0.5, 2.0)] | None = None
    norm_type: Annotated[Positive, typical(1.0, 3.0, 1.5)] = 2.0
    scale_grad_by_freq: bool = False
    sparse: bool = False

    renormalization_epsilon: ClassVar[float] = 1e-7
    """Fixed, since it is a literal there. Source: `torch.embedding_renorm_`."""

    def __post_init__(self) -> None:
        if self.padding_idx is not None and self.padding_idx >= self.num_embeddings:
            raise ValueError(
                f"padding_idx: expected less than num_embeddings = {self.num_embeddings}, got {self.padding_idx}"
            )

    @property
    def size(self) -> int:
        """Features per step, as the layer above sees them."""
        return self.embedding_dim

    @property
    def symbols(self) -> int:
        """How many indices there are."""
        return self.num_embeddings

    def parameters(self) -> tuple[Parameter, ...]:
        rows = (self.padding_idx, self.padding_idx + 1) if self.padding_idx is not None else None
        law = Normal(1.0, zero_row=self.padding_idx)
        return (Parameter("embedding.weight", (self.num_embeddings, self.embedding_dim), law, rows),)

    def check(self, inputs: np.ndarray) -> None:
        """Raise InvalidBatch unless `inputs` is integer (batch, time) with every index in [0, num_embeddings).

        Frameworks differ on a wrong index (an exception, NaN, or a silently clamped row), so it never reaches them.
        """
        if inputs.ndim != 2 or not np.issubdtype(inputs.dtype, np.integer):
            raise InvalidBatch(f"inputs: expected integer (batch, time), got {inputs.dtype} {inputs.shape}")
        wrong = inputs[(inputs < 0) | (inputs >= self.num_embeddings)]
        if wrong.size:
            raise InvalidBatch(f"inputs: expected indices in [0, {self.num_embeddings}), got {int(wrong[0])}")


Inputs = Features | Embedding


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all models. Fields are hyperparameters; docstrings hold the equations.

    A model maps a batch to logits: (batch, time, classes), or (batch, classes) where it reads out one step. Steps at
    or past a sequence's length are padding: whatever stands there counts as zero on the way in, changes nothing
    elsewhere, and every named intermediate and logit is zero there. A sequence of length 0 is padding throughout: its
    final state is its initial state, and attention to it has only weights of zero.

    mixed_precision: "bfloat16" for products of numbers that are rounded to it, see spec.mixed_precision; parameters are
    as without.
    """

    inputs: Inputs
    classes: Size
    mixed_precision: MixedPrecision | None = None

    def parameters(self) -> tuple[Parameter, ...]:
        """The trainable tensors, in the order of computation."""
        raise NotImplementedError

    def intermediates(self) -> tuple[str, ...]:
        """Names of what `forward` returns, in the order of computation; the last is `logits`."""
        raise NotImplementedError

    def initial_states(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the states before the first step, for a batch of that size; empty where there are none.

        "rnn.h_0" of the module "rnn" is (layers * directions, batch, hidden_size), in the order layer 0 forward, layer
        0 backward, layer 1 forward, .... A cell's is (batch, hidden_size).
        """
        return {}

    def returned_states(self) -> tuple[str, ...]:
        """Names of the intermediates that are states after the last step, shaped like the initial ones.

        A row's last step is its last valid one; for the backward direction it is its first.
        """
        return tuple(f"{name.removesuffix('_0')}_n" for name in self.initial_states(1))

    def recurrence(self, stage: str) -> int:
        """How an intermediate runs over time: 1 from the first step on, -1 from the last; 0 for no recurrence's state.

        "rnn.h_l0" is a state of what has "rnn.weight_hh_l0".
        """
        module, _, state = stage.rpartition(".")
        if all(p.name != f"{module}.weight_hh{state[1:]}" for p in self.parameters()):
            return 0
        return -1 if stage.endswith("_reverse") else 1

    def sizes(self, batch: int, time: int) -> dict[str, int]:
        """By kind, how much it computes of what implementations choose code by, for a batch of that size; see SIZES."""
        layers = [p for p in self.parameters() if ".weight_ih" in p.name or ".weight_hh" in p.name]
        by_layer = Counter[str]()
        for parameter in layers:
            by_layer[parameter.name.replace(".weight_ih", ".weight_hh")] += parameter.size
        # The smallest layer's, so that all have as many.
        found = {RECURRENCE: batch * time * min(by_layer.values())} if by_layer else {}
        return found | ({ATTENTION: batch * self.attention_heads * time**2} if self.attention_heads else {})

    def dropout_sites(self, batch: int, time: int) -> dict[str, DropoutSite]:
        """Where dropout acts in training, by name, for a batch of that size; empty where the rate is zero."""
        return {}

    @property
    def readout(self) -> str:
        """Which steps the logits are read from: "every step", "last step", or the "mean" or "max" of all."""
        return "every step"

    @property
    def reads_once(self) -> bool:
        """Whether a sequence has one output, and not one a step."""
        return self.readout != "every step"

    @property
    def max_length(self) -> int | None:
        """Steps that a sequence may have; None where there is no limit."""
        return None

    @property
    def decodes(self) -> bool:
        """Whether it writes a sequence of its own, for which it reads the batch's decoder inputs."""
        return False

    @property
    def causal(self) -> bool:
        """Whether the logits of a step depend on no later one, and are there at every step."""
        return False

    @property
    def writes_nothing(self) -> str:
        """Why it cannot write on from a prompt, see spec.generation: what it does instead. Empty where it can."""
        if not self.causal:
            return "looks at later steps too, or reads out one alone"
        if self.classes > self.inputs.symbols:
            return f"reads {self.inputs.symbols} symbols and writes {self.classes}"
        return ""

    @property
    def takes_resets(self) -> bool:
        """Whether a batch may say at which steps its state is set back to zero: where nothing but that state reaches
        from one step to another. Attention looks across, and would need a mask."""
        return False

    @property
    def attention_heads(self) -> int:
        """Heads in which steps look at each other; 0 for a model without attention."""
        return 0

    @property
    def hands_on(self) -> bool:
        """Whether it can go on from the state in which it ended: not where it also reads from the end, or decodes."""
        backwards = any(self.recurrence(stage) < 0 for stage in self.intermediates())
        return bool(self.initial_states(1)) and not backwards and not self.decodes

    @property
    def has_dropout(self) -> bool:
        """Whether anything is ever dropped."""
        return bool(self.dropout_sites(1, 1))

    @property
    def parameter_count(self) -> int:
        """Number of trainable values."""
        return sum(parameter.size for parameter in self.parameters())

    def _embedded(self) -> tuple[str, ...]:
        return ("embedding",) if isinstance(self.inputs, Embedding) else ()

    def _head(self, features: int) -> tuple[Parameter, ...]:
        return linear("head", features, self.classes)
