"""Chance that no seed fixes: answers that are others when the same is asked again. It must not widen a bound.

On the first side above all, whose own repetitions the bounds are made of.
"""

from crosscheck.faults.fault import Edit, Fault
from spec.framework import Precision

SIZES: tuple[tuple[Precision, str], ...] = (("float64", "1e-9"), ("float32", "1e-3"))
"""Relative: a thousand roundings and more, and so little that a model would learn all the same."""

OUTPUTS = "value.cpu().numpy() for name, value in model.intermediates.items()"

FAULTS: tuple[Fault, ...] = tuple(
    fault
    for precision, size in SIZES
    for fault in (
        Fault(
            name=f"noise-in-forward-{precision}",
            what=f"Every stage of the forward pass is off by {size} of itself, by chance.",
            implementation="torch_impl",
            edits=(
                Edit(
                    "contract.py:forward",
                    OUTPUTS,
                    OUTPUTS.replace("value.", f"(value + value * {size} * torch.randn(())).", 1),
                ),
            ),
            experiment="hello-gru",
            check="forward",
            tensor="rnn.h_l0",
            precision=precision,
        ),
        Fault(
            name=f"noise-in-gradients-{precision}",
            what=f"The loss that gradients come with is off by {size} of itself, by chance.",
            implementation="torch_impl",
            edits=(
                Edit(
                    "contract.py:gradients",
                    "return Gradients(loss.item()",
                    f"return Gradients(loss.item() * (1 + {size} * torch.randn(()).item())",
                ),
            ),
            experiment="hello-gru",
            check="gradients",
            tensor="loss",
            precision=precision,
        ),
        Fault(
            name=f"noise-in-the-loss-{precision}",
            what=f"The gradient by the logits is off by {size} of itself, by chance.",
            implementation="torch_impl",
            edits=(
                Edit(
                    "contract.py:loss_gradient",
                    "return LossGradient(loss.item(), gradient",
                    f"return LossGradient(loss.item(), (gradient + gradient * {size} * torch.randn(()))",
                ),
            ),
            experiment="hello-gru",
            check="loss",
            tensor="logits",
            precision=precision,
        ),
        Fault(
            name=f"noise-in-training-{precision}",
            what=f"Every loss of a training is off by {size} of itself, by chance.",
            implementation="torch_impl",
            edits=(
                Edit(
                    "training.py:train",
                    "losses.append(loss.item()",
                    f"losses.append(loss.item() * (1 + {size} * torch.randn(()).item())",
                ),
            ),
            experiment="hello-gru",
            check="trajectory",
            tensor="losses",
            precision=precision,
        ),
        Fault(
            name=f"noise-on-the-second-side-{precision}",
            what=f"Every stage of the forward pass is off by {size} of itself, by chance.",
            implementation="flax_impl",
            edits=(
                Edit(
                    "contract.py:forward",
                    "np.asarray(value) for name, value in outputs.items()",
                    f"(np.asarray(value) * (1 + {size} * np.random.default_rng().normal())).astype(value.dtype)"
                    " for name, value in outputs.items()",
                ),
            ),
            experiment="hello-gru",
            check="forward",
            tensor="logits",
            precision=precision,
        ),
    )
)
