"""Faults in trainings on several devices, which are then no longer the training on one."""

from crosscheck.faults.fault import Edit, Fault

TRAINED = "own recipe: *"

SHARE = "(loss, ended), gradients = of_share(parameters, batch, dropout, device)\n"
ADDED = "loss, gradients = jax.lax.psum((loss, gradients), AXIS)\n"
UNSEEN = {
    "torch_impl": Edit("training.py:train", "if compared[len(losses) - 1]:", "if False:"),
    "flax_impl": Edit("training.py:make_step.step", "if compare is not None:", "if False:"),
}
"""Nothing compares the devices' weights, which would end the training."""

STEP = "                descend(training, model, optimizer, step)\n"

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="mean-of-the-devices-means",
        what="Each device has its own mean, so that the targets of short sequences weigh more.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:backward",
                "share.targets, whole_of(training, batch, place))",
                "share.targets) / place.devices",
            ),
        ),
        experiment="ragged-lstm",
        check="devices",
        tensor="own recipe: loss",
    ),
    Fault(
        name="mean-of-the-devices-means",
        what="Each device has its own mean, so that the targets of short sequences weigh more.",
        implementation="flax_impl",
        edits=(
            Edit("devices.py:divided.of_share", "share, own, batch.targets)", "share, own, share.targets)"),
            Edit("devices.py:divided.on_one", ADDED, ADDED.replace("psum", "pmean")),
        ),
        experiment="ragged-lstm",
        check="devices",
        tensor="own recipe: loss",
    ),
    Fault(
        name="sum-of-the-devices-for-their-mean",
        what="What is averaged over devices has been scaled as if it were not yet: twice the gradient on two.",
        implementation="torch_impl",
        edits=(Edit("devices.py:Replica.backward", "loss * self.place.devices)", "loss * self.place.devices**2)"),),
        experiment="ragged-lstm",
        check="devices",
        tensor="own recipe: slots/*",
    ),
    Fault(
        name="sum-of-the-devices-for-their-mean",
        what="Gradients are added up twice, as where shard_map has added them up already.",
        implementation="flax_impl",
        edits=(
            Edit("devices.py:divided.on_one", ADDED, ADDED + "        gradients = jax.lax.psum(gradients, AXIS)\n"),
        ),
        experiment="ragged-lstm",
        check="devices",
        tensor="own recipe: slots/*",
    ),
    Fault(
        name="clipped-by-a-devices-own-norm",
        what="Each device clips its own gradient, and what is left is averaged.",
        implementation="torch_impl",
        edits=(
            Edit("devices.py:Replica.adding", "if last or not isinstance(", "if not isinstance("),
            Edit(
                "training.py:train",
                STEP,
                "                if place.devices > 1:\n"
                "                    optimizers.clip(training.clipping, model)\n"
                "                    for parameter in model.parameters():\n"
                "                        parameter.grad = replica.total(parameter.grad) / place.devices\n" + STEP,
            ),
        ),
        experiment="ragged-lstm",
        check="devices",
        tensor="SGD, clipped: *",
    ),
    Fault(
        name="clipped-by-a-devices-own-norm",
        what="Each device clips its own gradient, and what is left is added up.",
        implementation="flax_impl",
        edits=(
            Edit(
                "devices.py:divided.on_one",
                SHARE,
                SHARE
                + "        from flax_impl.optimizer import clip\n"
                + "        gradients = clip(experiment.training.clipping, gradients)\n",
            ),
        ),
        experiment="ragged-lstm",
        check="devices",
        tensor="SGD, clipped: *",
    ),
    Fault(
        name="a-start-of-each-devices-own",
        what="Each device starts from parameters of its own, as with a seed of its own.",
        implementation="torch_impl",
        edits=(
            Edit(
                "devices.py:Replica.together",
                "DistributedDataParallel(self.model)",
                "DistributedDataParallel(self.model, init_sync=False)",
            ),
            Edit(
                "training.py:train",
                "build(experiment.model, state.parameters, settings)",
                "build(experiment.model, {n: p + place.number / 8 for n, p in state.parameters.items()}, settings)",
            ),
            UNSEEN["torch_impl"],
        ),
        experiment="ragged-lstm",
        check="devices",
        tensor="own recipe: loss",
    ),
    Fault(
        name="a-start-of-each-devices-own",
        what="Each device computes by parameters of its own, as with a seed of its own.",
        implementation="flax_impl",
        edits=(
            Edit(
                "devices.py:divided.on_one",
                SHARE,
                "parameters = jax.tree.map(lambda p: p + device / 8, parameters)\n        " + SHARE,
            ),
        ),
        experiment="ragged-lstm",
        check="devices",
        tensor="own recipe: loss",
    ),
    Fault(
        name="gradients-stay-on-their-device",
        what="Nothing is averaged: each device trains on its share alone.",
        implementation="torch_impl",
        edits=(
            Edit("devices.py:Replica.adding", "if last or not isinstance(", "if not isinstance("),
            UNSEEN["torch_impl"],
        ),
        experiment="ragged-lstm",
        check="devices",
        tensor=TRAINED,
    ),
    Fault(
        name="gradients-stay-on-their-device",
        what="Nothing is added up: each device trains on its share alone.",
        implementation="flax_impl",
        edits=(
            Edit("devices.py:divided.on_one", ADDED, "loss = jax.lax.psum(loss, AXIS)\n"),
            UNSEEN["flax_impl"],
        ),
        experiment="ragged-lstm",
        check="devices",
        tensor=TRAINED,
    ),
    Fault(
        name="all-devices-drop-the-same",
        what="All devices draw the same masks, as with one seed for all.",
        implementation="torch_impl",
        edits=(Edit("devices.py:seed_on", "if place.devices == 1 else", "if place.devices >= 1 else"),),
        experiment="masks-of-devices",
        check="devices",
        tensor="own masks of two devices",
    ),
    Fault(
        name="all-devices-drop-the-same",
        what="All devices draw the same masks, as with one key for all.",
        implementation="flax_impl",
        edits=(Edit("devices.py:divided.of_share", "jax.random.fold_in(dropout, shard)", "dropout"),),
        experiment="masks-of-devices",
        check="devices",
        tensor="own masks of two devices",
    ),
    Fault(
        name="what-is-left-over-is-dropped",
        what="A batch that the number of devices does not divide loses its last sequences.",
        implementation="torch_impl",
        edits=(
            Edit(
                "devices.py:Replica.parts",
                "shares(size, self.place.devices)",
                "shares(size - size % self.place.devices, self.place.devices)",
            ),
        ),
        experiment="drawn-2",
        check="devices",
        tensor="own recipe: loss",
    ),
    Fault(
        name="what-fills-up-a-share-counts",
        what="A batch that the number of devices does not divide has its last sequence twice.",
        implementation="flax_impl",
        edits=(Edit("devices.py:share_of", "targets=asked", "targets=share.targets"),),
        experiment="drawn-2",
        check="devices",
        tensor="own recipe: loss",
    ),
)
