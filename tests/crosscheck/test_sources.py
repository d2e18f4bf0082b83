"""What an implementation's process reads is seen, and what is not seen makes its recordings unfit to be kept."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from crosscheck.recording.packages import Packages
from crosscheck.recording.places import ABSENT, Places, importable, signature
from crosscheck.recording.sources import Sources, unchanged
from spec import cache, parameters

pytestmark = pytest.mark.own_processes

ROOT = Path(__file__).parents[2]

WATCHED = """
import sys
import msgspec
from crosscheck.recording import implementation
from crosscheck.recording.sources import Unfit, Watch
watch = Watch("./ported.py")
import importlib
sys.path.insert(0, ".")
import ported
if hasattr(ported, "late"):
    ported.late()
try:
    print("\\n" + msgspec.json.encode(watch.found()).decode())
except Unfit as error:
    print("\\nunfit: " + str(error))
"""

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules are searched here as in the processes that are watched."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def old(tmp_path: Path) -> Write:
    """A file that has been there for a while."""

    def write(name: str, content: str | bytes = b"") -> Path:
        path = tmp_path / "port" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        os.utime(path, (time.time() - 60,) * 2)
        return path

    return write


def watched(folder: Path, **environment: str) -> str:
    """The last line of a process that has watched itself importing ported.py."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED],
        cwd=folder,
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.by_default(
    "import ctypes*",
    "*numpy.ctypeslib*",
    "*os.fork*",
    "import subprocess*",
    "import multiprocessing*",
    "import sqlite3*",
    "import os?nlen*",
    "*dir_fd*",
    "*touch*",
    "*xxlimited*",
    "*__import__*",
    "*safetensors.numpy*",
)
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import ctypes", "imports ctypes"),
        ("import numpy as np\nnp.ctypeslib", "names np.ctypeslib"),
        ("from numpy.ctypeslib import load_library", "imports ctypeslib"),
        ("import importlib\nimportlib.import_module('ctypes').CDLL(None)", "calls native code (ctypes.dlopen)"),
        ("__import__('c' + 'types').CDLL(None)", "calls native code (ctypes.dlopen)"),
        ("import os\nif os.fork() == 0: os._exit(0)\nos.wait()", "starts a process (os.fork)"),
        ("import subprocess\nsubprocess.run(['true'])", "starts a process (subprocess.Popen)"),
        ("import os\nos.system('true')", "starts a process (os.system)"),
        ("import os\nos.popen('true').read()", "starts a process (subprocess.Popen)"),
        ("import os\nos.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)", "starts a process (os.posix_spawn)"),
        (
            "import subprocess, threading\nt = threading.Thread(target=subprocess.run, args=(['true'],))\n"
            "t.start()\nt.join()",
            "starts a process (subprocess.Popen)",
        ),
        ("import multiprocessing", "imports multiprocessing"),
        ("from concurrent.futures import ProcessPoolExecutor", "imports ProcessPoolExecutor"),
        ("import platform\nplatform.uname().processor", "starts a process (subprocess.Popen)"),
        ("import socket\nsocket.socket().close()", "reads from elsewhere than files (socket.__new__)"),
        ("import sqlite3", "imports sqlite3"),
        ("import safetensors", "imports safetensors"),
        ("def late():\n    from safetensors.numpy import load_file", "imports safetensors"),
        ("import importlib\nimportlib.import_module('safetensors.numpy')", "names safetensors.numpy"),
        ("import rich.console", "imports rich"),
        ("import os\nfor name in os.environ: pass", "goes through the whole environment"),
        ("import os\nlen(os.environ)", "goes through the whole environment"),
        ("import os\nos.environ._data.get(b'SCALE')", "names os.environ._data"),
        ("import posix\nposix.environ", "imports posix"),
        ("import _posixsubprocess", "imports _posixsubprocess"),
        (
            "import os\nhandle = os.open('folder', os.O_RDONLY)\nos.open('count', os.O_RDONLY, dir_fd=handle)",
            "opens by a handle of a folder (dir_fd)",
        ),
        ("import os\ndict(os.environb)", "goes through the whole environment"),
        ("open('/proc/self/status').read()", "reads /proc/self/status"),
        ("import os\nos.listdir('.')\nopen('count', 'r+').write('2')", "changes "),
        ("open('count').read()\nopen('count', 'a').write('2')", "changes "),
        (
            "import os\nhandle = os.open('folder', os.O_RDONLY)\nos.open('hidden', os.O_RDONLY, dir_fd=handle)",
            "opens hidden by a handle of its folder",
        ),
        ("import pathlib\npathlib.Path(__file__).touch()", "has changed while it ran"),
        ("x = None\nx and x.jit.load", "names x.jit.load"),
        ("def read(torch): torch.UntypedStorage.from_file", "names torch.UntypedStorage.from_file"),
        ("import xxlimited", ".so is compiled"),
    ],
)
def test_what_is_not_seen_is_not_vouched_for(old: Write, source: str, reason: str):
    folder = old("count", "1").parent
    (folder / "folder").mkdir()
    (folder / "folder" / "hidden").write_text("")
    (folder / "folder" / "count").write_text("")
    if "xxlimited" in source:
        found = list(Path(sysconfig.get_path("stdlib"), "lib-dynload").glob("xxlimited.*.so"))
        if not found:
            pytest.skip("this Python brings no module to copy")
        shutil.copy(found[0], folder)
        os.utime(folder / found[0].name, (1, 1))
    line = watched(old("ported.py", source).parent)
    assert line.startswith("unfit: ")
    assert reason in line


