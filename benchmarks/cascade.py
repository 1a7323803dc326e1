"""What the whole cascade finds on real data: the main figures of a run's report.

make demo
python -m benchmarks.cascade [--run runs/complete_journey]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import _common


def recalls(part: dict[str, Any]) -> dict[str, Any]:
    """Recall at each length, and of what is new to the user."""
    found = {name: round(x, 4) for name, x in part.items() if name.startswith("recall@")}
    new = part["new_to_user"]
    return found | {f"new_{name}": round(new[name], 4) for name in found}


def main() -> None:
    """Read the report."""
    options = _common.parser(__doc__)
    options.add_argument("--run", type=Path, default=Path("runs/complete_journey"))
    given = options.parse_args()
    path = given.run / "report.json"
    if not path.exists():
        sys.exit(f"error: {path}: no such file; run `make demo` first")
    report = json.loads(path.read_text())
    retrieval = report["retrieval"]
    figures = {
        "requests": report["data"]["requests"],
        "channels": {name: recalls(each) for name, each in retrieval["channels"].items()},
        "merged": recalls(retrieval["merged"]),
        "cascade": recalls(report["cascade"]),
        "standard_error": {
            "merged": round(retrieval["merged"]["se"]["recall@200"], 4),
            "cascade": round(report["cascade"]["se"]["recall@10"], 4),
            "new_to_user": round(report["cascade"]["new_to_user"]["se"]["recall@10"], 4),
        },
        "rankers": {
            name: {k: round(each[k], 4) for k in ("auc", "gauc", "logloss", "pcoc")}
            for name, each in report["ranking"].items()
        },
        "seconds": round(sum(report["seconds"].values()), 1),
    }
    _common.finish("cascade", figures, save=given.save)


if __name__ == "__main__":
    main()
