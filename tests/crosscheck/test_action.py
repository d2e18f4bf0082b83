"""The composite action: its steps are taken from its YAML and run in a repository of somebody else's."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FAKE = Path(__file__).parent / "fake_framework.py"
ACTION = ROOT / ".github" / "actions" / "crosscheck"
WORKFLOW = ROOT / ".github" / "workflows" / "crosscheck.yml"
PAIR = ROOT / "tests" / "pairs" / "files" / "perceptron.py"
ZIZMOR = shutil.which("zizmor", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")

BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
"""How GitHub runs a step whose shell is bash."""

EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
WORDS = re.compile(r"'[^']*'|[A-Za-z_][\w.-]*|&&|\|\||!=|==|!|[()]")
OPERATORS = {"&&": "and", "||": "or", "!": "not"}


class Runner:
    """What of GitHub's runner the action needs. inputs: as a workflow's `with` gives them.

    folder: holds what the runner keeps; its `work` is the repository. uses: the actions of others that were used.
    """

    def __init__(self, folder: Path, inputs: dict[str, str], variables: dict[str, str] | None = None) -> None:
        action = yaml.safe_load((ACTION / "action.yml").read_text())
        assert inputs.keys() <= action["inputs"].keys()
        given = {name: row.get("default", "") for name, row in action["inputs"].items()}
        self.folder, self.work = folder, folder / "work"
        self.context: dict[str, Any] = {
            "inputs": given | inputs,
            "github": {"run_id": "1", "run_attempt": "1"},
            "runner": {"temp": str(folder / "temp"), "os": "Linux", "arch": "X64"},
            "steps": {},
        }
        for name in ("temp", "home", "cached", "artifacts"):
            (folder / name).mkdir(exist_ok=True)
        self.summary, self.printed, self.failed = "", "", False
        self.uses: list[str] = []
        self.codes: dict[str, int] = {}
        kept: list[tuple[Path, Path]] = []
        for step in action["runs"]["steps"]:
            if not self.wanted(step.get("if", "")):
                continue
            if "uses" in step:
                self.use(step, kept)
            else:
                self.run(step, variables or {})
        for path, place in kept:
            if path.exists():
                shutil.copytree(path, place, dirs_exist_ok=True)
        self.outputs = {name: self.told(row["value"]) for name, row in action["outputs"].items()}

    def wanted(self, condition: str) -> bool:
        """Whether the step runs: where it says nothing of the ones before it, only if all went well."""
        anyway = "always()" in condition
        return (anyway or not self.failed) and (not condition or self.evaluate(condition) not in (False, ""))

    def evaluate(self, expression: str) -> Any:
        words = WORDS.findall(expression.replace("always()", "'true'"))
        assert "".join(words) == "".join(expression.replace("always()", "'true'").split()), expression
        program = [OPERATORS.get(word) or (word if word[0] in "'(=)!" else repr(self.look(word))) for word in words]
        return eval(" ".join(program), {"__builtins__": {}})

    def look(self, name: str) -> str:
        found: Any = self.context
        for part in name.split("."):
            # What nobody has set is empty.
            found = found.get(part, {} if found is self.context or isinstance(found, dict) else "")
        return found if isinstance(found, str) else ""

    def told(self, value: str) -> str:
        return EXPRESSION.sub(lambda found: str(self.evaluate(found[1])), value)

    def use(self, step: dict[str, Any], kept: list[tuple[Path, Path]]) -> None:
        name = step["uses"].partition("@")[0]
        given = {key: self.told(value) for key, value in step["with"].items()}
        self.uses.append(name)
        if name == "actions/cache":
            assert given["key"].startswith(given["restore-keys"])
            for number, line in enumerate(given["path"].split()):
                path = Path(line.replace("~", str(self.folder / "home")))
                place = self.folder / "cached" / str(number)
                if place.exists():
                    shutil.copytree(place, path, dirs_exist_ok=True)
                kept.append((path, place))
        elif name == "actions/upload-artifact":
            if (self.work / given["path"]).exists():
                shutil.copytree(self.work / given["path"], self.folder / "artifacts" / given["name"])
            else:
                assert given["if-no-files-found"] == "ignore"
        else:
            assert name == "actions/setup-python"
            assert given["python-version"]

    def run(self, step: dict[str, Any], variables: dict[str, str]) -> None:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"]
        files = {name: self.folder / name for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
        for file in files.values():
            file.write_text("")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "PYTHONPATH": str(ROOT),
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
            "GITHUB_ACTION_PATH": str(ACTION),
            "GITHUB_WORKSPACE": str(self.work),
            "GITHUB_SHA": "0123456789abcdef",
            **{name: str(file) for name, file in files.items()},
            **{name: self.told(value) for name, value in step.get("env", {}).items()},
            **variables,
        }
        done = subprocess.run(
            [*BASH, "-c", step["run"]], cwd=self.work, env=environment, capture_output=True, text=True, timeout=300
        )
        self.printed += done.stdout + done.stderr
        self.summary += files["GITHUB_STEP_SUMMARY"].read_text()
        told = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines())
        self.context["steps"][step.get("id", step["name"])] = {"outputs": told}
        self.codes[step["name"]] = done.returncode
        self.failed = self.failed or done.returncode != 0

    @property
    def annotations(self) -> list[str]:
        return re.findall(r"^::(?:error|warning) .*$", self.printed, re.MULTILINE)


@pytest.fixture
def repository(tmp_path: Path, experiment: Path) -> Path:
    """Somebody's, with an experiment and an implementation of it that is right and one that is wrong."""
    work = tmp_path / "work"
    work.mkdir()
    shutil.move(experiment, work)
    right = FAKE.read_text()
    wrong = right.replace("    loss = sum(", "    found['head.bias'] = found['head.bias'] * 2\n    loss = sum(")
    assert wrong != right
    (work / "right.py").write_text(right)
    (work / "wrong.py").write_text(wrong)
    return tmp_path


