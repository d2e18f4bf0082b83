"""Faults on the path that the train command takes, and trajectory does not: unrecorded, own masks, chunks, far on."""

from crosscheck.faults.fault import Edit, Fault

CLIPPED = "__import__('msgspec').structs.replace"

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="unclipped-when-unrecorded",
        what="Gradients are clipped only where steps are recorded.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                "                descend(training, model, optimizer, step)\n                step += 1\n",
                f"                unclipped = {CLIPPED}(training, clipping=None)\n"
                "                descend(training if record else unclipped, model, optimizer, step)\n"
                "                step += 1\n",
            ),
        ),
        experiment="hello-gru-clipping",
        check="shipped-path",
        tensor="start/plain/loss",
    ),
    Fault(
        name="unclipped-when-unrecorded",
        what="Gradients are clipped only where steps are recorded.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:train",
                "        masks = masks if experiment.model.has_dropout",
                f"        free = {CLIPPED}(experiment, training={CLIPPED}(training, clipping=None))\n"
                "        experiment = experiment if record else free\n"
                "        masks = masks if experiment.model.has_dropout",
            ),
        ),
        experiment="hello-gru-clipping",
        check="shipped-path",
        tensor="start/plain/loss",
    ),
    Fault(
        name="stale-losses-when-unrecorded",
        what="Unrecorded, each step reports the loss of the one before.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                "replica.totals(losses)",
                "replica.totals(losses if record else losses[:1] + losses[:-1])",
            ),
        ),
        experiment="hello-gru-clipping",
        check="shipped-path",
        tensor="start/plain/loss",
    ),
    Fault(
        name="stale-losses-when-unrecorded",
        what="Unrecorded, each step reports the loss of the one before.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:train",
                "losses=np.asarray(outputs.loss).reshape(-1),",
                "losses=np.roll(np.asarray(outputs.loss).reshape(-1), 0 if record else 1),",
            ),
        ),
        experiment="hello-gru-clipping",
        check="shipped-path",
        tensor="start/plain/loss",
    ),
    Fault(
        name="state-of-the-start-when-unrecorded",
        what="Unrecorded, training gives back the slots that it was given.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                "state=State(export(model), slots, step, _to_numpy(carried))",
                "state=State(export(model), slots if record else state.slots, step, {})",
            ),
        ),
        experiment="hello-gru-clipping",
        check="shipped-path",
        tensor="start/plain/final/*",
    ),
    Fault(
        name="own-masks-begin-again-at-each-call",
        what="The masks of a resumed training are those of its beginning, where they are torch's own.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                "dropout_of(experiment, arrays, seed, step, masks)",
                'dropout_of(experiment, arrays, seed, step - (state.step if masks == "own" else 0), masks)',
            ),
        ),
        experiment="hello-stacked-lstm-dropout",
        check="shipped-path",
        tensor="start/resumed/loss",
    ),
    Fault(
        name="own-masks-begin-again-at-each-call",
        what="The masks of a resumed training are those of its beginning, where they are JAX's own.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:_inputs",
                "dropout = np.array(steps, np.int32)",
                "dropout = np.arange(len(steps), dtype=np.int32)",
            ),
        ),
        experiment="hello-stacked-lstm-dropout",
        check="shipped-path",
        tensor="start/resumed/loss",
    ),
    Fault(
        name="half-the-rate-in-training",
        what="Training with torch's own masks drops half as often as the spec says.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                "        compile_model(model, settings)\n",
                "        compile_model(model, settings)\n"
                '        for module in model.modules() if masks == "own" else ():\n'
                '            for rate in ("p", "dropout"):\n'
                "                if isinstance(getattr(module, rate, None), float):\n"
                "                    setattr(module, rate, getattr(module, rate) / 2)\n",
            ),
        ),
        experiment="hello-stacked-lstm-dropout",
        check="shipped-path",
        tensor="own masks, rate",
        precision="float32",
    ),
    Fault(
        name="half-the-rate-in-training",
        what="Training with JAX's own masks drops half as often as the spec says.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:make_step.step.loss_of",
                "            set_mode(model, dropout)\n            logits, recorded = run(",
                "            set_mode(model, dropout)\n"
                '            for _, module in nnx.iter_modules(model) if masks == "own" else ():\n'
                '                if isinstance(getattr(module, "rate", None), float):\n'
                "                    module.rate /= 2\n"
                "            logits, recorded = run(",
            ),
        ),
        experiment="hello-transformer-dropout",
        check="shipped-path",
        tensor="own masks, rate",
        precision="float32",
    ),
    Fault(
        name="masks-by-the-number-of-the-call",
        what="The seed of torch's own masks counts the trainings of the process.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                "        step = state.step\n",
                "        step = state.step\n        CALLS.append(step)\n",
            ),
            Edit("training.py:dropout_of", "def dropout_of(", "CALLS: list[int] = []\n\n\ndef dropout_of("),
            Edit(
                "training.py:dropout_of",
                'return seed_for(seed, "dropout", step)',
                "return seed_for(seed, len(CALLS), step)",
            ),
        ),
        experiment="hello-stacked-lstm-dropout",
        check="shipped-path",
        tensor="start/plain/loss",
    ),
    Fault(
        name="masks-by-the-number-of-the-call",
        what="The key of JAX's own masks counts the trainings of the process.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:train",
                "evaluation_batch, jax.random.key(seed))",
                "evaluation_batch, jax.random.key(CALLS.append(seed) or seed + len(CALLS)))",
            ),
            Edit("training.py:first_carry", "def first_carry(", "CALLS: list[int] = []\n\n\ndef first_carry("),
        ),
        experiment="hello-stacked-lstm-dropout",
        check="shipped-path",
        tensor="start/plain/loss",
    ),
    Fault(
        name="batches-repeat-after-the-recipe",
        what="After the recipe's last step the batches of the first ones come again.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                "if task.drawn:\n                    arrays = experiment.batch(seed, step,",
                "if task.drawn:\n                    last = training.epochs * training.steps_per_epoch\n"
                "                    arrays = experiment.batch(seed, step % last,",
            ),
        ),
        experiment="ragged-lstm",
        check="shipped-path",
        tensor="the recipe's end/recorded/loss",
    ),
    Fault(
        name="batches-repeat-after-the-recipe",
        what="After the recipe's last step the batches of the first ones come again.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:_inputs",
                "experiment.batches(seed, steps, ",
                "experiment.batches(seed, [s % (training.epochs * training.steps_per_epoch) for s in steps], ",
            ),
        ),
        experiment="ragged-lstm",
        check="shipped-path",
        tensor="the recipe's end/recorded/loss",
    ),
    Fault(
        name="step-in-eight-bits",
        what="An optimizer that is loaded goes on from a step number of eight bits.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                "optimizers.load_slots(optimizer, model, state.slots, state.step)",
                "optimizers.load_slots(optimizer, model, state.slots, state.step % 256)",
            ),
        ),
        experiment="course-rnn-cell",
        check="shipped-path",
        tensor="step 65536/recorded/*",
    ),
    Fault(
        name="step-in-eight-bits",
        what="Learning rates and Adam's corrections are those of a step number of eight bits.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:stack_constants", "*(training.constants(step) for", "*(training.constants(step % 256) for"
            ),
        ),
        experiment="hello-lstm-adamw-warm-up",
        check="shipped-path",
        tensor="step 256/recorded/*",
    ),
    Fault(
        name="step-in-sixteen-bits",
        what="The key of JAX's own masks is made from a step number of sixteen bits.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:_inputs",
                "dropout = np.array(steps, np.int32)",
                "dropout = np.array(steps, np.int32) % 2**16",
            ),
        ),
        experiment="hello-stacked-lstm-dropout",
        check="shipped-path",
        tensor="own masks, one a step",
        precision="float32",
    ),
    Fault(
        name="batches-of-the-first-seed",
        what="Batches are kept by their step, whatever the seed.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                "if task.drawn:\n                    arrays = experiment.batch(seed, step, settings.precision)\n",
                "if task.drawn:\n                    new = experiment.batch(seed, step, settings.precision)\n"
                "                    arrays = KEPT.setdefault((task, step), new)\n",
            ),
            Edit("training.py:descend", "def descend(", "KEPT: dict = {}\n\n\ndef descend("),
        ),
        experiment="ragged-lstm",
        check="shipped-path",
        tensor="seeds",
    ),
    Fault(
        name="batches-of-the-first-seed",
        what="Batches are kept by their steps, whatever the seed.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:_inputs",
                "to_arrays(experiment.batches(seed, steps, settings.precision))",
                "to_arrays(KEPT.setdefault((experiment, steps), experiment.batches(seed, steps, 'float64')))",
            ),
            Edit("training.py:_inputs", "def _inputs(", "KEPT: dict = {}\n\n\ndef _inputs("),
        ),
        experiment="ragged-lstm",
        check="shipped-path",
        tensor="seeds",
    ),
    Fault(
        name="evaluated-otherwise-after-a-step",
        what="Once a step was made, evaluations of more than one sequence are off by a thousandth.",
        implementation="torch_impl",
        edits=(
            Edit(
                "contract.py:forward",
                "value.cpu().numpy() for name, value in model.intermediates.items()",
                "(value * (1 + 1e-3 * bool(training.STEPPED and len(batch.inputs) > 1))).cpu().numpy()"
                " for name, value in model.intermediates.items()",
            ),
            Edit(
                "contract.py", "from torch_impl import compilation\n", "from torch_impl import compilation, training\n"
            ),
            Edit("training.py:descend", "def descend(", "STEPPED: list[int] = []\n\n\ndef descend("),
            Edit("training.py:descend", "    optimizer.step()\n", "    optimizer.step()\n    STEPPED.append(step)\n"),
        ),
        experiment="hello-gru-clipping",
        check="shipped-path",
        tensor="logits, ragged, predicted",
    ),
    Fault(
        name="evaluated-otherwise-after-a-step",
        what="Once a training was made, evaluations of more than one sequence are off by a thousandth.",
        implementation="flax_impl",
        edits=(
            Edit(
                "contract.py:forward",
                "np.asarray(value) for name, value in outputs.items()",
                "np.asarray(value) * (1 + 1e-3 * bool(training.CALLS and len(batch.inputs) > 1))"
                " for name, value in outputs.items()",
            ),
            Edit("contract.py", "from flax_impl import compilation\n", "from flax_impl import compilation, training\n"),
            Edit("training.py:first_carry", "def first_carry(", "CALLS: list[int] = []\n\n\ndef first_carry("),
            Edit(
                "training.py:train",
                "    training = experiment.training\n",
                "    training = experiment.training\n    CALLS.append(epochs)\n",
            ),
        ),
        experiment="hello-gru-clipping",
        check="layouts",  # What it asks last comes after trainings.
        tensor="forward/logits",
    ),
    Fault(
        name="generator-left-seeded",
        what="torch's global generator is left where the masks' seed has put it.",
        implementation="torch_impl",
        edits=(Edit("dropout.py:mode", "with torch.random.fork_rng(devices):", "if devices is not None:"),),
        experiment="hello-stacked-lstm-dropout",
        check="shipped-path",
        tensor="torch's global generator, dropout",
    ),
    Fault(
        name="generator-left-seeded",
        what="NumPy's global generator is seeded for each training.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:_inputs",
                "    dropout = None\n    if experiment",
                "    np.random.seed(0)\n    dropout = None\n    if experiment",
            ),
        ),
        experiment="hello-gru-clipping",
        check="shipped-path",
        tensor="NumPy's global generator, train",
    ),
    Fault(
        name="an-epoch-begins-again-where-it-was-cut",
        what="A training that goes on within an epoch begins with the epoch's first batch.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                "        step = state.step\n",
                "        step = state.step - state.step % training.steps_per_epoch\n",
            ),
        ),
        experiment="ragged-lstm",
        check="shipped-path",
        tensor="parts/*",
    ),
    Fault(
        name="an-epoch-begins-again-where-it-was-cut",
        what="A training that goes on within an epoch begins with the epoch's first batch.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:train",
                "        inputs = stack_inputs(experiment, steps, ",
                "        begun = steps.start % training.steps_per_epoch if part else 0\n"
                "        inputs = stack_inputs(experiment, range(steps.start - begun, steps.stop - begun), ",
            ),
        ),
        experiment="ragged-lstm",
        check="shipped-path",
        tensor="parts/*",
    ),
)
