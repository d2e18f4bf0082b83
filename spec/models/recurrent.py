"""What the stacked recurrent networks share. See `rnn.py`, `lstm.py`, `gru.py` for their equations."""

from typing import ClassVar, Literal

from spec.dropout import DropoutSite
from spec.models.base import Depth, Embedding, Model, Rate, Size
from spec.parameters import Parameter, directions, recurrent


class Recurrent(Model, frozen=True, kw_only=True):
    """Layers of recurrence, then a readout.

    - Layer l reads the concatenated outputs of layer l - 1, [forward; backward] where `bidirectional`; the backward
      direction runs from the last valid step to the first.
    - States start at zero, or where the batch says. Where it says r_t = 1 (`Batch.resets`), something new begins with
      step t, and no layer's state reaches across: whatever is carried from t - 1 to t in the forward direction, or from
      t to t - 1 in the backward direction, is (1 - r_t) times itself, c as well as h. So each stretch between resets is
      computed as if it were a sequence of its own. The state that a batch begins with is the one before the first step
      (behind the last one, for the backward direction), and the one that is returned is the last stretch's (the first
      one's).
    - `dropout` acts on the output of every layer but the last, in training only.
    - `bias`: without, b_ih and b_hh are not there. The head keeps its own.
    - `readout` "every step": logits_t from the last layer's output at t. "last step": from each direction's final
      state, which for the backward direction is its output at t = 0. "mean": from the mean of the outputs of all valid
      steps; "max": from the largest of each feature, whose gradient steps that tie share evenly. Both are zero where no
      step is valid.
    - `head`: logits = W y + b. Without one the output itself is the logits, so that |logit| < 1 under tanh.
    - `tied`: W is `embedding.weight`, one tensor, whose gradient is the sum of what comes back on both ways. There is
      no `head.weight`. Source: Press and Wolf, "Using the Output Embedding to Improve Language Models" (2017).
    """

    hidden_size: Size
    num_layers: Depth = 1
    bidirectional: bool = False
    dropout: Rate = 0.0
    readout: Literal["every step", "last step", "mean", "max"] = "every step"  # pyright: ignore[reportIncompatibleMethodOverride]
    head: bool = True
    bias: bool = True
    tied: bool = False

    gates: ClassVar[int]
    states: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        if not self.head and self.output_size != self.classes:
            raise ValueError(
                f"classes: expected {self.output_size} (the outputs are the logits where head = false), "
                f"got {self.classes}"
            )
        self._check_tied()
        if self.dropout and self.num_layers == 1:
            raise ValueError(f"dropout: expected 0 with one layer (it acts between layers only), got {self.dropout}")

    def _check_tied(self) -> None:
        """Raise ValueError where the inputs' table cannot be the head's too."""
        if not self.tied:
            return
        if not self.head:
            raise ValueError("head: expected true where tied (it is the head that is), got false")
        inputs = self.inputs
        if not isinstance(inputs, Embedding):
            # msgspec makes a key's error of no other.
            raise ValueError(  # noqa: TRY004
                f"inputs.name: expected Embedding where tied, got {type(inputs).__name__}"
            )
        if inputs.embedding_dim != self.output_size:
            raise ValueError(
                f"inputs.embedding_dim: expected {self.output_size} (the outputs', where tied), "
                f"got {inputs.embedding_dim}"
            )
        if inputs.num_embeddings != self.classes:
            raise ValueError(
                f"inputs.num_embeddings: expected {self.classes} (as many as classes, where tied), "
                f"got {inputs.num_embeddings}"
            )
        # All of them are about the rows that a batch reads, where a head reads every row.
        plain = Embedding(inputs.num_embeddings, inputs.embedding_dim)
        for option in ("padding_idx", "max_norm", "scale_grad_by_freq", "sparse"):
            if (value := getattr(inputs, option)) != (usual := getattr(plain, option)):
                raise ValueError(f"inputs.{option}: expected {usual} where tied, got {value}")

    @property
    def causal(self) -> bool:
        return not self.bidirectional and self.readout == "every step"

    @property
    def takes_resets(self) -> bool:
        return True

    @property
    def output_size(self) -> int:
        """Width of a layer's output, both directions together."""
        return self.hidden_size * len(directions(self.bidirectional))

    def parameters(self) -> tuple[Parameter, ...]:
        layers = recurrent(
            "rnn",
            self.gates,
            self.inputs.size,
            self.hidden_size,
            self.num_layers,
            self.bidirectional,
            self.bias,
            getattr(self, "forget_bias", 0.0),
        )
        head = self._head(self.output_size) if self.head else ()
        return self.inputs.parameters() + layers + (head[1:] if self.tied else head)

    def intermediates(self) -> tuple[str, ...]:
        return self._embedded() + self._states() + self.returned_states() + ("logits",)

    def initial_states(self, batch: int) -> dict[str, tuple[int, ...]]:
        shape = (self.num_layers * len(directions(self.bidirectional)), batch, self.hidden_size)
        return {f"rnn.{state}_0": shape for state in self.states}

    def dropout_sites(self, batch: int, time: int) -> dict[str, DropoutSite]:
        if not self.dropout:
            return {}
        site = DropoutSite((batch, time, self.output_size), self.dropout)
        return {f"rnn.dropout_l{layer}": site for layer in range(self.num_layers - 1)}

    def _states(self) -> tuple[str, ...]:
        return tuple(
            f"rnn.{state}_l{layer}{suffix}"
            for layer in range(self.num_layers)
            for suffix in directions(self.bidirectional)
            for state in self.states
        )
