"""Haiku's cores, carried over time by `hk.dynamic_unroll`, and its attention."""

import haiku as hk
import jax
import jax.numpy as jnp
from serve import HEADS, Attention, Recurrent, serve

jax.config.update("jax_enable_x64", True)


def named(parameters):
    return {f"{module}/{name}": one for module, inner in parameters.items() for name, one in inner.items()}


def nested(parameters):
    found = {}
    for path, one in parameters.items():
        module, _, name = path.rpartition("/")
        found.setdefault(module, {})[name] = jnp.asarray(one)
    return found


def recurrent(core, kind):
    def transformed(hidden, count):
        def run(x, states):
            made = core(hidden)
            initial = made.initial_state(x.shape[0])
            if states is not None:
                initial = states[0] if count == 1 else hk.LSTMState(*states)
            return hk.dynamic_unroll(made, x, initial, time_major=False)

        return hk.without_apply_rng(hk.transform(run))

    count = 2 if kind == "lstm" else 1

    def initial(seed, inputs, hidden):
        x = jnp.zeros((1, 1, inputs))
        return named(transformed(hidden, count).init(jax.random.key(seed), x, None))

    def run(parameters, x, states, lengths):
        widest = min(len(one) for one in parameters.values() if one.ndim == 1)
        hidden = widest // {"rnn": 1, "gru": 3, "lstm": 4}[kind]
        given = None if states is None else list(map(jnp.asarray, states))
        outputs, after = transformed(hidden, count).apply(nested(parameters), jnp.asarray(x), given)
        return outputs, tuple(after) if count == 2 else (after,)

    return Recurrent(kind, initial, run, "", core)


def attention():
    def transformed(features, heads):
        def run(query, key, value, mask):
            layer = hk.MultiHeadAttention(
                heads, features // heads, model_size=features, w_init=hk.initializers.VarianceScaling(1.0)
            )
            return layer(query, key, value, mask)

        return hk.without_apply_rng(hk.transform(run))

    def initial(seed, features, heads):
        x = jnp.zeros((1, 2, features))
        return named(transformed(features, heads).init(jax.random.key(seed), x, x, x, None))

    def run(parameters, query, key, value, mask):
        given = None if mask is None else jnp.asarray(mask)[:, None]
        return transformed(query.shape[2], HEADS).apply(
            nested(parameters), *map(jnp.asarray, (query, key, value)), given
        )

    # The class has no law of its own: w_init has to be given, so that the weights' law is the caller's.
    return Attention(initial, run, True, "mask", laws=False)


serve(
    {
        "hk.VanillaRNN": recurrent(hk.VanillaRNN, "rnn"),
        "hk.GRU": recurrent(hk.GRU, "gru"),
        "hk.LSTM": recurrent(hk.LSTM, "lstm"),
        "hk.MultiHeadAttention": attention(),
    },
    ("dm-haiku", "jax", "numpy"),
)
