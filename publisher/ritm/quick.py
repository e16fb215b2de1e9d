"""
The same networks, quicker: what inference needs no more is folded, fused and rounded away.

* `folded`: batch normalisations become part of the convolutions before them.
* `fused`, for a GPU: a convolution, what is added to it and the ReLU behind them are one kernel,
  in bfloat16, with channels in eights. Moving memory is what takes the time there.

Neither changes what is computed, but for rounding.
"""

from __future__ import annotations

import operator
from copy import deepcopy
from typing import Any, TypeVar, cast

import torch
import torch.fx
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .network import Exact, HRNet, Network, ObjectContext, Scale

N = TypeVar("N", bound=nn.Module)

_EIGHT = 8  # channels; with other numbers cuDNN copies all that goes into a convolution


def folded(network: N) -> N:
    """
    A copy for inference: batch normalisations and scale are in the convolutions before them.

    Its logits differ from the network's by rounding only. Its convolutions are in channels_last,
    and quick for pictures that are so too.
    """
    copy = deepcopy(network).eval().requires_grad_(False)
    before: nn.Conv2d | None = None
    for name, module in list(copy.named_modules()):  # in the order of registration: of the data
        if isinstance(module, nn.Conv2d):
            before = module
        elif isinstance(module, nn.BatchNorm2d | Scale):
            assert before is not None
            _absorb(before, module)
            parent, _, leaf = name.rpartition(".")
            setattr(copy.get_submodule(parent), leaf, nn.Identity())
    for module in copy.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.contiguous(memory_format=torch.channels_last)
    return copy


def _absorb(conv: nn.Conv2d, after: nn.BatchNorm2d | Scale) -> None:
    """Make a convolution give what would come out of the layer after it."""
    weight = conv.weight.double()
    bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.double()
    if isinstance(after, Scale):
        factor, shift = after.scale.double().abs(), torch.zeros_like(bias)
    else:
        assert after.running_mean is not None
        assert after.running_var is not None
        factor = after.weight.double() / (after.running_var.double() + after.eps).sqrt()
        shift = after.bias.double() - after.running_mean.double() * factor
    dtype = conv.weight.dtype
    weight, bias = weight * factor[:, None, None, None], bias * factor + shift
    conv.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(dtype), requires_grad=False)


# ── for a GPU ────────────────────────────────────────────────────────────────────────────────


def fused(network: N, dtype: torch.dtype = torch.bfloat16) -> N:
    """A copy for inference on a GPU, called as the network is; its convolutions are in `dtype`."""
    quick = folded(network)
    if isinstance(quick, Network):
        body = _in_eights(quick.feature_extractor)
        known = {"features": None} if quick.config.use_rgb_conv else {}
        quick.feature_extractor = cast("HRNet", _in_one(body, known))
    for name, module in list(quick.named_modules()):
        if isinstance(module, nn.Sequential) and isinstance(module[0], nn.Conv2d):
            parent, _, leaf = name.rpartition(".")
            setattr(quick.get_submodule(parent), leaf, _in_one(module))
    for module in quick.modules():
        if isinstance(module, nn.Conv2d | Fused) and not isinstance(module, Exact):
            module.to(dtype)
    return quick


