"""A scorer that takes no training: items on a curved plane, requests that look in a direction."""

from dataclasses import dataclass

import torch

from headrace.data import Ragged, Requests
from headrace.retrieval._split import SplitModule


@dataclass(frozen=True)
class Looking:
    """Where each request looks."""

    way: torch.Tensor

    def one(self, b):
        return Looking(self.way[b])


class Planes(SplitModule):
    """The nearer, the better; or, if not ``smooth``, something that vectors say nothing of."""

    def __init__(self, num_items, smooth):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.place = torch.rand(num_items, 3, generator=generator)
        self.secret = self.place if smooth else torch.rand(num_items, 3, generator=generator)

    @staticmethod
    def requests(size):
        generator = torch.Generator().manual_seed(6)
        zeros = torch.zeros(size, dtype=torch.int64)
        return Requests(
            zeros,
            zeros,
            {"way": torch.rand(size, 3, generator=generator)},
            zeros,
            Ragged.of([zeros[:0]] * size),
        )

    def vectors(self, item_M):
        return self.place[item_M]

    def places(self, vector_MV):
        return vector_MV

    def rows(self, vector_MV):
        return vector_MV[:, :0]

    def users(self, requests, vector_IV, dtype):
        return Looking(requests.features["way"])

    def cross(self, users, item, row):
        return -(self.secret[item] - users.way).square().sum(-1)

    def batch(self, requests, item_BN):
        raise NotImplementedError
