"""Updates for models that are a few dense matrices and very large embedding tables.

Dense parameters follow an optimiser of PyTorch, fused. A table, that is the weight of an
``nn.Embedding(sparse=True)`` or ``nn.EmbeddingBag(sparse=True)``, is updated on the rows its
batch touched and nowhere else, so that a step costs the same whatever the table's height.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, overload, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from ..errors import ConfigError
from ..ops.embedding_rows import row_gradient, rowwise_adagrad, shrink_rows, slots, sum_rows
from .settings import Training

Parameters = Sequence[nn.Parameter]


@runtime_checkable
class DecaysTables(Protocol):
    """A model that asks for mini-batch-aware L2 regularisation of its tables (DIN, §5.1, eq. 6).

    On each row j that occurs in a batch the gradient grows by ``λ / n_j · w_j``, with ``n_j`` its
    occurrences in the whole training set; elsewhere it costs nothing.
    """

    def table_decay(self) -> Mapping[str, tuple[float, Tensor]]:
        """Parameter name -> (λ, ``n_j`` of every row ``(R,)``)."""
        ...


@runtime_checkable
class ShrinksTables(Protocol):
    """A model that asks for tables of few rows and few weights: L2,1 and L1 (LS-PLM).

    After an update each touched row takes the proximal step of both penalties at its own step size:
    that minimises the mean loss plus ``Σ_j p_j (λ ‖w_j‖₂ + β ‖w_j‖₁)``, with ``p_j`` the share of
    batches in which row j occurs. Weights become exactly zero.
    """

    def table_shrinkage(self) -> Mapping[str, tuple[float, float]]:
        """Parameter name -> (β, λ)."""
        ...


class RowwiseAdagrad(torch.optim.Optimizer):
    """Adagrad (Duchi et al. 2011, fig. 1) with one accumulator a row instead of one a weight.

    ``G_r += mean_d(g_rd²)``, ``w_r -= η · g_r / (√G_r + eps)``: the row-wise form of DLRM
    (``optim/rwsadagrad.py``) and of FBGEMM's EXACT_ROWWISE_ADAGRAD, the default of TorchRec. It
    stores 1/D of Adagrad's state. Takes gradients that are sparse with distinct rows.
    """

    def __init__(self, params: Parameters, lr: float, eps: float = 1e-8) -> None:
        super().__init__(params, {"lr": lr, "eps": eps})

    def row_rates(self, param: Tensor, row_K: Tensor) -> Tensor:  # (K,)
        """The step size of each row in the last update: ``η / (√G_r + eps)``."""
        [group] = self.param_groups
        total_K: Tensor = self.state[param]["total"][row_K]
        return group["lr"] / (total_K.sqrt() + group["eps"])

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every row that has a gradient; ``closure`` is not supported."""
        if closure is not None:
            raise ValueError("RowwiseAdagrad does not re-evaluate the model")
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if not state:
                    state["total"] = param.new_zeros(param.shape[0])
                row_K, grad_KD = param.grad.indices()[0], param.grad.values()
                weight_RD, total_R = param.detach(), state["total"]
                rowwise_adagrad(weight_RD, total_R, row_K, grad_KD, group["lr"], group["eps"])
        return None


