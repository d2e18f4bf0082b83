"""The worker processes: every job is done once, and cores do not idle while there is work."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crosscheck.recording import worker_pool as worker_pools
from crosscheck.recording.worker import Job
from crosscheck.recording.worker_pool import CouldNotRun, Worker, WorkerPool
from spec import cache
from spec.experiment import load, shipped

pytestmark = pytest.mark.own_processes

FAKE = Path(__file__).parent / "fake_framework.py"

Edit = Callable[..., str]


def jobs(directory: Path, names: list[str]) -> list[Job]:
    directory.mkdir()
    return [
        Job(
            directory=str(directory),
            token="token",
            experiment=load(name),
            checks=["round-trip"],
            precisions=["float64"],
            device="cpu",
            seed=0,
        )
        for name in names
    ]


@pytest.mark.by_default("2")
@pytest.mark.parametrize("size", [1, 2, 5])
def test_every_job_is_done_once(tmp_path: Path, size: int):
    names = shipped()[:10]
    sides = [jobs(tmp_path / "first", names), jobs(tmp_path / "second", names)]
    results = list(WorkerPool([str(FAKE), str(FAKE)], tmp_path, size, 60.0).run(sides))
    assert Counter((result.side, result.experiment) for result in results) == {(i, n): 1 for i in (0, 1) for n in names}
    assert not any(result.lost for result in results)


def test_a_side_that_is_done_helps_the_other(tmp_path: Path, fake: Edit):
    slow = fake(("    return {name: array", "    import time\n    time.sleep(0.5)\n    return {name: array"))
    names = shipped()[:10]
    sides = [jobs(tmp_path / "first", names[:1]), jobs(tmp_path / "second", names)]
    assert len(list(WorkerPool([str(FAKE), slow], tmp_path, 2, 60.0).run(sides))) == 11
    # A log for each worker, named after its side and its slot: side 1 had a second one, in side 0's slot.
    assert sorted(log.name for log in tmp_path.glob("*.log")) == ["0-0.log", "1-0.log", "1-1.log"]


def test_a_side_that_refuses_ends_the_run_and_every_process(tmp_path: Path, fake: Edit):
    broken = fake(("import numpy as np\n", "import no_such_framework\n"))
    worker_pool = WorkerPool([str(FAKE), broken], tmp_path, 2, 60.0)
    with pytest.raises(CouldNotRun, match="no_such_framework") as raised:
        list(worker_pool.run([jobs(tmp_path / "first", shipped()), jobs(tmp_path / "second", shipped())]))
    assert raised.value.exit_code == 3
    assert not worker_pool._workers


def test_a_worker_that_starts_while_the_others_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nobody would end it, and the run would wait for its job."""
    worker_pool = WorkerPool([str(FAKE), str(FAKE)], tmp_path, 2, 60.0)
    started: list[Worker] = []

    def start(*arguments: Any) -> Worker:
        # The last moment at which the one who ends them cannot know of it.
        started.append(Worker(*arguments))
        worker_pool._stop()
        return started[-1]

    monkeypatch.setattr(worker_pools, "Worker", start)
    worker = worker_pool._start(0, 0)
    assert worker is started[0]
    assert worker.process.poll() is not None
    worker_pool._retire(worker)


TELLS = f"""import os
with open(os.environ["TOLD"], "a") as told:
    told.write(os.environ.get({cache.VARIABLE!r}, "none") + "\\n")
"""
"""For the fake implementation: every worker writes down where it is to keep compilations."""


def test_the_users_directory_is_looked_through_once(tmp_path: Path, fake: Edit, monkeypatch: pytest.MonkeyPatch):
    for name in (cache.VARIABLE, *cache.NOTHING_KEPT):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    looked: list[Path] = []
    monkeypatch.setattr(cache, "prune", lambda place, largest: looked.append(place))
    path = fake(("import numpy as np\n", f"import numpy as np\n{TELLS}"))
    users = cache.directory()
    # Too few for a helper, so that there are two workers.
    names = shipped()[:2]
    for environment, place in ((None, str(users)), ({}, "none"), ({cache.VARIABLE: "/given"}, "/given")):
        out = tmp_path / Path(place).name
        out.mkdir()
        monkeypatch.setenv("TOLD", str(out / "told"))
        sides = [jobs(out / "first", names), jobs(out / "second", names)]
        list(WorkerPool([path, path], out, 2, 60.0, environment).run(sides))
        assert (out / "told").read_text().splitlines() == [place] * 2
    assert looked == [users]


def test_an_interrupt_while_the_threads_are_started(tmp_path: Path, fake: Edit, monkeypatch: pytest.MonkeyPatch):
    slow = fake(("import numpy as np\n", "import time\n\nimport numpy as np\ntime.sleep(60)\n"))
    worker_pool = WorkerPool([slow, slow], tmp_path, 2, 60.0)
    start, slots = threading.Thread.start, []

    def interrupted(thread: Any) -> None:
        if getattr(thread, "_target", None) == worker_pool._work:
            slots.append(thread)
            while len(slots) == 2 and not worker_pool._workers:
                time.sleep(0.01)
            if len(slots) == 2:
                raise KeyboardInterrupt
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    begin = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        list(worker_pool.run([jobs(tmp_path / "first", ["hello-gru"]), jobs(tmp_path / "second", ["hello-gru"])]))
    assert time.perf_counter() - begin < 30
    assert not worker_pool._workers