SEEN = {
    "open": ("open('data', 'rb').read()", "data"),
    "pathlib": ("import pathlib\npathlib.Path('data').read_bytes()", "data"),
    "os.open": ("import os\nos.read(os.open('data', os.O_RDONLY), 9)", "data"),
    "numpy.fromfile": ("import numpy as np\nnp.fromfile('data', np.uint8)", "data"),
    "numpy.memmap": ("import numpy as np\nnp.memmap('data', np.uint8, 'r')", "data"),
    "mmap": ("import mmap\nf = open('data', 'rb')\nmmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)", "data"),
    "numpy.load": ("import numpy as np\nnp.load('array.npy')", "array.npy"),
    "spec.parameters": (
        "import pathlib\nfrom spec import parameters\nparameters.load(pathlib.Path('w.safetensors'))",
        "w.safetensors",
    ),
    "a module": ("import helper", "helper.py"),
    "code that is run": ("exec(open('data').read())", "data"),
    "not there": ("import contextlib\nwith contextlib.suppress(OSError): open('absent')", "absent"),
}


@pytest.mark.by_default("open", "mmap", "a module", "not there", "numpy.load")
@pytest.mark.parametrize("way", SEEN)
def test_what_is_read_is_seen(old: Write, monkeypatch: pytest.MonkeyPatch, way: str):
    source, name = SEEN[way]
    old("data", "1 + 1")
    old("helper.py", "")
    np.save(old("array.npy"), np.zeros(3))
    parameters.save(old("w.safetensors"), {"x": np.zeros(3)})
    folder = old("ported.py", source).parent
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    found = json.loads(watched(folder))
    assert f"implementation:{name}" in found["files"]
    monkeypatch.chdir(folder)
    then = json_to_sources(found)
    assert unchanged(then, Places("./ported.py"), Packages(), {})
    (folder / name).write_bytes((folder / name).read_bytes() + b"\n" if (folder / name).exists() else b"")
    assert not unchanged(then, Places("./ported.py"), Packages(), {})


def json_to_sources(found: dict[str, object]) -> Sources:
    import msgspec

    return msgspec.convert(found, Sources)


def test_what_a_library_opens_would_be_missed(old: Write, tmp_path: Path):
    """The reason for all of this: no event tells of a file that native code opens."""
    weights = tmp_path / "w.safetensors"
    save_file({"x": np.zeros(3)}, weights)
    events: list[str] = []
    program = (
        "import sys\nfrom safetensors.numpy import load_file\nseen = []\n"
        "sys.addaudithook(lambda event, given: seen.append(str(given)))\n"
        f"load_file({str(weights)!r})\nprint(any('w.safetensors' in text for text in seen))"
    )
    events += subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert events == ["False"]


def test_the_environment(old: Write, monkeypatch: pytest.MonkeyPatch):
    folder = old(
        "ported.py", "import os\nA = os.environ.get('SCALE')\nB = os.getenv('NONE', 'x')\nC = 'Q' in os.environ"
    ).parent
    found = json.loads(watched(folder, SCALE="2"))
    assert found["variables"] == {"NONE": "", "Q": "", "SCALE": "2"}
    monkeypatch.chdir(folder)
    then = json_to_sources(found)
    monkeypatch.setenv("SCALE", "2")
    assert unchanged(then, Places("./ported.py"), Packages(), {})
    monkeypatch.setenv("SCALE", "3")
    assert not unchanged(then, Places("./ported.py"), Packages(), {})


