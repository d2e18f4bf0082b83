"""What ohlol's models, tasks and training recipes are, written once and without any framework.

Everything an implementation needs to know stands here: the equations, the parameters' names, shapes and initial
laws, the batches, the loss, the optimizer's constants, and what counts as having learned.
"""

from spec import requirements

requirements.check(*requirements.PACKAGES)
