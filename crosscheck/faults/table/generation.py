"""Faults in what is written on from a prompt, that no reading of whole sequences shows."""

from crosscheck.faults.fault import Edit, Fault

FAULTS: tuple[Fault, ...] = (
    Fault(
        name="written-from-the-prompts-state",
        what="Every step that writes begins from the state that the prompt left.",
        implementation="torch_impl",
        edits=(
            Edit(
                "generation.py:generate",
                "logits, state = model.step(symbol, state)",
                "logits, _ = model.step(symbol, state)",
            ),
        ),
        experiment="hello-gru",
        check="generation",
        tensor="logits*",
    ),
    Fault(
        name="prompt-a-step-late",
        what="The prompt's first symbol is read twice and its last one never.",
        implementation="flax_impl",
        edits=(Edit("generation.py:generate", "= prompt.T[1:]", "= prompt.T[:-1]"),),
        experiment="hello-lstm",
        check="generation",
        tensor="logits*",
    ),
    Fault(
        name="written-a-step-late",
        what="What is read is what was chosen one step before.",
        implementation="torch_impl",
        edits=(
            Edit(
                "generation.py:generate",
                "symbol = choose(logits, temperature, uniform)\n                symbols.append(symbol)",
                "symbol, chosen = symbols[-1] if symbols else symbol, choose(logits, temperature, uniform)\n"
                "                symbols.append(chosen)",
            ),
        ),
        experiment="hello-lstm",
        check="generation",
        tensor="logits*",
    ),
    Fault(
        name="temperature-multiplied",
        what="Scores are multiplied by the temperature.",
        implementation="flax_impl",
        edits=(Edit("generation.py:choose", "keepdims=True)) / temperature", "keepdims=True)) * temperature"),),
        experiment="hello-gru",
        check="generation",
        tensor="logits (sampled)",
    ),
    Fault(
        name="layers-share-the-first-state",
        what="Writing, every layer begins a step from the first one's state.",
        implementation="flax_impl",
        edits=(Edit("recurrent.py:Layers.step", "cell(state, inputs)", "cell(states[0], inputs)"),),
        experiment="course-embedding-rnn",
        check="generation",
        tensor="logits*",
    ),
)
