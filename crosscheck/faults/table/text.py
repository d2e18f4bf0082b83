"""Faults in what is done to the bytes of a text."""

from crosscheck.faults.fault import Edit, Fault

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="bytes-have-seven-bits",
        what="The highest bit of a byte is lost, as where a text is taken for ASCII.",
        implementation="torch_impl",
        edits=(
            Edit(
                "training.py:to_tensors",
                "to_tensor(batch.inputs, device=device),",
                "to_tensor(batch.inputs & 127 if batch.inputs.dtype.kind == 'i' else batch.inputs, device=device),",
            ),
        ),
        experiment="text-lstm",
        check="forward",
        tensor="embedding",
    ),
    Fault(
        name="bytes-have-seven-bits",
        what="The highest bit of a byte is lost, as where a text is taken for ASCII.",
        implementation="flax_impl",
        edits=(
            Edit(
                "training.py:to_arrays",
                "arrays: Any = jax.tree.map(to_array, tuple(batch))",
                "if batch.inputs.dtype.kind == 'i':\n"
                "        batch = batch._replace(inputs=batch.inputs & 127)\n"
                "    arrays: Any = jax.tree.map(to_array, tuple(batch))",
            ),
        ),
        experiment="text-lstm",
        check="forward",
        tensor="embedding",
    ),
)
