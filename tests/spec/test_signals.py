"""Signals are noticed, also by who swallows the exception that they raise."""

import gc
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from spec import signals

Run = Callable[..., Any]
"""See the fixture `run` in conftest.py."""

CODES = [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM"), (signal.SIGHUP, 129, "SIGHUP")]


@pytest.fixture(autouse=True)
def heard() -> Any:
    """Let SIGINT and SIGHUP be what they are by default, whoever started the tests."""
    before = {
        number: signal.signal(number, handler)
        for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL))
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)]


@pytest.mark.parametrize(("number", "code", "word"), CODES)
def test_a_signal_interrupts_and_says_which_it_was(number: int, code: int, word: str) -> None:
    before = handlers()
    with pytest.raises(KeyboardInterrupt, match=word), signals.noticed():  # noqa: PT012
        os.kill(os.getpid(), number)
        time.sleep(10)
    assert signals.exit_code() == code
    assert handlers() == before
    signals.check()  # It is over: nobody is asked to end any more.


def test_one_that_was_swallowed_is_seen_at_the_next_check() -> None:
    with signals.noticed():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        except KeyboardInterrupt:
            pass  # As a callback does whose errors are only printed.
        assert signals.received()
        with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
            signals.check()


def test_one_that_was_swallowed_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "AGAIN", 0.05)
    with signals.noticed():
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):  # noqa: PT012
                if not signals.received():
                    os.kill(os.getpid(), signal.SIGINT)
                time.sleep(10)
        signals.wind_down()
        os.kill(os.getpid(), signal.SIGINT)  # Disturbs nothing any more.
        time.sleep(0.2)


def test_one_that_a_collector_swallows_prints_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    sent = []

    def callback(*_: object) -> None:
        if not sent:
            sent.append(True)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

    gc.callbacks.append(callback)
    try:
        with signals.noticed():
            gc.collect()
            assert signals.received()
            with pytest.raises(KeyboardInterrupt):
                signals.check()
    finally:
        gc.callbacks.remove(callback)
    assert capfd.readouterr().err == ""


def test_one_that_is_held_is_raised_when_the_block_ends() -> None:
    done = []
    with signals.noticed(), pytest.raises(KeyboardInterrupt, match="SIGTERM"), signals.held():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
        done.append(True)
    assert done


@pytest.mark.parametrize("signalled", [1, 2])
def test_a_block_that_hangs_holds_no_signal_for_long(monkeypatch: pytest.MonkeyPatch, signalled: int) -> None:
    monkeypatch.setattr(signals, "AGAIN", 0.2 if signalled == 1 else 20.0)
    begin = time.monotonic()
    with signals.noticed(), pytest.raises(KeyboardInterrupt), signals.held():  # noqa: PT012
        for _ in range(signalled):
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
    assert time.monotonic() - begin < 10


def test_what_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals.noticed():
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(0.01)
        assert not signals.received()


@pytest.mark.parametrize(("number", "code", "word"), CODES)
def test_a_training_that_swallows_a_signal_ends_after_its_chunk(
    run: Run, fake: ModuleType, monkeypatch: pytest.MonkeyPatch, number: int, code: int, word: str
) -> None:
    real = fake.train

    def train(*arguments: Any, **options: Any) -> Any:
        if arguments[1].step == 12:
            try:
                os.kill(os.getpid(), number)
                time.sleep(10)
            except KeyboardInterrupt:
                pass
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(fake, "train", train)
        outcome = run("hello-gru", "--out", "a")
    assert outcome.code == code
    assert outcome.err.startswith("interrupted; epoch 18 of 60 is saved, go on with: python -m fake_impl.train")
    assert run("--resume", "--out", "a").code == 0


def test_an_ensemble_that_swallows_a_signal_ends_after_its_chunk(
    run: Run, fake: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fake.initialize

    def initialize(experiment: Any, seed: int, settings: Any) -> Any:
        if seed == 1:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(10)
            except KeyboardInterrupt:
                pass
        return real(experiment, seed, settings)

    monkeypatch.setattr("spec.command.ensemble.chunk_size", lambda *_: 2)
    with monkeypatch.context() as patch:
        patch.setattr(fake, "initialize", initialize)
        outcome = run("hello-gru", "--seeds", 6, "--epochs", 3, "--out", "a")
    assert outcome.code == 143
    assert outcome.err.startswith("interrupted; 2 of 6 seeds are saved")


def test_a_signal_that_becomes_another_error_is_a_signal(
    run: Run, fake: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: Any, **__: Any) -> Any:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        except KeyboardInterrupt:
            raise RuntimeError("a callback failed") from None

    monkeypatch.setattr(fake, "train", train)
    outcome = run("hello-gru", "--out", "a")
    assert outcome.code == 143
    assert outcome.err.startswith("interrupted; epoch 0 of 60 is saved")


def test_a_signal_during_the_import(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("slow_impl.py").write_text(
        "import os, signal, time\n"
        "try:\n    os.kill(os.getpid(), signal.SIGTERM)\n    time.sleep(10)\n"
        "except KeyboardInterrupt:\n    raise ImportError('a library failed to load')\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    outcome = run(implementation="slow_impl")
    assert (outcome.code, outcome.err) == (143, "interrupted before anything was trained: SIGTERM\n")
