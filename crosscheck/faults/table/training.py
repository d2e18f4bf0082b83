"""Faults in the training loop: train and eval mode, dropout, the order of batches, what is kept between steps."""

from crosscheck.faults.fault import Edit, Fault

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="trained-in-eval-mode",
        what="Training runs in eval mode: nothing is ever dropped.",
        implementation="flax_impl",
        edits=(Edit("training.py:make_step.step.loss_of", "set_mode(model, dropout)", "set_mode(model, None)"),),
        experiment="hello-stacked-lstm-dropout",
        check="trajectory",
        tensor="loss",
        entries=("PB59",),
    ),
    Fault(
        name="eval-mode-still-drops",
        what="Dropout stays on in eval mode, as in attention whose rate ignores the module's mode.",
        implementation="torch_impl",
        edits=(
            Edit(
                "dropout.py:mode",
                "    if model.training != (dropout is not None):\n        model.train(dropout is not None)\n",
                "    model.train()\n",
            ),
        ),
        experiment="hello-transformer-dropout",
        check="forward",
        tensor="encoder.layers.0.*",
        entries=("PB53",),
    ),
    Fault(
        name="evaluated-in-dropout",
        what="The evaluation after each epoch runs in train mode.",
        implementation="torch_impl",
        edits=(Edit("training.py:evaluate", "mode(model, None), _unchanged", "mode(model, 0), _unchanged"),),
        experiment="hello-transformer-dropout",
        check="trajectory",
        tensor="logits",
        entries=("PB53",),
    ),
    Fault(
        name="evaluated-in-dropout",
        what="The evaluation after each epoch runs in train mode.",
        implementation="flax_impl",
        edits=(Edit("training.py:evaluate", "set_mode(model, None)", "set_mode(model, jax.random.key(0))"),),
        experiment="hello-stacked-lstm-dropout",
        check="trajectory",
        tensor="logits",
        entries=("PB53",),
    ),
    Fault(
        name="dropout-after-the-last-layer",
        what="The last layer's output is dropped out too.",
        implementation="flax_impl",
        edits=(
            Edit(
                "recurrent.py:Layers.__call__",
                'if layer < self.num_layers - 1:\n                inputs = getattr(self, f"dropout_l{layer}")',
                'if self.num_layers > 1:\n                inputs = getattr(self, "dropout_l0")',
            ),
        ),
        experiment="hello-stacked-lstm-dropout",
        check="forward",
        tensor="logits",
        entries=("PB11",),
    ),
    Fault(
        name="dropout-nowhere-between-layers",
        what="The layer below the last is not dropped out, by an index that stops too early.",
        implementation="flax_impl",
        edits=(
            Edit(
                "recurrent.py:Layers.__call__",
                "            if layer < self.num_layers - 1:\n                inputs",
                "            if layer < self.num_layers - 2:\n                inputs",
            ),
        ),
        experiment="hello-stacked-lstm-dropout",
        check="forward",
        tensor="rnn.h_l1",
        entries=("PB11",),
    ),
    Fault(
        name="dropout-not-scaled",
        what="What is kept is not divided by 1 - rate.",
        implementation="flax_impl",
        edits=(Edit("dropout.py:Dropout.__call__", "inputs * self.mask", "inputs * (self.mask > 0)"),),
        experiment="hello-transformer-dropout",
        check="forward",
        tensor="encoder.layers.0.norm1",
    ),
    Fault(
        name="no-dropout-inside-the-feed-forward-block",
        what="The feed-forward block's inner dropout is missing.",
        implementation="flax_impl",
        edits=(
            Edit(
                "transformer.py:EncoderLayer.feed_forward",
                "self.linear2(self.dropout(self.activation(self.linear1(hidden))))",
                "self.linear2(self.activation(self.linear1(hidden)))",
            ),
        ),
        experiment="hello-transformer-dropout",
        check="forward",
        tensor="encoder.layers.0.linear2",
        entries=("PB59",),
    ),
    Fault(
        name="masks-of-the-next-step",
        what="Step s uses the masks of step s + 1.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:dropout_of",
                'generator_for(seed, "dropout", step)',
                'generator_for(seed, "dropout", step + 1)',
            ),
        ),
        experiment="hello-transformer-dropout",
        check="trajectory",
        tensor="loss",
        entries=("PB67",),
    ),
    Fault(
        name="the-same-mask-every-step",
        what="Every step uses the first step's masks.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:_inputs",
                'generator_for(seed, "dropout", step)',
                'generator_for(seed, "dropout", steps[0])',
            ),
        ),
        experiment="hello-stacked-lstm-dropout",
        check="trajectory",
        tensor="loss",
        entries=("PB67",),
    ),
    Fault(
        name="gradients-not-cleared",
        what="Gradients of earlier steps are added up.",
        implementation="torch_impl",
        edits=(Edit("training.py:train", "                optimizer.zero_grad()\n", ""),),
        experiment="hello-gru",
        check="trajectory",
        tensor="slots/*",
    ),
    Fault(
        name="state-kept-between-batches",
        what="Each batch starts from the state in which the one before ended.",
        implementation="torch_impl",
        edits=(
            Edit(
                "recurrent.py:Recurrent.forward",
                "        outputs, final = self.recur(inputs, batch, valid)\n",
                "        outputs, final = self.recur(inputs, batch, valid)\n"
                "        if self.training:\n"
                '            outputs, final = run(self.rnn, inputs, batch.lengths, getattr(self, "kept", None))\n'
                "            self.kept = tuple(state.detach() for state in final)\n",
            ),
        ),
        experiment="hello-lstm",
        check="trajectory",
        tensor="",  # Perturbed starts, trained together, are another batch: it ends in an error.
    ),
    Fault(
        name="slots-forgotten-at-each-epoch",
        what="The optimizer starts anew with each epoch.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                "        for _ in range(epochs):\n",
                "        for _ in range(epochs):\n"
                "            optimizer = optimizers.make(training, dict(model.named_parameters()))\n",
            ),
        ),
        experiment="last-step-classifier",
        check="trajectory",
        tensor="slots/*",
    ),
    Fault(
        name="batches-repeat-each-epoch",
        what="Every epoch draws the same batches again, as NumPy's seed in a data loader's workers does.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                "if task.drawn:\n                    arrays = experiment.batch(seed, step,",
                "if task.drawn:\n                    arrays = experiment.batch(seed, step % training.steps_per_epoch,",
            ),
        ),
        experiment="last-step-classifier",
        check="trajectory",
        tensor="loss",
        entries=("PB68",),
    ),
    Fault(
        name="batches-in-another-order",
        what="Each epoch's batches are taken in reverse.",
        implementation="flax_impl",
        edits=(
            Edit("training.py:_inputs", "experiment.batches(seed, steps, ", "experiment.batches(seed, steps[::-1], "),
        ),
        experiment="last-step-classifier",
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="last-sequence-dropped",
        what="Each batch loses its last sequence, as where an incomplete batch is dropped.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:make_step.step.loss_of",
                "logits, batch.targets, whole)",
                "logits[:-1], batch.targets[:-1], whole)",
            ),
        ),
        experiment="last-step-classifier",
        check="trajectory",
        tensor="loss",
        entries=("PB89",),
    ),
    Fault(
        name="evaluated-an-epoch-early",
        what="Each epoch is judged by the parameters with which it began.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:compile_epochs.train_epochs.epoch",
                "            carry, outputs = jax.lax.scan(lambda c, i: step(c, i, key), carry, inputs)\n",
                "            before = carry\n"
                "            carry, outputs = jax.lax.scan(lambda c, i: step(c, i, key), carry, inputs)\n",
            ),
            Edit(
                "training.py:compile_epochs.train_epochs.epoch",
                "evaluate(graph, carry.parameters, evaluation_batch)",
                "evaluate(graph, before.parameters, evaluation_batch)",
            ),
        ),
        experiment="hello-gru",
        check="trajectory",
        tensor="logits",
    ),
    Fault(
        name="loss-after-the-step",
        what="A step's loss is measured after it, where it is the one that was minimized.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                "                losses.append(loss.item())\n",
                "                loss = cross_entropy(training.loss, model(batch), batch.targets)\n"
                "                losses.append(loss.item())\n",
            ),
        ),
        experiment="hello-rnn",
        check="trajectory",
        tensor="loss",
    ),
    Fault(
        name="state-before-the-last-step",
        what="Training returns the parameters before its last step.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:train",
                "state=State(export(model), slots, step, _to_numpy(carried))",
                "state=State({n: recorded[n][-2:][0] if record else v for n, v in export(model).items()}, slots, step, "
                "_to_numpy(carried))",
            ),
        ),
        experiment="hello-rnn",
        check="trajectory",
        tensor="final parameters/rnn.weight_ih_l0",
    ),
    Fault(
        name="arguments-written-to",
        what="Modules share memory with the arrays that were handed over, and training writes into them.",
        implementation="torch_impl",
        edits=(
            Edit(
                "parameters.py:load",
                "to_tensor(value, dtype, device)",
                "torch.as_tensor(value, dtype=dtype, device=device)",
            ),
        ),
        experiment="hello-gru",
        check="optimizer",
        tensor="",
    ),
)
