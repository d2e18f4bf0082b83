"""Do two implementations of one spec start, compute, step and converge alike? Answers with evidence.

Each implementation runs in processes of its own and leaves recordings; a ladder of checks compares them. No framework
is imported here: implementations are reached by module name, at run time, in a worker.
"""

from spec import requirements

requirements.check("scipy")
