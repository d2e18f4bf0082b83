"""Faults in trainings side by side, where a member is no longer the run of its seed alone."""

from crosscheck.faults.fault import Edit, Fault

SEEDS = "[int(seed) for seed in seeds[part.start : part.stop]]"
BLOCK = "members[start : start + size]"

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="one-seed-for-all-members-masks",
        what="All members drop the units that the first one drops.",
        implementation="torch_impl",
        edits=(
            Edit(
                "member_masks.py:Masks.draw",
                'dropout_of(self.experiment, batch, seed, step, "own")',
                'dropout_of(self.experiment, batch, self.seeds[0], step, "own")',
            ),
        ),
        experiment="hello-stacked-lstm-dropout",
        check="members",
        tensor="losses of member *",
    ),
    Fault(
        name="one-key-for-all-members-masks",
        what="All members drop the same units.",
        implementation="flax_impl",
        edits=(
            Edit(
                "members.py:compile_members.train_member.descend",
                "at_step, dropout, goes_on), key)",
                "at_step, dropout, goes_on), jax.random.key(0))",
            ),
        ),
        experiment="hello-stacked-lstm-dropout",
        check="members",
        tensor="losses of member *",
    ),
    Fault(
        name="padding-row-of-members-is-trained",
        what="vmap's own rule: only the first member's padding row is kept as it is.",
        implementation="torch_impl",
        edits=(Edit("members.py:Members.step", "[:, self.padding] = 0", "[:1, self.padding] = 0"),),
        experiment="hello-embedding-padding",
        check="trajectory",  # Whose perturbed starts are trained together.
        tensor="envelope/loss",
    ),
    Fault(
        name="padding-row-of-members-is-trained",
        what="In ensembles the padding row is trained like all others.",
        implementation="flax_impl",
        edits=(
            Edit(
                "members.py:compile_members",
                "    step = make_step(experiment, ",
                "    from spec.experiment import override\n"
                "    trained = override(experiment, model__inputs__padding_idx=None)\n"
                "    step = make_step(trained, ",
            ),
        ),
        experiment="hello-embedding-padding",
        check="members",
        tensor="losses of member *",
    ),
    Fault(
        name="embedding-of-members-too-wide",
        what="In ensembles embeddings start 1.2 times as wide.",
        implementation="torch_impl",
        edits=(
            Edit(
                "ensemble.py:_train_chunk",
                "starts = [initialize(experiment, seed, settings) for seed in seeds]",
                "starts = [initialize(experiment, seed, settings) for seed in seeds]\n"
                '    starts = [{n: v * 1.2 if n == "embedding.weight" else v for n, v in s.items()} for s in starts]',
            ),
        ),
        experiment="hello-embedding-padding",
        check="members",
        tensor="losses of member *",
    ),
    Fault(
        name="embedding-of-members-too-wide",
        what="In ensembles tensors of a normal law start 1.2 times as wide.",
        implementation="flax_impl",
        edits=(
            Edit(
                "parameters.py:sample",
                "values = standard_deviation * jax.random.normal(",
                "values = 1.2 * standard_deviation * jax.random.normal(",
            ),
        ),
        experiment="hello-embedding-padding",
        check="members",
        tensor="losses of member *",
    ),
    Fault(
        name="norm-of-all-members-clips-each",
        what="Members are clipped by the norm of all their gradients together.",
        implementation="torch_impl",
        edits=(
            Edit(
                "members.py:clip_members",
                "torch.linalg.vector_norm(norms, dim=0)",
                "torch.linalg.vector_norm(norms).expand(norms.shape[1])",
            ),
        ),
        experiment="hello-gru-clipping",
        check="trajectory",
        # Several starts are trained side by side as members are.
        tensor="starts/loss",
    ),
    Fault(
        name="wrong-seed-in-each-chunk",
        what="The first member of each chunk is the second's.",
        implementation="torch_impl",
        edits=(
            Edit("ensemble.py:train_ensemble", SEEDS, "[int(seeds[max(member, part.start + 1)]) for member in part]"),
        ),
        experiment="hello-gru-clipping",
        check="members",
        tensor="losses of member 0",
    ),
    Fault(
        name="wrong-seed-in-each-block",
        what="The last member of each block is the one before.",
        implementation="flax_impl",
        edits=(
            Edit("ensemble.py:train_ensemble.train_from", BLOCK, "np.r_[" + BLOCK + "[:-1], " + BLOCK + "[-2:-1]]"),
        ),
        experiment="hello-embedding-padding",
        check="members",
        tensor="losses of member *",
    ),
    Fault(
        name="the-member-of-another-seed",
        what="Members are given back in reverse.",
        implementation="torch_impl",
        edits=(Edit("ensemble.py:train_ensemble", SEEDS, SEEDS + "[::-1]"),),
        experiment="hello-embedding-max-norm",
        check="members",
        tensor="losses of member 0",
    ),
    Fault(
        name="the-member-of-another-seed",
        what="Members are given back in reverse.",
        implementation="flax_impl",
        edits=(Edit("ensemble.py:train_ensemble", "np.array(seeds, np.uint32)", "np.array(seeds[::-1], np.uint32)"),),
        experiment="hello-embedding-padding",
        check="members",
        tensor="losses of member 0",
    ),
    Fault(
        name="batches-of-the-first-member",
        what="All members are trained on the batches of the first one's seed.",
        implementation="torch_impl",
        edits=(
            Edit(
                "ensemble.py:_train_chunk",
                "experiment.batches(seed, here, settings.precision)",
                "experiment.batches(seeds[0], here, settings.precision)",
            ),
        ),
        experiment="ragged-lstm",
        check="members",
        tensor="losses of member *",
    ),
    Fault(
        name="time-to-solve-counted-from-zero",
        what="The time to solve is counted from 0.",
        implementation="torch_impl",
        edits=(Edit("ensemble.py:_train_chunk", "// each - len(ended) + 1)", "// each - len(ended))"),),
        experiment="hello-embedding-max-norm",
        check="members",
        tensor="first_solved of member *",
    ),
    Fault(
        name="time-to-solve-counted-from-zero",
        what="The time to solve is counted from 0.",
        implementation="flax_impl",
        edits=(
            Edit(
                "members.py:compile_members.train_member",
                "jnp.arange(1, training.epochs + 1, ",
                "jnp.arange(0, training.epochs, ",
            ),
        ),
        experiment="hello-embedding-padding",
        check="members",
        tensor="first_solved of member *",
    ),
)