def compared(folder: Path, second: str = "right.py", variables: dict[str, str] | None = None, **inputs: str) -> Runner:
    arguments = f"--implementations ./right.py ./{second}\n --checks gradients"
    given = {"python": sys.executable, "experiments": "short.toml", "arguments": arguments} | inputs
    return Runner(folder, given, variables)


def test_what_is_the_same_twice(repository: Path) -> None:
    """The second run has the first one's recordings, says what changed since, and goes on with its history."""
    (repository / "work" / "also.py").write_text((repository / "work" / "right.py").read_text())
    first = compared(repository, "also.py")
    assert first.outputs == {"exit-code": "0", "report": "crosscheck-report"}, first.printed
    assert set(first.codes.values()) == {0}
    assert "THE SAME" in first.summary
    assert "What changed" not in first.summary
    assert first.annotations == []
    assert first.uses == ["actions/cache", "actions/upload-artifact"]
    left = repository / "artifacts" / "crosscheck-report"
    assert {"report.json", "report.md", "history.jsonl", "history.svg", "badge.svg", "badge.json"} <= {
        path.name for path in left.iterdir()
    }
    shutil.rmtree(repository / "work" / "crosscheck-report")
    shutil.rmtree(repository / "home")
    shutil.rmtree(repository / "temp")
    shutil.rmtree(repository / "artifacts")
    second = compared(repository, "also.py", title="Again")
    assert second.outputs["exit-code"] == "0"
    assert second.summary.startswith("# Again\n")
    assert "nothing changed" in second.summary
    assert "recorded by an earlier run" in second.printed
    lines = [json.loads(line) for line in (left / "history.jsonl").read_text().splitlines()]
    assert [line["commit"] for line in lines] == ["0123456789abcdef"] * 2
    assert json.loads((left / "badge.json").read_text())["color"] == "brightgreen"


@pytest.mark.long
def test_what_differs_fails_and_is_told_beside_the_code(repository: Path) -> None:
    assert compared(repository).codes["verdict"] == 0
    shutil.rmtree(repository / "artifacts")
    # As GitHub's runners are, so that the page is made too.
    ran = compared(repository, "wrong.py", {"CI": "true", "GITHUB_ACTIONS": "true"})
    assert ran.outputs["exit-code"] == "1", ran.printed
    assert ran.codes == {"compare": 0, "summary, annotations, history": 0, "verdict": 1}
    assert "DIFFERENT" in ran.summary
    assert "all of it | " in ran.summary.replace("`", "")
    assert "**worse**" in ran.summary
    assert 1 <= len(ran.annotations) <= 10
    assert ran.annotations[0].startswith("::error ")
    assert "gradients" in ran.annotations[0]
    left = repository / "artifacts" / "crosscheck-report"
    assert {"report.json", "report.html", "junit.xml"} <= {path.name for path in left.iterdir()}
    assert json.loads((repository / "artifacts" / "crosscheck-report" / "badge.json").read_text())["color"] == "red"


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ({"experiments": "no-such-experiment"}, 2),
        ({"pair": "no-such-pair.py"}, 2),
        ({"experiments": "$(touch$IFS./planted) `touch planted` ; touch planted"}, 2),
        ({"arguments": "--checks forward ; touch planted #"}, 2),
        ({"pair": "$(touch planted).py"}, 2),
        ({"arguments": "--implementations right.py also-not-there.py"}, 2),
    ],
)
def test_without_a_verdict_it_fails_as_the_command_does(repository: Path, inputs: dict[str, str], code: int) -> None:
    stale = repository / "work" / "crosscheck-report"
    stale.mkdir()
    (stale / "report.md").write_text("an older run's")
    (stale / "report.json").write_text("{}")
    ran = compared(repository, **inputs)
    assert ran.codes["verdict"] == code == int(ran.outputs["exit-code"])
    (line,) = ran.annotations
    assert line == f"::error title=crosscheck::crosscheck came to no verdict (exit code {code}); the log says why"
    assert "an older run's" not in ran.summary
    assert f"exit code {code}" in ran.summary
    assert not list(repository.rglob("planted"))