class Optimizer:
    """All updates of one model. After ``backward``: ``sum_rows``, ``clip``, ``step``."""

    def __init__(self, model: nn.Module, config: Training) -> None:
        sparse = {
            id(module.weight)
            for module in model.modules()
            if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse
        }
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not named:
            raise ValueError("the model has no parameter to train")
        self.tables = {name: p for name, p in named.items() if id(p) in sparse}
        self.dense = [p for p in named.values() if id(p) not in sparse]
        self._slots = {name: slots(len(p)) for name, p in self.tables.items()}
        self._decay = self._checked_decay(model)
        self._shrinkage = self._checked_shrinkage(model, config)
        self._rules: dict[str, tuple[torch.optim.Optimizer, float]] = {}
        if self.dense:
            self._rules["dense"] = _dense_rule(self.dense, config), config.learning_rate
        if self.tables:
            rule = _table_rule(list(self.tables.values()), config)
            self._rules["tables"] = rule, config.table_learning_rate
        self._drop_gradients()

    def _checked_decay(self, model: nn.Module) -> Mapping[str, tuple[float, Tensor]]:
        decay = model.table_decay() if isinstance(model, DecaysTables) else {}
        for name, (_, count_R) in decay.items():
            if name not in self.tables or len(count_R) != len(self.tables[name]):
                raise ValueError(
                    f"table_decay: {name} is not a sparse table of {len(count_R)} rows"
                )
        return decay

    def _checked_shrinkage(
        self, model: nn.Module, config: Training
    ) -> Mapping[str, tuple[float, float]]:
        shrinkage = model.table_shrinkage() if isinstance(model, ShrinksTables) else {}
        for name in shrinkage:
            if name not in self.tables:
                raise ValueError(f"table_shrinkage: {name} is not a sparse table")
        if shrinkage and config.table_optimizer == "sparse_adam":
            raise ConfigError(
                'training.table_optimizer: "sparse_adam" steps at another size in each weight of a '
                "row, by which this model's L1 and L2,1 cannot shrink the row; use "
                '"rowwise_adagrad" or "sgd", or set the penalties to 0'
            )
        return shrinkage

    def sum_rows(self) -> None:
        """Leave each table one gradient row per touched row."""
        for name, param in self.tables.items():
            grad: Any = param.grad  # PyTorch shows the parts of an unsummed one as _ members only
            if grad is None or (grad.is_sparse and grad.is_coalesced()):
                continue
            if not grad.is_sparse:
                raise ValueError(
                    f"{name}: dense gradient on a sparse table; use table_decay for L2"
                )
            row_K, grad_KD = sum_rows(grad._indices()[0], grad._values(), self._slots[name])
            param.grad = row_gradient(param, row_K, grad_KD, distinct=True)

    def clip(self, largest: float) -> float:
        """Scale gradients down to this norm if it is not 0; return the norm they had.

        The norm is over dense and table gradients together. Call ``sum_rows`` first.
        """
        grads = [p.grad for p in self.dense if p.grad is not None]
        grads += [p.grad.values() for p in self.tables.values() if p.grad is not None]
        norm = float(get_total_norm(grads)) if grads else 0.0
        if 0 < largest < norm:
            for grad in grads:
                grad.mul_(largest / norm)
        return norm

    def step(self, rate: float) -> None:
        """Apply and drop the gradients, at ``rate`` times the configured learning rates."""
        with torch.no_grad():
            for name, (strength, count_R) in self._decay.items():
                param = self.tables[name]
                if param.grad is not None:
                    row_K = param.grad.indices()[0]
                    scale_K = strength / count_R[row_K].clamp(min=1)
                    param.grad.values().addcmul_(param[row_K], scale_K.to(param.dtype)[:, None])
        for rule, learning_rate in self._rules.values():
            for group in rule.param_groups:
                group["lr"] = learning_rate * rate
            rule.step()
        self._shrink()
        self._drop_gradients()

    def _shrink(self) -> None:
        """Take the proximal step of the penalties on the rows that were just updated."""
        for name, (l1, l21) in self._shrinkage.items():
            param = self.tables[name]
            if param.grad is not None:
                rule, row_K = self._rules["tables"][0], param.grad.indices()[0]
                if isinstance(rule, RowwiseAdagrad):
                    rate_K = rule.row_rates(param, row_K)
                else:
                    rate_K = param.new_full(row_K.shape, rule.param_groups[0]["lr"])
                shrink_rows(param.detach(), row_K, rate_K, l1, l21)

    def _drop_gradients(self) -> None:
        for param in (*self.dense, *self.tables.values()):
            param.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step depends on, besides the parameters."""
        return {part: rule.state_dict() for part, (rule, _) in self._rules.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state_dict`` of an optimiser of the same model and settings."""
        for part, (rule, _) in self._rules.items():
            rule.load_state_dict(state[part])


def _dense_rule(params: Parameters, config: Training) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in params if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in params if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups, rate = [group for group in groups if group["params"]], config.learning_rate
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, fused=True)
    if config.optimizer == "adagrad":
        return torch.optim.Adagrad(groups, lr=rate, fused=params[0].device.type == "cpu")
    return torch.optim.SGD(groups, lr=rate, fused=True)


def _table_rule(params: Parameters, config: Training) -> torch.optim.Optimizer:
    rate = config.table_learning_rate
    if config.table_optimizer == "rowwise_adagrad":
        return RowwiseAdagrad(params, lr=rate)
    if config.table_optimizer == "sparse_adam":
        return torch.optim.SparseAdam(params, lr=rate)
    return torch.optim.SGD(params, lr=rate)
