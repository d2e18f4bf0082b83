"""A BERT of 12 layers and 768 units, 110 million parameters, against its port: all checks, and what they take.

Asserts that they take 10 minutes and 14 GB at most. A busy machine takes longer, so it is CPU seconds that are held
against the 10 minutes; threads that wait for work sleep meanwhile.

As a command: python tests/large_pair.py [LAYERSxWIDTH]
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import reports

FILE = Path(__file__).parent / "pairs" / "files" / "bert.py"
FULL = "12x768"
SECONDS, BYTES = 600.0, 14e9
PARAMETERS = 109e6
TICK = os.sysconf("SC_CLK_TCK")


class Tree:
    """What a process and all that it starts take, looked at while it runs. Linux only.

    peak: bytes at once, each process's resident memory added up, so that what two share counts twice. seconds: of CPU.
    """

    def __init__(self, root: int) -> None:
        self.root, self.peak, self.by_name = root, 0, {}
        self.spent: dict[int, float] = {}

    @property
    def seconds(self) -> float:
        return sum(self.spent.values())

    def look(self) -> None:
        children: dict[int, list[int]] = defaultdict(list)
        held: dict[int, tuple[int, str]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    pages = int((entry / "statm").read_text().split()[1])
                    words = (entry / "cmdline").read_text().split("\0")
                except (OSError, IndexError):
                    continue
                children[int(fields[1])].append(int(entry.name))
                name = {"0": "original", "1": "port"}.get(words[-3] if len(words) > 3 else "", "crosscheck")
                held[int(entry.name)] = pages * os.sysconf("SC_PAGE_SIZE"), name
                if int(entry.name) in self.spent or int(entry.name) == self.root or int(fields[1]) in self.spent:
                    self.spent[int(entry.name)] = (int(fields[11]) + int(fields[12])) / TICK
        waiting, found = [self.root], defaultdict(int)
        while waiting:
            one = waiting.pop()
            waiting += children[one]
            size, name = held.get(one, (0, ""))
            found[name] += size
        if sum(found.values()) > self.peak:
            self.peak, self.by_name = sum(found.values()), dict(found)


def main(size: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "crosscheck", "pair", str(FILE), "--out", str(out)]
        command += ["--map", str(Path(folder) / "bert.map.toml")]
        begin = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=FILE.parents[3],
            env={**os.environ, "BERT": size, "OMP_WAIT_POLICY": "PASSIVE"},
            stderr=subprocess.PIPE,
            text=True,
        )
        tree = Tree(process.pid)
        complained: list[str] = []

        def read() -> None:
            assert process.stderr is not None
            for line in process.stderr:
                complained.append(line)
                print(f"{time.monotonic() - begin:6.0f} s {line}", end="", file=sys.stderr, flush=True)

        reader = threading.Thread(target=read)
        reader.start()
        while process.poll() is None:
            tree.look()
            time.sleep(0.25)
        reader.join()
        wall = time.monotonic() - begin
        each = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in sorted(tree.by_name.items()) if size)
        print(f"{wall:.0f} s, {tree.seconds:.0f} s of CPU, {tree.peak / 1e9:.2f} GB at most ({each})")
        assert process.returncode == 0, process.returncode
        report = reports.load(out)
    cells = {cell["check"]: cell for cell in report["cells"]}
    checked = ("structure", "forward", "loss", "gradients", "optimizer", "trajectory", "initialization")
    assert all(cells[name]["status"] == "same" for name in checked), cells
    assert cells["trajectory"]["reason"].startswith("5 steps"), cells["trajectory"]
    runs = "1 perturbed run" if size == FULL else "2 perturbed runs"
    assert runs in cells["trajectory"]["reason"], cells["trajectory"]
    assert sum(line.startswith("[") for line in complained) == len(cells), "a line of progress for each check"
    if size == FULL:
        assert report["sides"][0]["numbers"] > PARAMETERS, report["sides"]
        assert tree.peak <= BYTES, f"expected {BYTES / 1e9:g} GB at most, got {tree.peak / 1e9:.2f}"
        assert tree.seconds <= SECONDS, f"expected {SECONDS:g} s of CPU at most, got {tree.seconds:.0f}"
    return 0


if __name__ == "__main__":
    sys.exit(main(*(sys.argv[1:] or [FULL])))
