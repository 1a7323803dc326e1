"""Plain training on one batch, for tests of whether a model can learn it."""

import torch


def overfit(model, loss_of, steps=150):
    """Train by loss, tables sparsely; return the loss before every step."""
    tables = [p for n, p in model.named_parameters() if "tables." in n]
    rest = [p for n, p in model.named_parameters() if "tables." not in n]
    optimizers = [torch.optim.SparseAdam(tables, 0.05), torch.optim.Adam(rest, 0.01)]
    losses = []
    for _ in range(steps):
        loss = torch.stack(list(loss_of().values())).sum()
        losses.append(loss.item())
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    return losses
