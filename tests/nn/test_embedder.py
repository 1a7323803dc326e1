from dataclasses import replace

import pytest
import torch

from headrace.nn.embedder import INITIAL_SD, Embedder


def begun(samples, initial, scale=1.0):
    torch.manual_seed(0)
    update = {"initial": initial, "initial_scale": scale}
    schema = samples.space.schema.model_copy(update=update)
    return Embedder(replace(samples.space, schema=schema), ("user", "item", "cross"))


def test_normal_tables_are_equally_wide(tiny_samples):
    for table in begun(tiny_samples, "normal").tables.values():
        assert 0.5 * INITIAL_SD < float(table.weight.detach().std()) < 1.5 * INITIAL_SD


def test_glorot_tables_are_the_narrower_the_more_rows_they_have(tiny_samples):
    for table in begun(tiny_samples, "glorot").tables.values():
        bound = (6 / sum(table.weight.shape)) ** 0.5
        assert 0.5 * bound < float(table.weight.detach().abs().max()) <= bound


@pytest.mark.parametrize("initial", ["normal", "glorot"])
def test_the_scale_widens_every_table(tiny_samples, initial):
    tables = begun(tiny_samples, initial).tables.values()
    wider = begun(tiny_samples, initial, 4.0).tables.values()
    for table, wide in zip(tables, wider, strict=True):
        torch.testing.assert_close(wide.weight, 4 * table.weight)
