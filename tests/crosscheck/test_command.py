"""The command line: what it takes, what it says, and its exit codes."""

import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crosscheck.checks import BY_DEFAULT
from crosscheck.cli.command import main
from crosscheck.report.model import SCHEMA_VERSION
from spec import experiment as experiments
from tests import reports

FAKE = Path(__file__).parent / "fake_framework.py"

RunCrosscheck = Callable[..., Any]
Edit = Callable[..., str]


def test_list_names_experiments_and_checks(capsys: pytest.CaptureFixture[str]):
    assert main(["--list"]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in experiments.shipped())
    assert all(
        f"\n  {check} " in output
        for check in ("structure", "initialization", "round-trip", "forward", "optimizer", "trajectory", "outcome")
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hello-gruu"], "hello-gruu: experiment: expected a shipped name"),
        (["--checks", "forwards"], "--checks: expected some of structure,initialization,"),
        (["--checks", ""], "--checks: expected some of structure,initialization,"),
        (
            ["--checks", "outcome", "--precision", "float64"],
            "--checks: expected checks that run in float64, got outcome",
        ),
        (["hello-gru", "--case", "owm"], "--case: expected one of 'initialized', 'returned', 'seeds', "),
        (["hello-gru", "--case", "recipe", "--checks", "forward"], "--case: expected one of 'own', 'ragged'"),
        (["hello-gru", "--case", "batch 1", "--checks", "forward", "--precision", "float32"], "got 'batch 1'"),
        (["hello-gru", str(experiments.SHIPPED / "hello-gru.toml")], "expected each experiment's name once"),
        (
            ["hello-gru", "hello-rnn", "hello-gru"],
            "hello-gru: expected each experiment's name once, got hello-gru twice",
        ),
        (
            ["hello-gru", "--implementations", "no_such_module", str(FAKE)],
            "expected an importable module, got 'no_such",
        ),
        (["hello-gru", "--implementations", str(FAKE), "/no/such/path"], "got '/no/such/path': no such path"),
        (
            ["hello-gru", "--implementations", "json", str(FAKE)],
            "json: expected the functions of spec.framework.Framework",
        ),
    ],
)
def test_usage_errors_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main([*arguments, "--out", str(tmp_path)]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert message in line


def test_a_wrong_experiment_file(tmp_path: Path, experiment: Path, capsys: pytest.CaptureFixture[str]):
    experiment.write_text(experiment.read_text().replace("hidden_size = 4", "hidden_size = 0"))
    assert main([str(experiment), "--out", str(tmp_path)]) == 2
    assert "model.hidden_size" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("import numpy as np\nimport no_such_framework\n", "expected no_such_framework to be installed, got none"),
        ("import numpy as np\nraise ValueError('planted')\n", "import: ValueError: planted"),
    ],
)
def test_an_implementation_that_cannot_be_imported(run_crosscheck: RunCrosscheck, fake: Edit, edit: str, message: str):
    outcome = run_crosscheck(fake(("import numpy as np\n", edit)))
    assert outcome.exit_code == 3
    assert message in outcome.errors
    assert outcome.report == {}


def test_a_device_that_is_missing(run_crosscheck: RunCrosscheck, fake: Edit):
    missing = "    from spec.errors import DeviceMissing\n    raise DeviceMissing('no such device')\n"
    outcome = run_crosscheck(fake(('    return {"fake"', missing + '    return {"fake"')), "--device", "tpu")
    assert outcome.exit_code == 3
    assert "error: no such device" in outcome.errors


@pytest.mark.own_processes
def test_an_older_report_does_not_survive_a_run_that_fails(run_crosscheck: RunCrosscheck, fake: Edit):
    assert run_crosscheck().report
    assert run_crosscheck(fake(("import numpy as np\n", "import no_such_framework\n"))).report == {}


def test_json_on_standard_output(run_crosscheck: RunCrosscheck, tmp_path: Path):
    outcome = run_crosscheck(str(FAKE), "--json", "--checks", "forward")
    assert outcome.output.rstrip("\n") + "\n" == (tmp_path / "report" / "report.json").read_text()
    assert outcome.report["schema_version"] == SCHEMA_VERSION
    assert outcome.report["comparisons"] == sum(len(e["comparisons"]) for e in outcome.report["experiments"])


def test_markdown_has_table_failures_and_headroom(run_crosscheck: RunCrosscheck, fake: Edit, tmp_path: Path):
    run_crosscheck(
        fake(("    loss = sum(", "    found['head.bias'] = found['head.bias'] * (1 + 1e-6)\n    loss = sum("))
    )
    text = (tmp_path / "report" / "report.md").read_text()
    assert f"| experiment | {' | '.join(check.NAME for check in BY_DEFAULT)} |" in text
    assert "**FAIL**" in text
    assert "- tensor: `loss`" in text
    assert "- reproduce: `python -m crosscheck" in text
    assert "<summary>Headroom</summary>" in text
    assert text.index("**FAIL**") < text.index("<summary>Headroom")


