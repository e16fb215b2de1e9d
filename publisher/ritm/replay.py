"""
A network recorded as CUDA graphs: one launch instead of hundreds.

A small network keeps a GPU waiting for the CPU to name the next kernel. A recording names them
all at once; it is made for one shape, so the shapes that come again and again get one.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from .batches import Ask

_PAYS = 3  # times that a shape comes before it is recorded: recording takes a tenth of a second
_MOST = 16  # recordings that are kept

Shape = tuple[torch.Size, torch.Size]


@dataclass(frozen=True, slots=True, eq=False)
class _Recording:
    graph: torch.cuda.CUDAGraph
    x: Tensor
    points: Tensor
    logits: Tensor


class Replay:
    """
    Answers as `ask` does, with the same kernels; what is not on a GPU is never recorded.

    What it returns is overwritten by the next answer to the same shape.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._seen: Counter[Shape] = Counter()
        self._recordings: OrderedDict[Shape, _Recording] = OrderedDict()

    def __call__(self, x: Tensor, points: Tensor) -> Tensor:
        if not x.is_cuda:
            return self._ask(x, points)
        points = _filled_up(points)
        shape = x.shape, points.shape
        if shape not in self._recordings:
            self._seen[shape] += 1
            if self._seen[shape] < _PAYS:
                return self._ask(x, points)
            self._recordings[shape] = self._record(x, points)
            if len(self._recordings) > _MOST:
                self._recordings.popitem(last=False)
        self._recordings.move_to_end(shape)
        recording = self._recordings[shape]
        recording.x.copy_(x)
        recording.points.copy_(points)
        recording.graph.replay()
        return recording.logits

    def forget(self) -> None:
        """Give the memory of all recordings back."""
        self._recordings.clear()

    def _record(self, x: Tensor, points: Tensor) -> _Recording:
        x, points = x.clone(), points.clone()
        graph = torch.cuda.CUDAGraph()
        pool = next((r.graph.pool() for r in self._recordings.values()), None)  # shared by all
        with torch.cuda.graph(graph, pool=pool):
            logits = self._ask(x, points)
        return _Recording(graph, x, points, logits)


def _filled_up(points: Tensor) -> Tensor:
    """Clicks (B, 2N, 3) with N a multiple of 8: few shapes."""
    rows, columns, _ = points.shape
    kinds = points.view(rows, 2, columns // 2, 3)
    return F.pad(kinds, (0, 0, 0, -kinds.shape[2] % 8), value=-1.0).flatten(1, 2)