@pytest.mark.long
@pytest.mark.needs("torch", "flax")
def test_somebody_s_pair(repository: Path) -> None:
    (repository / "work" / "my_pair.py").write_text(PAIR.read_text().replace("epsilon=1e-5", "epsilon=1e-3"))
    ran = Runner(repository, {"python": sys.executable, "pair": "my_pair.py", "artifact": "", "cache": "false"})
    assert ran.outputs["exit-code"] == "1", ran.printed
    assert ran.uses == []
    assert "forward" in ran.summary
    assert any("file=my_pair.py,line=" in line for line in ran.annotations), ran.annotations


STUB = """#!/bin/bash
if [ "$1" = -c ]; then echo 3.11; exit 0; fi
if [ "$2" = pip ]; then printf '%s\\n' "$@" >"$HOME/installed"; exit "${INSTALLING:-0}"; fi
exec {python} "$@"
"""


@pytest.fixture
def stub(repository: Path) -> Callable[..., Runner]:
    """Run the action where `python` is one that was just set up, and pip says what it was asked for."""
    place = repository / "bin"
    place.mkdir()
    (place / "python").write_text(STUB.replace("{python}", sys.executable))
    (place / "python").chmod(0o755)

    def run(installing: str = "0", **inputs: str) -> Runner:
        variables = {"PATH": f"{place}:{os.environ['PATH']}", "INSTALLING": installing}
        arguments = "--implementations ./right.py ./right.py --checks gradients"
        return Runner(repository, {"experiments": "short.toml", "arguments": arguments} | inputs, variables)

    return run


@pytest.mark.long
def test_it_sets_a_python_up(repository: Path, stub: Callable[..., Runner]) -> None:
    ran = stub()
    assert ran.outputs["exit-code"] == "0", ran.printed
    assert ran.uses[0] == "actions/setup-python"
    asked = (repository / "home" / "installed").read_text().splitlines()
    assert f"ohlol[torch,flax,crosscheck] @ file://{ROOT}" in asked
    assert asked[-2:] == ["-c", str(ROOT / "constraints" / "3.11.txt")]


@pytest.mark.long
def test_what_a_pair_needs_is_installed_with_it(repository: Path, stub: Callable[..., Runner]) -> None:
    stub(requirements="needs.txt")
    asked = (repository / "home" / "installed").read_text().splitlines()
    assert asked[-2:] == ["-r", "needs.txt"]
    assert "-c" not in asked


def test_an_installation_that_fails_is_no_success(repository: Path, stub: Callable[..., Runner]) -> None:
    ran = stub(installing="1")
    assert "compare" not in ran.codes
    assert ran.codes["verdict"] == 3
    assert "exit code none" in ran.annotations[0]


def steps_that_use_it() -> list[dict[str, Any]]:
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    return [step for step in steps if step.get("uses") == "./.github/actions/crosscheck"]


def test_our_own_workflow_shows_both_of_its_reports() -> None:
    known = yaml.safe_load((ACTION / "action.yml").read_text())["inputs"]
    default, fused = steps_that_use_it()
    for step in (default, fused):
        assert step["with"].keys() <= known.keys()
    assert "if" not in default
    assert "cancelled" in fused["if"]
    for name in ("title", "artifact"):
        assert default["with"][name] != fused["with"][name]
    assert fused["with"]["out"] != known["out"]["default"]


def test_five_lines_of_the_docs_are_a_job_s_steps() -> None:
    text = (ROOT / "docs" / "ci.md").read_text()
    block = text.partition("```yaml\n")[2].partition("```")[0]
    assert len(block.splitlines()) == 5
    steps = yaml.safe_load(block)["steps"]
    (ours,) = [step for step in steps if "crosscheck" in step["uses"]]
    assert ours["with"].keys() <= yaml.safe_load((ACTION / "action.yml").read_text())["inputs"].keys()
    assert set(re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE)) >= (
        yaml.safe_load((ACTION / "action.yml").read_text())["inputs"].keys()
    )


@pytest.mark.skipif(ZIZMOR is None, reason="zizmor is not installed")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("run: exit", 'run: echo "${{ inputs.title }}"; exit'),
        ("runs:\n  using", "run:\n  using"),
        ("actions/cache@v4", "somebody/cache@v4"),
    ],
)
def test_the_linter_sees_what_is_wrong(tmp_path: Path, before: str, after: str) -> None:
    place = tmp_path / ".github"
    shutil.copytree(ROOT / ".github", place)
    file = place / "actions" / "crosscheck" / "action.yml"
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after, 1))
    command = [str(ZIZMOR), "--offline", "--quiet", "--strict-collection", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode == 0) == (not before), done.stdout + done.stderr
