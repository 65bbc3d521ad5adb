"""How what an attention notes (vsf_core/forms.py, Note) reaches who records the run, through torch.compile's graphs too."""
from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_noted: ContextVar[list[Tensor] | None] = ContextVar("vsf_noted", default=None)


@contextmanager
def noting() -> Iterator[list[Tensor]]:
    """While a call of the model runs, what is noted in it, attention by attention."""
    noted: list[Tensor] = []
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)


def note(values: Tensor, ticket: Tensor) -> None:
    """Note what the negatives did in an attention: (1 + negatives, rows, tokens). ticket: of the call of the model, any tensor.

    torch.compile takes the operator as it is: its graph does not break, and nothing is guarded. That the operator may write on
    an input of the graph, the ticket, keeps it there, and after those before it.
    """
    if torch.compiler.is_compiling():
        _in_graph(values, ticket)
    else:
        _note(values, ticket)


def _note(values: Tensor, ticket: Tensor) -> None:
    if (noted := _noted.get()) is not None:
        noted.append(values.clone())


_in_graph = torch.library.custom_op("vsf::note_" + re.sub(r"\W", "_", __name__), _note, mutates_args=("ticket",),
                                    schema="(Tensor values, Tensor(a!) ticket) -> ()")


@_in_graph.register_fake
def _(values: Tensor, ticket: Tensor) -> None:
    return None
