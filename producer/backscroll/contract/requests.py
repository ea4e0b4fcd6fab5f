"""Where `Requests` and its neighbours were; what imports them from here shall follow them."""

from backscroll.contract.operations import UNSET, Requests, Unset
from backscroll.contract.results import Receipt

__all__ = ["UNSET", "Receipt", "Requests", "Unset"]