LOOKED = {
    "exists": ("import os\nos.path.exists('below/new')", lambda below: (below / "new").write_text("")),
    "pathlib": ("from pathlib import Path\nPath('below/new').is_file()", lambda below: (below / "new").write_text("")),
    "access": ("import os\nos.access('below/new', os.R_OK)", lambda below: (below / "new").write_text("")),
    "a folder": ("import os\nos.path.isdir('below/new')", lambda below: (below / "new").mkdir()),
    "a size": ("import os\nos.stat('below/data').st_size", lambda below: (below / "data").write_text("longer")),
    "a link": ("import os\nos.readlink('below/link')", lambda below: relink(below / "link")),
    "listed": ("import os\nos.listdir('below')", lambda below: (below / "new").mkdir()),
    "a pattern": ("import glob\nglob.glob('below/*')", lambda below: (below / "new").mkdir()),
    "listed by a handle": (
        "import os\nos.listdir(os.open('below', os.O_RDONLY))",
        lambda below: (below / "new").write_text(""),
    ),
    "in front of a module": (
        "import sys\nsys.path[:0] = ['below', 'beside']\nimport extra\ndel sys.path[:2]",
        lambda below: (below / "extra.py").write_text(""),
    ),
    "in place of none": (
        "import sys\nsys.path[:0] = ['below']\ntry:\n    import lacking\nexcept ImportError:\n    pass",
        lambda below: (below / "lacking").mkdir(),
    ),
}


def relink(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere")


@pytest.mark.by_default("a pattern", "listed", "exists", "a link")
@pytest.mark.parametrize("way", LOOKED)
def test_what_is_looked_at_is_seen(old: Write, monkeypatch: pytest.MonkeyPatch, way: str):
    """A choice by what stands there, none of which is opened, and none of which stands next to a module."""
    source, change = LOOKED[way]
    resolved = "from pathlib import Path\nHERE = Path(__file__).resolve().parent\n"
    folder = old("ported.py", resolved + source).parent
    for name in ("below", "beside"):
        (folder / name).mkdir()
    (folder / "below" / "data").write_text("1")
    (folder / "below" / "link").symlink_to("data")
    (folder / "beside" / "extra.py").write_text("")
    os.utime(folder / "beside" / "extra.py", (1, 1))
    then = json_to_sources(json.loads(watched(folder)))
    # Where the tree stands is no matter.
    assert not any(name.startswith("/") and Path(name) in folder.parents for name in then.looked)
    monkeypatch.chdir(folder)
    assert unchanged(then, Places("./ported.py"), Packages(), {})
    change(folder / "below")
    assert not unchanged(then, Places("./ported.py"), Packages(), {})


def test_what_it_sets_itself_is_no_matter(old: Write, monkeypatch: pytest.MonkeyPatch):
    folder = old(
        "ported.py",
        "import os\nos.environ.setdefault('SCALE', '1')\nos.environ['OTHER'] = '2'\nos.environ['OTHER']\n"
        "os.environ['OMP_NUM_THREADS']",
    ).parent
    then = json_to_sources(json.loads(watched(folder, OMP_NUM_THREADS="1")))
    assert then.variables == {"OTHER": "", "SCALE": ""}
    monkeypatch.chdir(folder)
    assert unchanged(then, Places("./ported.py"), Packages(), {})
    monkeypatch.setenv("SCALE", "3")
    assert not unchanged(then, Places("./ported.py"), Packages(), {})


def test_a_module_that_comes_to_stand_in_the_way(old: Write, monkeypatch: pytest.MonkeyPatch):
    folder = old("ported.py", "try:\n    import fast_kernels\nexcept ImportError:\n    pass\nimport colorsys").parent
    then = json_to_sources(json.loads(watched(folder)))
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert unchanged(then, Places(str(folder / "ported.py")), Packages(), {})
    (elsewhere / "of_no_interest.py").write_text("")
    (elsewhere / "notes.txt").write_text("")
    assert unchanged(then, Places(str(folder / "ported.py")), Packages(), {})
    for name in ("colorsys.py", "fast_kernels.py"):
        (elsewhere / name).write_text("")
        assert not unchanged(then, Places(str(folder / "ported.py")), Packages(), {})
        (elsewhere / name).unlink()
    site = folder.parent / "site-packages"
    (site / "fast_kernels").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(site))
    assert not unchanged(then, Places(str(folder / "ported.py")), Packages(), {})


