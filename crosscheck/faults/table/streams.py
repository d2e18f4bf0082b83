"""Faults in what is carried from one batch to the next, where sequences are parts of streams."""

from crosscheck.faults.fault import Edit, Fault

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="state-not-carried",
        what="Every batch begins with a state of zeros, as if its sequences were all new.",
        implementation="torch_impl",
        edits=(Edit("training.py:going_on", "torch.where(goes_on[:, None], s, 0)", "torch.zeros_like(s)"),),
        experiment="text-lstm",
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="state-not-carried",
        what="Every batch begins with a state of zeros, as if its sequences were all new.",
        implementation="flax_impl",
        edits=(Edit("training.py:going_on", "jnp.where(goes_on[:, None], s, 0)", "jnp.zeros_like(s)"),),
        experiment="text-lstm",
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="state-carried-across-a-reset",
        what="A sequence that begins anew keeps the state of the stream before it.",
        implementation="torch_impl",
        edits=(Edit("training.py:going_on", "torch.where(goes_on[:, None], s, 0)", "s"),),
        experiment="text-lstm",
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="state-carried-across-a-reset",
        what="A sequence that begins anew keeps the state of the stream before it.",
        implementation="flax_impl",
        edits=(Edit("training.py:going_on", "jnp.where(goes_on[:, None], s, 0)", "s"),),
        experiment="text-lstm",
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="all-rows-reset-together",
        what="As soon as one sequence begins anew, all do.",
        implementation="flax_impl",
        edits=(Edit("training.py:going_on", "goes_on[:, None]", "goes_on.all()"),),
        experiment="text-lstm",
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="carried-rows-shuffled",
        what="Each sequence goes on from the state of its neighbour, as where batches are shuffled in between.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:going_on",
                "torch.where(goes_on[:, None], s, 0)",
                "torch.where(goes_on[:, None], s.roll(1, -2), 0)",
            ),
        ),
        experiment="text-lstm",
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="cell-state-not-carried",
        what="The hidden state goes on, the cell state begins with zeros.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:going_on",
                "jnp.where(goes_on[:, None], s, 0)",
                "jnp.where(goes_on[:, None] & ('.c_' not in name), s, 0)",
            ),
        ),
        experiment="text-lstm",
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="carried-state-lost-at-resume",
        what="A training that goes on does so from a state of zeros.",
        implementation="torch_impl",
        edits=(Edit("training.py:carried_of", "state.carried.get(name, np.zeros(shape))", "np.zeros(shape)"),),
        experiment="text-lstm",
        check="trajectory",
        tensor="resumed/*",
    ),
    Fault(
        name="carried-state-lost-at-resume",
        what="A training that goes on does so from a state of zeros.",
        implementation="flax_impl",
        edits=(Edit("training.py:carried_of", "state.carried.get(name, np.zeros(shape))", "np.zeros(shape)"),),
        experiment="text-lstm",
        check="trajectory",
        tensor="resumed/*",
    ),
    Fault(
        name="state-carried-from-the-evaluation",
        what="The evaluation after an epoch leaves its own last state to be carried on.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                "            logits.append(evaluate(model, evaluation_batch))\n",
                "            logits.append(evaluate(model, evaluation_batch))\n"
                "            carried = {name: ended.clone() for name, ended in (model.ended or {}).items()}\n",
            ),
        ),
        experiment="text-lstm",
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="members-carry-nothing",
        what="In an ensemble every batch begins with a state of zeros.",
        implementation="torch_impl",
        edits=(
            Edit(
                "members.py:Members.step",
                "going_on(batch, self.carried, goes_on)",
                "going_on(batch, self.carried, goes_on & False)",
            ),
        ),
        experiment="text-lstm",
        check="trajectory",  # Whose perturbed starts are trained together.
        tensor="starts/loss",
    ),
    Fault(
        name="members-carry-nothing",
        what="In an ensemble every batch begins with a state of zeros.",
        implementation="flax_impl",
        edits=(
            Edit("members.py:make_arguments", "rows.reshape(*by_epoch, -1)", "rows.reshape(*by_epoch, -1) & False"),
        ),
        experiment="text-lstm",
        check="members",
        tensor="losses of member *",
    ),
)
