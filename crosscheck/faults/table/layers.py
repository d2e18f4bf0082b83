"""Faults in how cells are put together: layers, directions, padding, final states, layout."""

from crosscheck.faults.fault import Edit, Fault

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="third-layer-has-weights-of-second",
        what="Layers from the third on call the second layer's cell; their own weights are dead.",
        implementation="flax_impl",
        edits=(
            Edit(
                "recurrent.py:Layers.__call__",
                "unroll_cell(self.cells[index],",
                "unroll_cell(self.cells[min(index, 1)],",
            ),
        ),
        experiment="hello-stacked-rnn",
        check="forward",
        tensor="rnn.h_l2",
        entries=("PB13",),
    ),
    Fault(
        name="layers-share-a-matrix",
        what="The third layer's recurrent matrix is the second layer's, the same object.",
        implementation="torch_impl",
        edits=(
            Edit(
                "build.py:build",
                "    return model\n",
                "    model.rnn.weight_hh_l2 = model.rnn.weight_hh_l1\n    return model\n",
            ),
        ),
        experiment="hello-stacked-rnn",
        check="structure",
        tensor="rnn.weight_hh_l2",
        entries=("PB13",),
    ),
    Fault(
        name="residual-around-layers",
        what="Each layer above the first adds its input to its output.",
        implementation="flax_impl",
        edits=(
            Edit(
                "recurrent.py:Layers.__call__",
                "inputs = jnp.concatenate(outputs, -1)",
                "inputs = jnp.concatenate(outputs, -1) + (inputs if layer else 0)",
            ),
        ),
        experiment="hello-stacked-rnn",
        check="forward",
        tensor="rnn.h_l2",
    ),
    Fault(
        name="backward-direction-runs-forward",
        what="Both directions read the sequence from first to last.",
        implementation="flax_impl",
        edits=(Edit("recurrent.py:unroll_cell", "by_time, reverse=reverse)", "by_time)"),),
        experiment="hello-bidirectional-gru",
        check="forward",
        tensor="rnn.h_l0_reverse",
        entries=("PB16",),
    ),
    Fault(
        name="backward-outputs-not-flipped-back",
        what="The backward direction's outputs stay in the order in which they were computed, T - 1 first.",
        implementation="flax_impl",
        edits=(
            Edit(
                "recurrent.py:unroll_cell",
                "return tuple(values.swapaxes(0, 1) for values in trace)",
                "return tuple(values.swapaxes(0, 1)[:, :: -1 if reverse else 1] for values in trace)",
            ),
        ),
        experiment="hello-bidirectional-lstm",
        check="forward",
        tensor="rnn.h_l0_reverse",
        entries=("PB16",),
    ),
    Fault(
        name="backward-outputs-not-flipped-back",
        what="The backward half of the outputs is in the order in which it was computed, T - 1 first.",
        implementation="torch_impl",
        edits=(
            Edit(
                "recurrent.py:run",
                "        outputs, final = layers(inputs, _as_argument(initial))\n",
                "        outputs, final = layers(inputs, _as_argument(initial))\n"
                "        if layers.bidirectional:\n"
                "            forward, backward = outputs.chunk(2, -1)\n"
                "            outputs = torch.cat([forward, backward.flip(1)], -1)\n",
            ),
        ),
        experiment="hello-bidirectional-rnn",
        check="forward",
        tensor="logits",
        entries=("PB16",),
    ),
    Fault(
        name="directions-in-wrong-order",
        what="A layer's output is [backward; forward] where it is [forward; backward].",
        implementation="flax_impl",
        edits=(
            Edit("recurrent.py:Layers.__call__", "jnp.concatenate(outputs, -1)", "jnp.concatenate(outputs[::-1], -1)"),
        ),
        experiment="hello-bidirectional-rnn",
        check="forward",
        tensor="logits",
    ),
    Fault(
        name="backward-starts-in-the-padding",
        what="The backward direction reads the padding first, and zero inputs move its state through the biases.",
        implementation="flax_impl",
        edits=(
            Edit(
                "recurrent.py:unroll_cell.step",
                "if step_valid is not None:",
                "if step_valid is not None and not reverse:",
            ),
        ),
        experiment="hello-bidirectional-gru",
        check="forward",
        tensor="rnn.h_l0_reverse",
        entries=("PB14", "PB22"),
    ),
    Fault(
        name="backward-starts-in-the-padding",
        what="Sequences are not packed, so that the backward direction reads the padding first.",
        implementation="torch_impl",
        edits=(
            Edit(
                "recurrent.py:run",
                "    if lengths is None:\n        outputs",
                "    if lengths is None or layers.bidirectional:\n        outputs",
            ),
        ),
        experiment="hello-bidirectional-lstm",
        check="forward",
        tensor="rnn.h_n",
        entries=("PB14",),
    ),
    Fault(
        name="padding-moves-the-state",
        what="The state goes on through the padding, where zero inputs still move it through the biases.",
        implementation="flax_impl",
        edits=(Edit("recurrent.py:unroll_cell.step", "if step_valid is not None:", "if False:"),),
        experiment="hello-encoder-decoder",
        check="forward",
        tensor="encoder.h_n",
        entries=("PB22", "PB20"),
    ),
    Fault(
        name="padding-moves-the-state",
        what="Sequences are not packed, so that the final state is that after the padding.",
        implementation="torch_impl",
        edits=(
            Edit(
                "recurrent.py:run",
                "    if lengths is None:\n        outputs",
                "    if lengths is not inputs:\n        outputs",
            ),
        ),
        experiment="hello-encoder-decoder-lstm",
        check="forward",
        tensor="encoder.h_n",
        entries=("PB22", "PB20"),
    ),
    Fault(
        name="last-column-for-last-step",
        what="The readout takes column T - 1 of the outputs, which is padding where a sequence is shorter.",
        implementation="flax_impl",
        edits=(
            Edit(
                "recurrent.py:Recurrent.forward",
                "self.classify(jnp.concatenate(final[0][-self.directions :], -1))",
                "self.classify(outputs[:, -1])",
            ),
        ),
        experiment="last-step-classifier",
        check="forward",
        tensor="logits",
        entries=("PB20", "PB17"),
    ),
    Fault(
        name="last-column-for-last-step",
        what="The readout takes column T - 1 of the outputs, which is padding where a sequence is shorter.",
        implementation="torch_impl",
        edits=(
            Edit(
                "recurrent.py:Recurrent.forward",
                "self.classify(torch.cat(tuple(final[0][-self.directions :]), -1))",
                "self.classify(outputs[:, -1])",
            ),
        ),
        experiment="last-step-classifier",
        check="forward",
        tensor="logits",
        entries=("PB20", "PB17"),
    ),
    Fault(
        name="final-state-one-step-early",
        what="The final state is the one before the last step.",
        implementation="flax_impl",
        edits=(
            Edit("recurrent.py:Layers.__call__", "values[:, 0 if suffix else -1]", "values[:, 0 if suffix else -2]"),
        ),
        experiment="last-step-classifier",
        check="forward",
        tensor="rnn.h_n",
    ),
    Fault(
        name="one-step-too-many",
        what="A sequence's valid steps are t <= length where they are t < length.",
        implementation="flax_impl",
        edits=(Edit("model.py:valid_steps", "< batch.lengths[:, None]", "<= batch.lengths[:, None]"),),
        experiment="hello-rnn",
        check="forward",
        tensor="rnn.h_l0",
    ),
    Fault(
        name="one-step-too-few",
        what="A sequence's valid steps are t < length - 1, but at least one.",
        implementation="torch_impl",
        edits=(Edit("model.py:valid_steps", "< batch.lengths[:, None]", "< (batch.lengths[:, None] - 1).clamp(1)"),),
        experiment="hello-rnn-cell",
        check="forward",
        tensor="cell.h",
    ),
    Fault(
        name="padding-left-in-the-inputs",
        what="Padding is not zeroed on the way in: forward masks what comes of it, gradients have 0 times NaN.",
        implementation="flax_impl",
        edits=(
            Edit("model.py:Model.embed", "return zero_padding(batch.inputs, valid)", "return batch.inputs"),
            Edit("recurrent.py:unroll_cell", "    inputs = zero_padding(inputs, valid)\n", ""),
        ),
        experiment="hello-gru",
        check="gradients",
        tensor="rnn.weight_ih_l0",
    ),
    Fault(
        name="time-and-batch-swapped",
        what="The layers take (batch, time) for (time, batch) and run over the batch.",
        implementation="torch_impl",
        edits=(Edit("recurrent.py:Recurrent.__init__", "            batch_first=True,\n", ""),),
        experiment="hello-gru",
        check="forward",
        tensor="",
        entries=("PB55",),
    ),
    Fault(
        name="decoder-starts-from-first-sequence",
        what="Every sequence's decoder starts from the first one's state: right for a batch of one.",
        implementation="flax_impl",
        edits=(
            Edit(
                "encoder_decoder.py:EncoderDecoder.encode",
                "return valid, outputs, state",
                "return valid, outputs, tuple(jnp.broadcast_to(s[:, :1], s.shape) for s in state)",
            ),
        ),
        experiment="hello-encoder-decoder",
        check="forward",
        tensor="decoder.h_l0",
    ),
    Fault(
        name="decoder-starts-at-zero",
        what="The decoder starts from a zero state: the encoder's final state is dropped.",
        implementation="torch_impl",
        edits=(
            Edit(
                "encoder_decoder.py:EncoderDecoder.forward",
                "decoded, _ = run(self.decoder, symbols, initial=state)",
                "decoded, _ = run(self.decoder, symbols)",
            ),
        ),
        experiment="hello-encoder-decoder",
        check="forward",
        tensor="attention.weights",
    ),
    Fault(
        name="decoder-states-swapped",
        what="The decoder's (h, c) starts as (c, h).",
        implementation="flax_impl",
        edits=(
            Edit(
                "encoder_decoder.py:EncoderDecoder.encode",
                "return valid, outputs, state",
                "return valid, outputs, state[::-1]",
            ),
        ),
        experiment="hello-encoder-decoder-lstm",
        check="forward",
        tensor="decoder.h_l0",
    ),
    Fault(
        name="encoder-state-detached",
        what="No gradient flows from the decoder's start into the encoder.",
        implementation="torch_impl",
        edits=(
            Edit(
                "encoder_decoder.py:EncoderDecoder.encode",
                "return valid, outputs, state",
                "return valid, outputs, tuple(s.detach() for s in state)",
            ),
        ),
        experiment="hello-encoder-decoder-lstm",
        check="gradients",
        tensor="encoder.weight_ih_l0",
    ),
    Fault(
        name="decoder-sees-its-targets",
        what="Teacher forcing without the shift: each step is told the symbol that it should find.",
        implementation="flax_impl",
        edits=(
            Edit(
                "encoder_decoder.py:EncoderDecoder.forward",
                "one_hot(self.decoder_inputs(batch), self.start + 1",
                "one_hot(batch.targets, self.start + 1",
            ),
        ),
        experiment="hello-encoder-decoder",
        check="forward",
        tensor="decoder.h_l0",
    ),
    Fault(
        name="decoding-never-feeds-back",
        what="Greedy decoding gives every step the start symbol; only the evaluation decodes.",
        implementation="flax_impl",
        edits=(
            Edit(
                "encoder_decoder.py:EncoderDecoder.predict.step",
                "(state, logits.argmax(-1).astype(symbol.dtype))",
                "(state, symbol)",
            ),
        ),
        experiment="hello-encoder-decoder",
        check="forward",
        tensor="decoded*",
    ),
    Fault(
        name="decoding-keeps-its-first-state",
        what="Greedy decoding starts every step from the encoder's state.",
        implementation="torch_impl",
        edits=(Edit("encoder_decoder.py:EncoderDecoder.predict", "decoded, state = run(", "decoded, _ = run("),),
        experiment="hello-encoder-decoder-lstm",
        check="forward",
        tensor="decoded*",
    ),
    Fault(
        name="evaluation-by-teacher-forcing",
        what="Evaluation tells each step the right symbol before it, as training does.",
        implementation="torch_impl",
        edits=(
            Edit(
                "encoder_decoder.py:EncoderDecoder.predict",
                "        symbol = torch.full_like(",
                "        return self(batch)\n        symbol = torch.full_like(",
            ),
        ),
        experiment="hello-encoder-decoder",
        check="forward",
        tensor="decoded*",
    ),
    Fault(
        name="last-steps-of-the-directions-swapped",
        what="Where the last step of both directions is read out, the backward one comes first.",
        implementation="torch_impl",
        edits=(
            Edit(
                "recurrent.py:Recurrent.forward",
                "torch.cat(tuple(final[0][-self.directions :]), -1)",
                "torch.cat(tuple(final[0][-self.directions :].flip(0)), -1)",
            ),
        ),
        experiment="last-step-classifier",
        check="forward",
        tensor="logits",
    ),
    Fault(
        name="last-column-of-both-directions",
        what="The last step is read from the outputs: for the backward direction, that is the state after one step.",
        implementation="flax_impl",
        edits=(
            Edit(
                "recurrent.py:Recurrent.forward",
                "logits = self.classify(jnp.concatenate(final[0][-self.directions :], -1))",
                "last = outputs[:, -1] if valid is None else jnp.concatenate(final[0][-self.directions :], -1)\n"
                "            logits = self.classify(last)",
            ),
        ),
        experiment="last-step-classifier",
        check="forward",
        tensor="logits (full length)",
    ),
)
