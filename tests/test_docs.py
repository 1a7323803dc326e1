"""The how-tos work as they are written, and the documents' links lead somewhere."""

import importlib
import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_ranker_of_the_how_to_is_a_ranker(tmp_path, monkeypatch, tiny_samples):
    text = (ROOT / "docs" / "how-to" / "add-a-ranker.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    (tmp_path / "dot_of_the_how_to.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("dot_of_the_how_to")
    model = module.Dot.Config().build(tiny_samples.space, ("click", "buy"))
    rows = tiny_samples.requests("train")[-5:]
    batch = tiny_samples.batch(tiny_samples.draw(rows, seed=1))
    torch.stack(list(model.loss(batch).values())).sum().backward()
    assert model.score(batch.requests, batch.candidates).shape == (len(batch.candidates), 2)


@pytest.mark.parametrize("path", DOCS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_to_files(path):
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target
