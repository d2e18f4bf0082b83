"""transformers' BERT in PyTorch and in Flax, small."""

import jax
import jax.numpy as jnp
import optax
import torch
import transformers

CONFIG = transformers.BertConfig(
    hidden_size=16,
    num_attention_heads=2,
    num_hidden_layers=2,
    intermediate_size=32,
    vocab_size=50,
    max_position_embeddings=32,
    attn_implementation="eager",
)


def original():
    return transformers.BertModel(CONFIG).eval()


def call_original(model, ids):
    return model(ids)[:2]


def port():
    with jax.enable_x64(False):
        made = transformers.FlaxBertModel(CONFIG, seed=0, input_shape=(1, 8))
    return made.module, {"params": made.params}


def call_port(module, variables, ids, train, rng):
    batch, time = ids.shape
    positions = jnp.broadcast_to(jnp.arange(time), (batch, time))
    ones, zeros = jnp.ones_like(ids), jnp.zeros_like(ids)
    given = {"deterministic": not train, "return_dict": False, "rngs": {"dropout": rng}}
    return module.apply(variables, ids, ones, zeros, positions, None, **given)[:2]


def inputs(rng):
    # Without 0: torch never trains the embedding of padding, Flax does, which the trajectory tells.
    return (rng.integers(1, 50, (2, 8)),)


optimizers = (
    lambda parameters: torch.optim.AdamW(parameters, 1e-3),
    optax.adamw(1e-3, weight_decay=0.01),
)
expected = {"dropout: *, shared": "Flax's attention drops for all heads and sequences of a batch together"}
