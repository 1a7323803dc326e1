"""The environment of the peers: made once, apart from headrace's own, by venv and pip."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

SHARED = (  # what two or more of them import, of versions that all of them run with
    "numpy==2.1.3",
    "pandas==2.3.3",
    "scikit-learn>=1.5,<2",
    "scipy>=1.14,<2",
    "tqdm>=4.66,<5",
    "pyyaml>=6,<7",
)
# a peer's own requirement is left out where it pins what others cannot have, or what is not run
PEERS: dict[str, tuple[str, ...]] = {
    "fuxictr": (
        "fuxictr==2.3.10",
        "h5py>=3.11,<4",
        "polars>=1,<3",
        "pyarrow>=18,<27",
        "pydantic>=2.9,<3",
        "ray[data]==2.52.1",
    ),
    "deepctr_torch": ("deepctr-torch==0.3.0",),
    "torch_rechub": ("torch-rechub==0.9.0",),
    "recbole": (
        "recbole==1.2.1",
        "colorlog==4.7.2",
        "colorama==0.4.4",
        "tensorboard>=2.16,<2.21",
        "thop==0.1.1.post2209072238",
        "tabulate>=0.9,<1",
        "texttable>=1.6,<2",
        "plotly>=5,<8",
        "psutil>=5.9,<8",
    ),
    "librecommender": ("librecommender==1.5.2", "gensim>=4.3,<5", "tensorflow==2.19.1"),
}


def ready(folder: Path) -> tuple[Path, dict[str, str]]:
    """The environment's Python, and why which peers cannot be had; installs what is missing."""
    torch = f"torch=={version('torch').split('+')[0]}"
    wanted = hashlib.sha256(json.dumps([torch, SHARED, PEERS]).encode()).hexdigest()
    python, record = folder / "bin" / "python", folder / "peers.json"
    if record.exists():
        known = json.loads(record.read_text())
        if known["wanted"] == wanted:
            return python, known["missing"]
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    reason = _install(python, torch, *SHARED)
    missing = dict.fromkeys(PEERS, reason) if reason else {}
    for name, (peer, *needed) in PEERS.items():
        if name not in missing:
            reason = _install(python, "--no-deps", peer) or (
                _install(python, *needed) if needed else ""
            )
            missing |= {name: reason} if reason else {}
    record.write_text(json.dumps({"wanted": wanted, "missing": missing}))
    return python, missing


def _install(python: Path, *what: str) -> str:
    """Install; the reason if that fails, else nothing."""
    command = [str(python), "-m", "pip", "install", "--quiet", *what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return (errors or done.stderr.splitlines() or ["pip failed"])[-1]