def test_the_reproducing_command_reproduces(run_crosscheck: RunCrosscheck, fake: Edit):
    second = fake(("    loss = sum(", "    found['head.bias'] = found['head.bias'] * 2\n    loss = sum("))
    outcome = run_crosscheck(second)
    (line,) = (line for line in outcome.output.splitlines() if line.lstrip().startswith("reproduce"))
    words = shlex.split(line.split(maxsplit=1)[1])
    assert words[:3] == ["python", "-m", "crosscheck"]
    again = run_crosscheck(second, *words[words.index("--checks") : words.index("--implementations")])
    assert again.failures()[0] == outcome.failures()[0]
    asked = {(c["check"], c["precision"], c["case"]) for c in again.report["experiments"][0]["comparisons"]}
    assert asked == {("gradients", "float64", "own")}


@pytest.mark.parametrize("seed", ["-1", str(2**32)])
def test_a_seed_that_no_generator_takes(seed: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as raised:
        main(["hello-gru", f"--seed={seed}"])
    assert raised.value.code == 2
    assert f"--seed: expected 0 to {2**32 - 1}, got {seed}" in capsys.readouterr().err


def test_a_directory_that_cannot_be_written_to(run_crosscheck: RunCrosscheck, tmp_path: Path):
    (tmp_path / "report").write_text("a file in the way")
    outcome = run_crosscheck()
    assert outcome.exit_code == 2
    assert "--out: expected a directory to write to, got" in outcome.errors


@pytest.mark.parametrize(
    ("options", "condition"),
    [
        (("--choice", "fake_framework.order=backwards"), "('order', 'backwards') in settings.choices"),
        (("--compile",), "settings.compiled"),
    ],
)
def test_how_it_is_computed_is_asked_for_and_reproduced(
    run_crosscheck: RunCrosscheck, fake: Edit, options: tuple[str, ...], condition: str
):
    """An implementation that is wrong in one of its formulations, and right in that of the default."""
    planted = f"    found['head.bias'] = found['head.bias'] * (2 if {condition} else 1)\n    loss = sum("
    second = fake(("    loss = sum(", planted))
    assert run_crosscheck(second, "--checks", "gradients").exit_code == 0
    outcome = run_crosscheck(second, "--checks", "gradients", *options)
    assert outcome.exit_code == 1
    (line,) = (line for line in outcome.output.splitlines() if line.lstrip().startswith("reproduce"))
    assert " ".join(options) in line


def test_a_choice_of_one_side_alone(run_crosscheck: RunCrosscheck, tmp_path: Path):
    other = shutil.copy(FAKE, tmp_path / "other.py")
    assert run_crosscheck(str(other), "--checks", "gradients", "--choice", "other.order=backwards").exit_code == 0


def test_a_choice_is_recorded_and_reported(run_crosscheck: RunCrosscheck, tmp_path: Path, experiment: Path):
    for name in ("one", "two"):
        out = tmp_path / name
        words = ["record", str(FAKE), str(experiment), "--checks", "forward", "--out", str(out)]
        assert main([*words, "--choice", "fake_framework.order=backwards"]) == 0
    assert main(["compare", *(str(tmp_path / name) for name in ("one", "two")), "--out", str(tmp_path / "report")]) == 0
    report = reports.load(tmp_path / "report")
    assert report["options"] == {"compiled": False, "choices": {"fake_framework.order": "backwards"}}


def test_a_case_is_asked_for_by_its_name_alone(run_crosscheck: RunCrosscheck):
    outcome = run_crosscheck(str(FAKE), "--case", "own")
    assert outcome.exit_code == 0
    assert {outcome.status("forward"), outcome.status("gradients")} == {"same"}
    assert outcome.status("trajectory") == "not applicable"
    assert {c["case"] for c in outcome.report["experiments"][0]["comparisons"]} == {"own"}
    assert outcome.report["thorough"] is False


def test_a_crash_among_all_cases_is_reproduced_among_all_cases(run_crosscheck: RunCrosscheck, fake: Edit):
    killed = fake(("    loss = sum(", "    import os\n    os.kill(os.getpid(), 9)\n    loss = sum("))
    outcome = run_crosscheck(killed, "--checks", "gradients", "--thorough")
    (line,) = (line for line in outcome.output.splitlines() if line.lstrip().startswith("reproduce"))
    assert line.endswith("--thorough")
    assert outcome.report["experiments"][0]["blame"]["at_fault"] == killed


def test_a_module_in_the_current_directory(tmp_path: Path, fake: Edit, experiment: Path):
    second = Path(fake())
    command = [sys.executable, "-m", "crosscheck", str(experiment), "--checks", "forward"]
    command += ["--implementations", "fake_framework", "./fake_framework.py"]
    done = subprocess.run(command, cwd=second.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "fake_framework against ./fake_framework.py" in done.stdout
    assert "ok short: " in done.stderr
    assert "recorded in" in done.stderr


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Who was started in the background by a shell ignores SIGINT, and so would those that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_interrupting_ends_the_workers(fake: Edit, experiment: Path, interruptible: None):
    slow = fake(("import numpy as np\n", "import time\n\nimport numpy as np\ntime.sleep(60)\n"))
    command = [sys.executable, "-m", "crosscheck", str(experiment), "--implementations", slow, slow]
    process = subprocess.Popen(command, cwd=Path(slow).parent, stderr=subprocess.PIPE, text=True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        pytest.skip("no list of a process's children on this system")
    workers: list[str] = []
    while len(workers) < 2 and process.poll() is None:
        # Threads start the workers, so they are spread over the parent's tasks.
        tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
        workers = [worker for task in tasks for worker in task.read_text().split()]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.strip().endswith("interrupted")
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]
