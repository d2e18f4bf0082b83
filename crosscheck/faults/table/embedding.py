"""Faults in the embedding: which row, its gradient, and the options that change either."""

from crosscheck.faults.fault import Edit, Fault

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="last-index-clamped",
        what="Indices are clamped one too low: the last symbol gets the row of the one before it.",
        implementation="flax_impl",
        edits=(
            Edit(
                "model.py:Embedding.__call__",
                "jnp.take(self.embedding[...], indices, axis=0)",
                "jnp.take(self.embedding[...], jnp.minimum(indices, self.num_embeddings - 2), axis=0)",
            ),
        ),
        experiment="course-embedding-rnn",
        check="forward",
        tensor="embedding",
        entries=("PB32",),
    ),
    Fault(
        name="padding-row-trained",
        what="padding_idx is ignored: its row gets a gradient.",
        implementation="flax_impl",
        edits=(Edit("model.py:Embedding.__call__", "if self.spec.padding_idx is not None:", "if False:"),),
        experiment="hello-embedding-padding",
        check="gradients",
        tensor="embedding.weight*",
        entries=("PB34",),
    ),
    Fault(
        name="padding-row-trained",
        what="padding_idx is ignored: its row gets a gradient.",
        implementation="torch_impl",
        edits=(Edit("model.py:embedding", "        padding_idx=spec.padding_idx,\n", ""),),
        experiment="hello-embedding-padding",
        check="gradients",
        tensor="embedding.weight*",
        entries=("PB34",),
    ),
    Fault(
        name="norm-not-limited",
        what="max_norm is ignored.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:renormalized",
                "if model.embedding is None or model.embedding.spec.max_norm is None:",
                "if True:",
            ),
        ),
        experiment="hello-embedding-max-norm",
        check="forward",
        tensor="embedding",
        entries=("PB35",),
    ),
    Fault(
        name="norm-of-the-wrong-order",
        what="max_norm limits the 2-norm, torch's default, where norm_type asks for another.",
        implementation="torch_impl",
        edits=(Edit("model.py:embedding", "        norm_type=spec.norm_type,\n", ""),),
        experiment="hello-embedding-max-norm",
        check="forward",
        tensor="embedding",
        entries=("PB35",),
    ),
    Fault(
        name="norm-without-epsilon",
        what="A row too long is scaled by max_norm / norm where it is max_norm / (norm + 1e-7).",
        implementation="flax_impl",
        edits=(Edit("model.py:Embedding.renormalize", "(norms + spec.renormalization_epsilon)", "norms"),),
        experiment="hello-embedding-max-norm",
        check="forward",
        tensor="embedding",
        entries=("PB35",),
    ),
    Fault(
        name="rescaled-rows-not-kept",
        what="max_norm rescales the rows that are used and leaves the parameter itself as it is.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:make_step.step", "carry._replace(parameters=parameters, carried", "carry._replace(carried"
            ),
        ),
        experiment="hello-embedding-max-norm",
        check="trajectory",
        tensor="p*",
        entries=("PB35",),
    ),
    Fault(
        name="evaluation-rescales-for-good",
        what="max_norm rescales rows of the parameter in evaluation too.",
        implementation="torch_impl",
        edits=(Edit("training.py:evaluate", "mode(model, None), _unchanged(model.embedding)", "mode(model, None)"),),
        experiment="hello-embedding-max-norm",
        check="trajectory",
        tensor="final parameters/embedding.weight",
        entries=("PB35",),
    ),
    Fault(
        name="frequency-not-divided-out",
        what="scale_grad_by_freq is ignored: a symbol that occurs twice gets twice the gradient.",
        implementation="flax_impl",
        edits=(Edit("model.py:Embedding.__call__", "if self.spec.scale_grad_by_freq:", "if False:"),),
        experiment="hello-embedding-scale-by-frequency",
        check="gradients",
        tensor="embedding.weight",
    ),
    Fault(
        name="padding-counts-as-a-symbol",
        what="Padding counts among the occurrences of index 0, so that its gradient is divided by too much.",
        implementation="flax_impl",
        edits=(
            Edit(
                "model.py:Embedding.counts",
                "weights = jnp.ones(indices.shape) if valid is None else valid",
                "weights = jnp.ones(indices.shape)",
            ),
        ),
        experiment="hello-embedding-scale-by-frequency",
        check="gradients",
        tensor="embedding.weight",
        entries=("PB34",),
    ),
    Fault(
        name="padding-looked-up",
        what="Padding is looked up like any symbol and counts in scale_grad_by_freq.",
        implementation="torch_impl",
        edits=(
            Edit(
                "model.py:Model.embed",
                "        if valid is None:\n            embedded",
                "        if valid is None or valid is not None:\n            embedded",
            ),
            Edit(
                "model.py:Model.embed",
                "embedded = self.embedding(batch.inputs)\n",
                "embedded = zero_padding(self.embedding(batch.inputs), valid)\n",
            ),
        ),
        experiment="hello-embedding-scale-by-frequency",
        check="gradients",
        tensor="embedding.weight",
        entries=("PB34",),
    ),
    Fault(
        name="embedding-frozen",
        what="The embedding gets no gradient.",
        implementation="torch_impl",
        edits=(
            Edit(
                "model.py:Model.embed",
                "embedded = self.embedding(batch.inputs)\n",
                "embedded = self.embedding(batch.inputs).detach()\n",
            ),
        ),
        experiment="course-embedding-rnn",
        check="gradients",
        tensor="embedding.weight",
    ),
    Fault(
        name="tied-rows-without-the-heads-gradient",
        what="Nothing comes back to the tied rows from the head.",
        implementation="torch_impl",
        edits=(
            Edit(
                "recurrent.py:Recurrent.classify",
                "self.head(outputs, self.embedding.weight)",
                "self.head(outputs, self.embedding.weight.detach())",
            ),
        ),
        experiment="hello-lstm-tied",
        check="gradients",
        tensor="embedding.weight*",
    ),
    Fault(
        name="tied-rows-without-the-inputs-gradient",
        what="Nothing comes back to the tied rows from where they are looked up.",
        implementation="flax_impl",
        edits=(
            Edit(
                "model.py:Embedding.__call__",
                "rows = jnp.take(self.embedding[...],",
                "rows = jnp.take(jax.lax.stop_gradient(self.embedding[...]),",
            ),
        ),
        experiment="hello-lstm-tied",
        check="gradients",
        tensor="embedding.weight*",
    ),
)
