"""Raw values to ids, once, by the same code for a training sample and for a live request."""

from .build import FeatureBuilder
from .catalogue import Catalogue
from .space import FeatureSpace

__all__ = ["Catalogue", "FeatureBuilder", "FeatureSpace"]
