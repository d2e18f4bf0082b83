"""Train a model in PyTorch.

    python -m torch_impl.train --list                          what can be trained
    python -m torch_impl.train hello-gru --seed 3              train one; the run directory is printed
    python -m torch_impl.train course-rnn-cell-walk            shapes and values, step by step
    python -m torch_impl.train --resume --out DIR              go on where a run was interrupted
    python -m torch_impl.train hello-gru --export-weights w.safetensors
    python -m flax_impl.train hello-gru --init-weights w.safetensors --trace

The flags and exit codes are the same for every implementation: see spec.command, or --help.
"""

import sys

from spec.command import main

if __name__ == "__main__":
    sys.exit(main("torch_impl"))
