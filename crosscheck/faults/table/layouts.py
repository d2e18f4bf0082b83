"""Faults in how arrays come in: memory that is read as if every array were in C order."""

from crosscheck.faults.fault import Edit, Fault

TAKEN = 'native = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")'
REQUIRED = "jax.tree.map(to_array, tuple(batch))"

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="strides-are-kept",
        what="Tensors keep the strides of the caller's arrays, and the fused optimizer reads memory flat.",
        implementation="torch_impl",
        edits=(Edit("arrays.py:to_tensor", TAKEN, TAKEN.replace('"C"', '"K"')),),
        experiment="course-embedding-rnn",
        check="layouts",
        tensor="replay/*",
    ),
    Fault(
        name="strides-are-kept-under-adamw",
        what="Tensors keep the strides of the caller's arrays, and the fused optimizer reads memory flat.",
        implementation="torch_impl",
        edits=(Edit("arrays.py:to_tensor", TAKEN, TAKEN.replace('"C"', '"K"')),),
        experiment="hello-lstm-adamw-warm-up",
        check="layouts",
        tensor="replay/*",
    ),
    Fault(
        name="memory-is-read-flat",
        what="A batch is taken in the order in which they lie in memory, as a raw buffer gives them.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:to_arrays",
                REQUIRED,
                'jax.tree.map(lambda a: a.ravel(order="K").reshape(a.shape), tuple(batch))',
            ),
        ),
        experiment="hello-gru-clipping",
        check="layouts",
        tensor="forward/*",
    ),
)
