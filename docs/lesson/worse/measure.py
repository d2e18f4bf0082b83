"""A hundred trainings for each cause: what is printed and drawn in "Why did my port train worse?"."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from speller_jax import CAUSES, loss_of, optimizer_of, run, start

SEEDS, EPOCHS = 100, 60
x, y = jnp.array([[1, 0, 2, 2, 3]]), jnp.array([[3, 1, 2, 3, 2]])


def curves(cause):
    """(seeds, epochs): the loss after each epoch, without dropout and as it should be."""
    rule = optimizer_of(cause)

    def train(key):
        numbers = start(key, cause)

        def epoch(carry, key):
            numbers, state = carry
            gradients = jax.grad(lambda numbers: loss_of(run(numbers, x, True, key, cause), y, cause))(numbers)
            steps, state = rule.update(gradients, state, numbers)
            numbers = optax.apply_updates(numbers, steps)
            logits = run(numbers, x, cause=cause)
            return (numbers, state), (loss_of(logits, y), (logits.argmax(-1) == y).all())

        keys = jax.random.split(jax.random.fold_in(key, 7), EPOCHS)
        return jax.lax.scan(epoch, (numbers, rule.init(numbers)), keys)[1]

    losses, right = jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(0), SEEDS))
    return np.asarray(losses), np.asarray(right)


def first_right(right):
    return np.where(right.any(axis=1), right.argmax(axis=1) + 1, EPOCHS + 1)


found = {cause: curves(cause) for cause in (None, *CAUSES)}
print("median of 100 seeds                 loss at epoch 10, 20, 60   first right")
for cause, (losses, right) in found.items():
    middle = np.median(losses, axis=0)
    print(
        f"{cause or 'as it should be':30} {middle[9]:12.4f} {middle[19]:7.4f} {middle[59]:7.4f}"
        f"      epoch {np.median(first_right(right)):g}"
    )

if __name__ == "__main__":
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    grey = "#808080"
    colours = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor")
    with mpl.rc_context({"svg.hashsalt": "lesson", "font.size": 9, **dict.fromkeys(colours, grey)}):
        figure, rooms = plt.subplots(4, 2, figsize=(6.4, 8.4), sharex=True, sharey=True, layout="constrained")
        for axes, cause in zip(rooms.flat, CAUSES, strict=True):
            for name, colour in (None, grey), (cause, "#e4572e"):
                low, middle, high = np.quantile(found[name][0], (0.25, 0.5, 0.75), axis=0)
                axes.fill_between(range(1, EPOCHS + 1), low, high, color=colour, alpha=0.25, linewidth=0)
                axes.plot(range(1, EPOCHS + 1), middle, color=colour)
            axes.set(title=cause, yscale="log")
            axes.spines[["top", "right"]].set_visible(False)
        figure.supxlabel("epoch")
        figure.supylabel("loss")
        figure.savefig("causes.svg", transparent=True, metadata={"Date": None})
