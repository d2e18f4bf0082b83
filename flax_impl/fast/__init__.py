"""Faster ways to compute what the rest of flax_impl says plainly: the same results, but for rounding.

A model is read without this room. It holds no model's equations; what it speeds up is handed to it as a function, which
JAX traces and whose equations (jaxprs) are then rearranged. torch has the like inside its layers.

A recurrence is the `lax.scan` of `flax_impl.recurrent.unroll_cell` unless `choice.chosen` names another:

- `fused`, from `SMALL` = 1,000,000 multiplications of a layer's forward pass on, or where it is asked for (see
  `flax_impl.CHOICES`): a backward pass of its own, with one product over all steps for each weight. `linearization`
  takes a step apart for it.
- `recomputed`, where it is asked for alone: the same in stretches of time, for long sequences in less memory.
- `unrolled`, with `--compile` alone, up to `unrolled.FEW` = 16 steps: no loop.

`products` writes the batched products of an ensemble so that XLA makes loops of them, from
`flax_impl.compilation.LARGE_ENSEMBLE` multiplications, or `MANY` members, on.

`jaxprs` has the names of JAX's undocumented equations; where this JAX lacks one, or lets a step not be taken apart, the
plain way is run. Measurements are in docs/performance.md.
"""

SMALL = 10**6
"""Multiplications of a layer's forward pass below which `scan` is chosen. `fused` compiles 0.05 to 0.15 s longer, and a
call of a small layer gains little or loses (T=5, B=1, I=4, H=4: `scan` is up to 1.9 times as fast). At this size a
training step gains 20 microseconds or so, and a few thousand steps pay for the compilation.
"""
