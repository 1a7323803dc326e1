"""Contenders side by side: processes of their own that take turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.peers import _environment
from benchmarks.peers._worlds import movielens, pack, samples_of, synthetic
from headrace.log import write_log

ROOT = Path(__file__).parents[2]
TEST_SHARE = {"items_100k": 0.06, "movielens": 0.15}  # of the log's span, its end
MODELS = {
    "din": ("fuxictr", "deepctr_torch", "torch_rechub", "recbole", "librecommender"),
    "dien": ("fuxictr", "deepctr_torch", "torch_rechub"),
    "sim": ("fuxictr",),
}


def _pin(cores: int) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


@dataclass(frozen=True)
class Cell:
    """What is measured side by side."""

    data: str
    model: str
    length: int
    threads: int
    sizes: tuple[int, ...]  # of batches

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.model}, {self.data}, L = {self.length}, threads = {self.threads}"


@dataclass
class Contender:
    """A process at work."""

    name: str
    process: subprocess.Popen[str]
    said: Path  # what it wrote to stderr
    about: dict[str, Any] = field(default_factory=dict[str, Any])

    def ask(self, **order: Any) -> dict[str, Any]:
        """Give an order, wait for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next line it prints. Raises RuntimeError with its last words if it has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        lines = [x for x in self.said.read_text().splitlines() if x.strip()]
        raise RuntimeError(f"{self.name}: {(lines or ['ended without a word'])[-1][:200]}")

    def end(self) -> None:
        """Let it go."""
        self.process.communicate()


class Arena:
    """Everything that contenders need to be started."""

    def __init__(self, folder: Path, peers: Path) -> None:
        self.folder = folder
        self.python, self.unavailable = _environment.ready(peers)
        self.networks: dict[str, dict[str, Any]] = {}

    def make(self, name: str) -> None:
        """Write one data set: the log, and the packed samples out of it."""
        if name == "movielens":
            [inside] = self.python.parents[1].glob("lib/*/site-packages/recbole")
            raw = movielens(inside / "dataset_example" / "ml-100k")
        else:
            raw = synthetic(1, users=10_000, items=100_000, samples=100_000)
        log = write_log(self.folder / name, raw, name)
        days = (log.manifest.last_ms - log.manifest.first_ms) / 86_400_000
        samples = samples_of(log, {"history": 100}, TEST_SHARE[name] * days)
        pack(samples).save(self.folder / f"{name}.npz")

    def start(self, cell: Cell) -> list[Contender]:
        """Start ours and every peer that has the model; those that cannot start are noted."""
        started: list[Contender] = []
        names = ("ours", *(n for n in MODELS[cell.model] if n not in self.unavailable))
        for contender in [self._spawn(name, cell) for name in names]:
            name = contender.name
            try:
                contender.about = contender.answer()
            except RuntimeError as error:
                contender.end()
                if name == "ours":
                    raise
                self.unavailable[name] = str(error)
                continue
            self.networks.setdefault(cell.model, {})[name] = contender.about
            started.append(contender)
        return started

    def _spawn(self, name: str, cell: Cell) -> Contender:
        ours, data = name == "ours", self.folder / cell.data
        command = [sys.executable if ours else str(self.python), "-P", "-m"]
        command += [f"benchmarks.peers.{name}", "--data", f"{data}.npz", "--log", str(data)]
        command += ["--model", cell.model, "--length", str(cell.length)]
        command += ["--threads", str(cell.threads)]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *([str(ROOT / "src")] if ours else [])]),
            "OMP_NUM_THREADS": str(cell.threads),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        said = self.folder / f"{name}.log"
        with said.open("w") as log:
            pipe = subprocess.PIPE
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=pipe,
                stdout=pipe,
                stderr=log,
                text=True,
                # before anything is imported: threads made later inherit it, earlier ones do not
                preexec_fn=partial(_pin, cell.threads),
            )
        return Contender(name, process, said)
