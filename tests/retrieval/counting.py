"""What tests of the counting channels share."""

import numpy as np
import torch

from headrace.config import Kinds
from headrace.training import Trainer

KINDS = Kinds("headrace.retrieval")


def config(kind, **settings):
    return KINDS.find(kind).Config.model_validate({"kind": kind, **settings}, strict=False)


def fit(kind, samples, **settings):
    return config(kind, **settings).build(samples.space).fit(samples, kind, Trainer())


def ask(retriever, requests, quota=10):
    return retriever.retrieve(requests, torch.full((len(requests),), quota))


def events(samples, until_ms, kinds=("buy",)):
    """(user, item, time, request) of the events of some types before a time."""
    log = samples.log
    codes = [log.type_code(k) for k in kinds]
    columns = (log.event_user, log.event("item"), log.event("time_ms"), log.event("request"))
    kept = np.isin(log.event("type"), codes) & (np.asarray(log.event("time_ms")) < until_ms)
    return [
        tuple(int(x) for x in row)
        for row in zip(*(np.asarray(c)[kept] for c in columns), strict=True)
    ]
