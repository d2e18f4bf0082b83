"""Train a model in PyTorch.

    python -m torch_impl.train --list                          what can be trained
    python -m torch_impl.train hello-gru --seed 3              train one; the run directory is printed
    python -m torch_impl.train course-rnn-cell-walk            shapes and values, step by step
    python -m torch_impl.train --resume --out DIR              go on where a run was interrupted
    python -m torch_impl.train hello-gru --export-weights w.safetensors
    python -m flax_impl.train hello-gru --init-weights w.safetensors --trace

The flags and exit codes are the same for every implementation: see spec.command, or --help.
"""

import os
import sys

from spec.command import main

if __name__ == "__main__":
    if "MASTER_ADDR" in os.environ and os.environ.get("RANK", "0") != "0":
        # Of several that torchrun has started, the first is the command, and the others take part in what it trains.
        from torch_impl.processes import serve

        sys.exit(serve())
    sys.exit(main("torch_impl"))
