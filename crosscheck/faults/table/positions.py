"""Faults in the Transformer's inputs and positions."""

from crosscheck.faults.fault import Edit, Fault

FLAX_SINUSOIDS = "np.stack([np.sin(angles), np.cos(angles)], -1).reshape(time, hidden)"

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="sines-before-cosines",
        what="Positions are [all sines; all cosines] where sine and cosine alternate.",
        implementation="flax_impl",
        edits=(
            Edit("transformer.py:sinusoids", FLAX_SINUSOIDS, "np.concatenate([np.sin(angles), np.cos(angles)], -1)"),
        ),
        experiment="hello-transformer",
        check="forward",
        tensor="positions",
        entries=("PB37",),
    ),
    Fault(
        name="frequencies-over-one-less",
        what="The exponents are i / (hidden / 2 - 1), as tensor2tensor has them, where they are 2 i / hidden.",
        implementation="flax_impl",
        edits=(
            Edit(
                "transformer.py:sinusoids",
                "np.arange(0, hidden, 2, dtype=np.float64) / hidden",
                "np.arange(hidden // 2) / (hidden // 2 - 1)",
            ),
        ),
        experiment="hello-transformer",
        check="forward",
        tensor="positions",
        entries=("PB37",),
    ),
    Fault(
        name="positions-from-one",
        what="Positions count from 1 where they count from 0.",
        implementation="torch_impl",
        edits=(
            Edit(
                "transformer.py:sinusoids",
                "torch.arange(time, dtype=torch.float64)",
                "torch.arange(1, time + 1, dtype=torch.float64)",
            ),
        ),
        experiment="hello-transformer-norm-first",
        check="forward",
        tensor="positions",
        entries=("PB37",),
    ),
    Fault(
        name="positions-by-example",
        what="Positions are indexed by the batch's axis: every step of a sequence gets the same.",
        implementation="flax_impl",
        edits=(
            Edit(
                "transformer.py:TransformerEncoder.forward",
                "sinusoids(*hidden.shape[1:], self.position_base, hidden.dtype)",
                "sinusoids(*hidden.shape[::2], self.position_base, hidden.dtype)[:, None]",
            ),
        ),
        experiment="hello-transformer",
        check="forward",
        tensor="positions",
        entries=("PB38",),
    ),
    Fault(
        name="inputs-times-root-of-width",
        what="The inputs are multiplied by sqrt(hidden_size) before positions are added.",
        implementation="torch_impl",
        edits=(
            Edit(
                "transformer.py:TransformerEncoder.forward",
                "hidden = self.input(self.embed(batch, valid))",
                "hidden = self.input(self.embed(batch, valid)) * self.spec.hidden_size**0.5",
            ),
        ),
        experiment="hello-transformer",
        check="forward",
        tensor="input",
        entries=("PB40",),
    ),
)
