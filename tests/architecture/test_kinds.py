"""What a choice of experiments leaves out is of no kind that the chosen ones are not."""

from kinds import covering, traits

from spec.experiment import load, shipped


def test_every_kind_is_among_the_chosen() -> None:
    chosen = covering(shipped())
    assert len(chosen) < len(shipped())
    assert set().union(*(traits(load(name)) for name in chosen)) == set().union(
        *(traits(load(name)) for name in shipped())
    )


def test_what_is_alone_of_its_kind_is_chosen() -> None:
    for name in ("hello-embedding-max-norm", "hello-lstm-adamw-warm-up", "hello-transformer-norm-first"):
        others = [other for other in shipped() if other != name]
        assert traits(load(name)) - set().union(*(traits(load(other)) for other in others)), name
        assert name in covering(shipped())


def test_other_models_are_of_other_kinds() -> None:
    assert covering(["hello-gru", "hello-lstm"]) == ["hello-gru", "hello-lstm"]
