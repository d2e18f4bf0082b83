"""Train a model in JAX and Flax.

    python -m flax_impl.train --list                          what can be trained
    python -m flax_impl.train hello-gru --seed 3              train one; the run directory is printed
    python -m flax_impl.train course-rnn-cell-walk            shapes and values, step by step
    python -m flax_impl.train --resume --out DIR              go on where a run was interrupted
    python -m flax_impl.train hello-gru --export-weights w.safetensors
    python -m torch_impl.train hello-gru --init-weights w.safetensors --trace

The flags and exit codes are the same for every implementation: see spec.command, or --help.
"""

import os
import sys

from spec.command import main

if __name__ == "__main__":
    if "JAX_NUM_PROCESSES" in os.environ:
        # What JAX's libraries log of processes that come and go is said in other words.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "JAX_NUM_PROCESSES" in os.environ and os.environ.get("JAX_PROCESS_ID", "0") != "0":
        # Of several that were started together, the first is the command, and the others take part in what it trains.
        from flax_impl.processes import serve

        sys.exit(serve())
    sys.exit(main("flax_impl"))