class Fused(nn.Module):
    """A convolution, what is added to its result, and a ReLU, as one kernel on a GPU."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        assert isinstance(conv.padding, tuple)  # not by name
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
        self.weight = nn.Parameter(conv.weight.detach(), requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.how = (conv.stride, conv.padding, conv.dilation)

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """From (B, C, H, W) and, if need be, (B, D, h, w) to (B, D, h, w)."""
        x = x.to(self.weight.dtype)
        if not x.is_cuda:
            y = F.conv2d(x, self.weight, self.bias, *self.how)
            return F.relu(y if added is None else y + added)
        if added is None:
            return torch.cudnn_convolution_relu(x, self.weight, self.bias, *self.how, 1)
        added = added.to(x.dtype)
        return torch.cudnn_convolution_add_relu(x, self.weight, added, 1, self.bias, *self.how, 1)


def _in_eights(body: HRNet) -> HRNet:
    """The same function, the branches' channels filled up with zeros to multiples of eight."""
    wide = [-(-w // _EIGHT) * _EIGHT for w in body.widths]
    if tuple(wide) == body.widths:
        return body
    places = {w: torch.arange(w) for w in body.widths}
    starts = torch.tensor([0, *wide]).cumsum(0)
    places[sum(body.widths)] = torch.cat(
        [start + torch.arange(w) for w, start in zip(body.widths, starts, strict=False)]
    )
    sizes = dict(zip((*body.widths, sum(body.widths)), (*wide, sum(wide)), strict=True))
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            _fill_up(module, sizes, places)
    body.widths = tuple(wide)
    return body


def _fill_up(conv: nn.Conv2d, sizes: dict[int, int], places: dict[int, Tensor]) -> None:
    """Give a convolution more channels, of which the new ones are 0, where it has those sizes."""
    out, into = conv.out_channels, conv.in_channels
    new_out, new_into = sizes.get(out, out), sizes.get(into, into)
    weight = conv.weight.new_zeros(new_out, new_into, *conv.weight.shape[2:])
    to, of = places.get(out, torch.arange(out)), places.get(into, torch.arange(into))
    weight[to[:, None], of] = conv.weight
    conv.weight = nn.Parameter(
        weight.contiguous(memory_format=torch.channels_last), requires_grad=False
    )
    if conv.bias is not None:
        bias = conv.bias.new_zeros(new_out)
        bias[to] = conv.bias
        conv.bias = nn.Parameter(bias, requires_grad=False)
    conv.out_channels, conv.in_channels = new_out, new_into


class _Tracer(torch.fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Exact | ObjectContext) or super().is_leaf_module(
            m, module_qualified_name
        )


def _in_one(module: nn.Module, known: dict[str, Any] | None = None) -> nn.Module:
    """The same function, with every convolution before a ReLU `Fused` with it."""
    graph = _Tracer().trace(module, known)
    traced = torch.fx.GraphModule(module, graph)
    for node in list(graph.nodes):
        if node.op == "call_module" and isinstance(traced.get_submodule(node.target), nn.Identity):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    for node in list(graph.nodes):
        if _is_relu(node, traced):
            _fuse(node, traced)
    graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _fuse(relu: Any, traced: torch.fx.GraphModule) -> None:
    """Put a ReLU, and a sum before it, into the convolution that feeds it."""
    before, others = relu.args[0], []
    if len(before.users) == 1 and before.target in (operator.add, operator.iadd):
        summands = before.args
        convs = [n for n in reversed(summands) if _only_user(n, traced)]
        if not convs:
            return
        others = [n for n in summands if n is not convs[0]]
        before = convs[0]
    if not _only_user(before, traced) or len(others) > 1:
        return
    name = f"{before.target.replace('.', '_')}_fused"
    traced.add_module(name, Fused(cast("nn.Conv2d", traced.get_submodule(before.target))))
    with traced.graph.inserting_before(relu):
        one = traced.graph.call_module(name, (before.args[0], *others))
    relu.replace_all_uses_with(one)
    traced.graph.erase_node(relu)


def _is_relu(node: Any, traced: torch.fx.GraphModule) -> bool:
    if node.op == "call_module":
        return isinstance(traced.get_submodule(node.target), nn.ReLU)
    return bool(node.target is F.relu)


def _only_user(node: Any, traced: torch.fx.GraphModule) -> bool:
    """Is this a convolution whose result is used once?"""
    if node.op != "call_module" or len(node.users) != 1:
        return False
    conv = traced.get_submodule(node.target)
    return isinstance(conv, nn.Conv2d) and not isinstance(conv, Exact)
