"""Contenders side by side: processes of their own that take turns."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks.peers import _environment
from benchmarks.peers._worlds import movielens, pack, samples_of, synthetic
from headrace.log import write_log

ROOT = Path(__file__).parents[2]
SPIN = "GOMP_SPINCOUNT"  # set for itself by headrace
DEADLINE_S = 600  # of an answer; the longest is learning to the end
TEST_SHARE = {"items_100k": 0.06, "movielens": 0.15}  # of the log's span, its end
MODELS = {
    "din": ("fuxictr", "deepctr_torch", "torch_rechub", "recbole", "librecommender"),
    "dien": ("fuxictr", "deepctr_torch", "torch_rechub"),
    "sim": ("fuxictr",),
}


class Recipe(NamedTuple):
    """What a contender learns at."""

    rate: float = 1e-3  # Adam's, as all have it by default
    start: float = 0.0  # tables begin so many times as wide as Glorot's; 0: as the library has it
    tables: float = 1.0  # headrace's learn at so many times the rate; peers have one rate for all
    warmup: float = 0.0  # steps over which headrace's rates rise

    def __str__(self) -> str:
        """For people, and for ``read``."""
        return ", ".join(f"{name} {value:g}" for name, value in self._asdict().items())

    @classmethod
    def read(cls, text: str) -> Self:
        """What was written by ``str``."""
        parts = dict(part.split() for part in text.split(", "))
        return cls(**{name: float(value) for name, value in parts.items()})


@dataclass(frozen=True)
class Cell:
    """What is measured side by side."""

    data: str
    model: str
    length: int
    threads: int
    sizes: tuple[int, ...]  # of batches
    judged: bool = False  # whether they also learn to the end

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.model}, {self.data}, L = {self.length}, threads = {self.threads}"


class LostError(RuntimeError):
    """A contender that has ended, or does not answer in time."""


@dataclass
class Contender:
    """A process at work."""

    name: str
    process: subprocess.Popen[str]
    answers: int  # file descriptor on which it alone writes, see ``_serve``
    said: Path  # what it and its libraries wrote to stdout and stderr
    about: dict[str, Any] = field(default_factory=dict[str, Any])
    unread: bytes = b""

    def ask(self, **order: Any) -> dict[str, Any]:
        """Give an order, wait for the answer."""
        assert self.process.stdin is not None
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._lost() from None
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next line; LostError, with its last words, if there is none by the deadline.

        Then it stands still, threads that spin included, until it is asked again.
        """
        end = time.monotonic() + DEADLINE_S
        while b"\n" not in self.unread:
            ready, _, _ = select.select([self.answers], [], [], max(0, end - time.monotonic()))
            if not ready:
                self.process.kill()
                raise LostError(f"no answer within {DEADLINE_S} s")
            more = os.read(self.answers, 1 << 16)
            if not more:
                raise self._lost()
            self.unread += more
        line, _, self.unread = self.unread.partition(b"\n")
        self.process.send_signal(signal.SIGSTOP)
        return json.loads(line)

    def _lost(self) -> LostError:
        lines = self.said.read_text(errors="replace").split("\n")
        lines = [x for x in lines if x.strip() and not x.lstrip().startswith("File ")]  # no paths
        status = self.process.wait(timeout=60)  # its pipe is closed; negative is a signal
        return LostError(f"ended with {status}: {(lines or ['without a word'])[-1][:200]}")

    def end(self) -> None:
        """Let it go."""
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.answers)


class Arena:
    """Everything that contenders need to be started."""

    def __init__(self, folder: Path, peers: Path) -> None:
        self.folder = folder
        self.python, self.unavailable = _environment.ready(peers)
        self.networks: dict[str, dict[str, Any]] = {}

    def make(self, name: str) -> None:
        """Write one data set if it is not there: the log, and the packed samples out of it."""
        if (self.folder / f"{name}.npz").exists():
            return
        if name == "movielens":
            [inside] = self.python.parents[1].glob("lib/*/site-packages/recbole")
            raw = movielens(inside / "dataset_example" / "ml-100k")
        else:
            raw = synthetic(1, users=10_000, items=100_000, samples=60_000)
        log = write_log(self.folder / name, raw, name)
        days = (log.manifest.last_ms - log.manifest.first_ms) / 86_400_000
        samples = samples_of(log, {"history": 100}, TEST_SHARE[name] * days)
        pack(samples).save(self.folder / f"{name}.npz")

    def start(
        self,
        cell: Cell,
        seed: int = 1,
        recipes: Mapping[str, Recipe] | None = None,
    ) -> list[Contender]:
        """Start ours and every peer that has the model; those that cannot start are noted.

        recipes: start these alone, and what each learns at.
        """
        self.make(cell.data)
        started: list[Contender] = []
        if recipes is None:
            recipes = dict.fromkeys(("ours", *MODELS[cell.model]), Recipe())
        present = {n: recipe for n, recipe in recipes.items() if n not in self.unavailable}
        for contender in [self._spawn(n, cell, seed, recipe) for n, recipe in present.items()]:
            name = contender.name
            try:
                contender.about = contender.answer()
            except LostError as error:
                self.drop(contender, name, error)
                continue
            self.networks.setdefault(cell.model, {})[name] = contender.about
            started.append(contender)
        return started

    def drop(self, contender: Contender, where: str, error: LostError) -> None:
        """Let go of a contender that is lost and note why; without ours nothing goes on."""
        contender.end()
        if contender.name == "ours":
            raise error
        self.unavailable[where] = str(error)
        print(f"unavailable: {where}: {error}", flush=True)

    def _spawn(self, name: str, cell: Cell, seed: int, recipe: Recipe) -> Contender:
        ours, data = name == "ours", self.folder / cell.data
        command = [sys.executable if ours else str(self.python), "-P", "-m"]
        command += [f"benchmarks.peers.{name}", "--data", f"{data}.npz", "--log", str(data)]
        command += ["--model", cell.model, "--length", str(cell.length)]
        command += ["--threads", str(cell.threads), "--seed", str(seed)]
        for setting, value in recipe._asdict().items():
            command += [f"--{setting}", str(value)]
        environment = {
            **{k: v for k, v in os.environ.items() if ours or k != SPIN},
            "PYTHONPATH": os.pathsep.join([str(ROOT), *([str(ROOT / "src")] if ours else [])]),
            "OMP_NUM_THREADS": str(cell.threads),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        said = self.folder / f"{name}.log"
        answers, inside = os.pipe()
        with said.open("w") as log:
            process = subprocess.Popen(
                [*command, "--answers", str(inside)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(inside,),
                text=True,
            )
        os.close(inside)
        return Contender(name, process, answers, said)
