"""The Table form of lists: the columns that `kubectl get` prints for each kind."""

from lab.tables.render import table

__all__ = ["table"]
