"""The folders may only know what the design lets them know."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1] / "src" / "headrace"
STAGES = {"retrieval", "preranking", "ranking", "reranking"}
FORBIDDEN = {  # a folder -> what it must never import
    "ops": {p.stem if p.is_file() else p.name for p in ROOT.iterdir()} - {"ops"},
    "serving": {"allocation", "training", *STAGES},  # the data plane does not ask why
    "allocation": {"serving", "training", "bundle", "nn", "features", *STAGES},  # sees no model
    "features": {"samples", "training", "serving", "bundle", "nn", *STAGES},
    "behavior": {"samples", "training", "serving", "bundle", "nn", "features", *STAGES},
    "log": {"samples", "training", "serving", "bundle", "nn", "features", "behavior", *STAGES},
    "nn": {"samples", "training", "serving", "bundle", *STAGES},
    "training": {"serving", "bundle", "allocation", *STAGES},
    "world": {"samples", "training", "serving", "bundle", "nn", "features", *STAGES},
} | {stage: {"serving", "allocation", "bundle", *(STAGES - {stage})} for stage in STAGES}


def imports(path):
    """Top-level parts of headrace that a file imports, with the line."""
    depth = len(path.relative_to(ROOT).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((name.split(".")[0], node.lineno) for name in names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("headrace."):
            yield node.module.split(".")[1], node.lineno


def broken(root=ROOT):
    return [
        f"{path.relative_to(root)}:{line} imports {module}"
        for path in sorted(root.rglob("*.py"))
        for module, line in imports(path)
        if module in FORBIDDEN.get(path.relative_to(root).parts[0], ())
    ]


def test_layers():
    assert broken() == []


def test_the_test_sees_a_planted_import(tmp_path, monkeypatch):
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops" / "bad.py").write_text("from ..ranking import Ranker\nfrom .. import data\n")
    monkeypatch.setattr("tests.test_layers.ROOT", tmp_path)
    assert broken(tmp_path) == ["ops/bad.py:1 imports ranking", "ops/bad.py:2 imports data"]