def test_what_is_compiled_is_set_aside(old: Write, tmp_path: Path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "program").write_text("")
    folder = old("ported.py", f"import os\nplace = os.environ[{cache.VARIABLE!r}]\nopen(place + '/program')").parent
    found = json.loads(watched(folder, **{cache.VARIABLE: str(kept)}))
    assert not any("program" in name for name in found["files"])


def test_a_file_asked_for_by_its_whole_path_is_that_one(old: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is not another one that has its name and its old content where somebody happens to work."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").write_text("1")
        os.utime(tmp_path / name / "data", (1, 1))
    port = old("ported.py", f"open({str(tmp_path / 'one' / 'data')!r}).read()")
    done = subprocess.run(
        [sys.executable, "-c", WATCHED.replace("./ported.py", str(port)).replace('"."', repr(str(port.parent)))],
        cwd=tmp_path / "one",
        check=True,
        capture_output=True,
        text=True,
    )
    then = json_to_sources(json.loads(done.stdout.splitlines()[-1]))
    monkeypatch.chdir(tmp_path / "two")
    assert unchanged(then, Places(str(port)), Packages(), {})
    (tmp_path / "one" / "data").write_text("2")
    assert not unchanged(then, Places(str(port)), Packages(), {})


def test_signatures(tmp_path: Path):
    path = tmp_path / "file"
    assert signature(str(path)) == ABSENT
    path.write_text("one")
    one = signature(str(path))
    os.utime(path, (1, 1))
    assert signature(str(path)) == one
    path.write_text("two")
    assert signature(str(path)) not in (one, ABSENT)


def test_a_folder(tmp_path: Path):
    """A new module may stand in another one's way; a report or a run directory does not."""
    before = signature(str(tmp_path))
    (tmp_path / "crosscheck-report").mkdir()
    (tmp_path / "crosscheck-report" / "report.md").write_text("")
    assert signature(str(tmp_path)) == before
    (tmp_path / "numpy.py").write_text("")
    with_module = signature(str(tmp_path))
    assert with_module != before
    (tmp_path / "crosscheck-report" / "__init__.py").write_text("")
    assert signature(str(tmp_path)) not in (before, with_module)
    assert importable(str(tmp_path)) == {"numpy"}


def installed(site: Path, script: str = "/usr/bin/python", content: str = "SCALE = 1\n") -> Path:
    """A distribution as an installer leaves it."""
    module = site / "scale_of" / "__init__.py"
    module.parent.mkdir(parents=True)
    module.write_text(content)
    digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
    record = site / "scale_of-1.0.dist-info" / "RECORD"
    record.parent.mkdir()
    shebang = hashlib.sha256(script.encode()).hexdigest()
    record.write_text(
        f"scale_of/__init__.py,sha256={digest},{len(content)}\n../../../bin/scale,sha256={shebang},{len(script)}\n"
        f"scale_of/__pycache__/__init__.cpython-311.pyc,,\nscale_of-1.0.dist-info/RECORD,,\n"
        f"scale_of-1.0.dist-info/direct_url.json,sha256={shebang},9\n"
    )
    return module


def test_a_package_is_known_by_the_hashes_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sites = [tmp_path / name / "site-packages" for name in ("one", "two", "three")]
    ones = installed(sites[0])
    # Another prefix, another day.
    twos = installed(sites[1], script="/elsewhere/bin/python")
    os.utime(twos, (1, 1))
    installed(sites[2], content="SCALE = 2\n")
    name = "scale_of-1.0.dist-info"

    def of(site: Path) -> str:
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(site))
            found = Packages()
            assert found.owners(str(site / "scale_of" / "__init__.py")) == {name}
            assert found.owners(str(site / "another.py")) is None
            return found.signature(name)

    assert of(sites[0]) == of(sites[1]) != of(sites[2])
    # Edited in its place: neither its size nor its RECORD says so, but its time does.
    ones.write_text("SCALE = 3\n")
    os.utime(ones, (time.time() + 60,) * 2)
    edited = of(sites[0])
    assert edited not in (of(sites[1]), of(sites[2]))
    ones.write_text("SCALE = 1\n")
    os.utime(ones, (time.time() + 60,) * 2)
    assert of(sites[0]) == of(sites[1])
    ones.unlink()
    assert of(sites[0]) not in (edited, of(sites[1]))
    assert Packages().signature(name) == ABSENT
