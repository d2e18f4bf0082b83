"""Defaults in the signatures of a library's layers, functions and optimizers, as JSON: signatures.py LIBRARY."""

import importlib
import inspect
import json
import sys

NORMS = ("LayerNorm", "RMSNorm", "GroupNorm", "BatchNorm")

NAMES = {
    "torch": {
        "torch.nn": (*NORMS[:3], "BatchNorm1d", "InstanceNorm1d", "GELU", "LeakyReLU", "ELU", "CrossEntropyLoss"),
        "torch.nn.functional": ("gelu", "leaky_relu", "layer_norm", "batch_norm", "cross_entropy"),
        "torch.optim": ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "RMSprop", "SGD"),
    },
    "flax nnx": {"flax.nnx": (*NORMS, "gelu", "leaky_relu")},
    "flax linen": {"flax.linen": (*NORMS, "gelu", "leaky_relu")},
    "jax": {"jax.nn": ("gelu", "leaky_relu", "elu", "standardize")},
    "optax": {
        "optax": ("adam", "adamw", "nadam", "nadamw", "radam", "adamax", "adamaxw", "adagrad", "adadelta", "rmsprop")
        + ("sgd", "lamb", "lion")
    },
    "equinox": {"equinox.nn": NORMS},
    "haiku": {"haiku": NORMS},
    "keras": {
        "keras.layers": tuple(f"{name}alization" for name in ("LayerNorm", "RMSNorm", "GroupNorm", "BatchNorm")),
        "keras.activations": ("gelu", "leaky_relu"),
        "keras.optimizers": ("Adam", "AdamW", "Nadam", "Adamax", "Adagrad", "Adadelta", "RMSprop", "SGD"),
    },
    "mlx": {
        "mlx.nn": (*NORMS, "GELU", "LeakyReLU"),
        "mlx.optimizers": ("Adam", "AdamW", "Adamax", "Adagrad", "AdaDelta", "RMSprop", "SGD"),
    },
}
"""By library and module."""

PACKAGES = {"flax nnx": "flax", "flax linen": "flax", "haiku": "dm-haiku"}


def plain(value):
    """Numbers, words and whether; pairs of numbers."""
    if isinstance(value, bool | int | float | str):
        return True
    return isinstance(value, tuple | list) and all(type(one) in (int, float) for one in value)


def defaults(made):
    return {
        name: list(one.default) if isinstance(one.default, tuple | list) else one.default
        for name, one in inspect.signature(made.__init__ if inspect.isclass(made) else made).parameters.items()
        if one.default is not inspect.Parameter.empty and plain(one.default)
    }


def main():
    from importlib.metadata import version

    found = {}
    for library in sys.argv[1:]:
        given = {}
        for module, names in NAMES[library].items():
            for name in names:
                made = getattr(importlib.import_module(module), name, None)
                if made is not None:
                    try:
                        given[f"{module}.{name}"] = defaults(made)
                    except ValueError:
                        continue  # Of a function that is compiled, and has no signature.
        package = PACKAGES.get(library, library)
        found[library] = {"version": version(package).partition("+")[0], "package": package, "defaults": given}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
