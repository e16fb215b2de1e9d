"""
The network of RITM: HRNet with an object-contextual (OCR) head that reads clicks and a mask.

Written after the papers: "Reviving Iterative Training with Mask Guidance for Interactive
Segmentation" (Sofiiuk, Petrov, Konushin, 2021), "Deep High-Resolution Representation Learning
for Visual Recognition" (Wang et al., 2019), "Object-Contextual Representations" (Yuan et al.,
2020). It computes the same function as the authors' code from the same checkpoint, so modules
and parameters have the names that the published checkpoints give them.

In the shapes at line ends B is the batch, H and W the picture, h and w a quarter of these
(rounded up), C the 15 widths of the four branches together, O twice the OCR width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

_FAR = 1e6  # squared distance to a click that is not there


@dataclass(frozen=True, slots=True)
class Config:
    """
    What a network is built of. The fields are the parameters of the official `HRNetModel`.

    The defaults are those of every published model with a previous mask, at the width of h18s.

    Args:
        width: channels of the finest branch; the others have 2, 4 and 8 times as many.
        ocr_width: key channels of the OCR head; 0 leaves the head out.
        small: half as many blocks in every branch, and fewer modules.
        with_aux_output: `forward` also gives the logits before the OCR head.
        use_leaky_relu: after the first convolution of the click maps, with slope 0.2.
        use_rgb_conv: mix picture and clicks to three channels at once, instead of adding the
            clicks' features after the first convolution.
        use_disks: a click is a disk of `norm_radius`; otherwise tanh(2 distance / norm_radius).
        norm_radius: in pixels.
        with_prev_mask: the fourth channel of the input is read.
        binary_prev_mask: as 0 or 1, parted at 0.5.
        conv_extend: one convolution turns the click maps to features, instead of two.
        norm_mean_std: mean and standard deviation of the R, G and B of the training pictures.
    """

    width: int = 18
    ocr_width: int = 48
    small: bool = True
    with_aux_output: bool = True
    use_leaky_relu: bool = True
    use_rgb_conv: bool = False
    use_disks: bool = True
    norm_radius: float = 5
    with_prev_mask: bool = True
    binary_prev_mask: bool = False
    conv_extend: bool = False
    norm_mean_std: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET


class Network(nn.Module):
    """Clicks and a previous mask in, the logits of the object out."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        statistics = torch.tensor(config.norm_mean_std, device="cpu")[..., None, None]
        self.register_buffer("statistics", statistics, persistent=False)  # (2, 3, 1, 1)
        maps = 3 if config.with_prev_mask else 2
        if config.use_rgb_conv:
            self.rgb_conv = nn.Sequential(
                nn.Conv2d(3 + maps, 6 + maps, 1),
                nn.BatchNorm2d(6 + maps),
                _activation(config),
                nn.Conv2d(6 + maps, 3, 1),
            )
        elif config.conv_extend:
            self.maps_transform: nn.Module = nn.Conv2d(maps, 64, 3, stride=2, padding=1)
        else:
            self.maps_transform = nn.Sequential(
                nn.Conv2d(maps, 16, 1),
                _activation(config),
                nn.Conv2d(16, 64, 3, stride=2, padding=1),
                Scale(0.05),
            )
        widths = [config.width << branch for branch in range(4)]
        self.feature_extractor = HRNet(widths, config.ocr_width, config.small)

    def forward(self, x: Tensor, points: Tensor) -> dict[str, Tensor]:
        """
        Segment pictures.

        Args:
            x: (B, 4, H, W) float; R, G, B in 0..1 and the previous mask as a probability. A
                network without previous mask reads no fourth channel, and needs none.
            points: (B, 2N, 3); row, column and order in pixels, N positive clicks before N
                negative ones. Where row and column are both below 0 there is no click; the
                order is not read.

        Returns:
            `instances`: (B, 1, H, W), logits; and `instances_aux`, the same before the OCR head
            (not where `with_aux_output` is off, or there is no such head).
        """
        out, aux = self.coarse(x, points)  # (B, 1, h, w) twice
        outputs = {"instances": _resized(out, x)}  # (B, 1, H, W)
        if aux is not None and self.config.with_aux_output:
            outputs["instances_aux"] = _resized(aux, x)  # (B, 1, H, W)
        return outputs

    def logits(self, x: Tensor, points: Tensor) -> Tensor:
        """Only the `instances` (B, 1, H, W) of `forward`."""
        return _resized(self.coarse(x, points)[0], x)

    def coarse(self, x: Tensor, points: Tensor) -> tuple[Tensor, Tensor | None]:
        """Both logits (B, 1, h, w) as they leave the network, at a quarter of the resolution."""
        mean, std = self.get_buffer("statistics").to(x.dtype)  # (3, 1, 1) twice
        image = (x[:, :3] - mean) / std  # (B, 3, H, W)
        maps = self.click_maps(x, points)  # (B, 2, H, W)
        if self.config.with_prev_mask:
            if x.shape[1] < 4:
                raise ValueError("this network reads a previous mask as the fourth channel of x")
            mask = x[:, 3:4]  # (B, 1, H, W)
            if self.config.binary_prev_mask:
                mask = (mask > 0.5).to(x.dtype)
            maps = torch.cat([mask, maps], dim=1)  # (B, 3, H, W)
        features: Tensor | None = None
        if self.config.use_rgb_conv:
            image = self.rgb_conv(torch.cat([image, maps], dim=1))  # (B, 3, H, W)
        else:
            features = self.maps_transform(maps)  # (B, 64, H/2, W/2)
        both: tuple[Tensor, Tensor | None] = self.feature_extractor(image, features)
        return both

    def click_maps(self, x: Tensor, points: Tensor) -> Tensor:
        """Where the clicks are: the positive ones, then the negative ones, (B, 2, H, W)."""
        batch, height, width = x.shape[0], x.shape[2], x.shape[3]
        places = points[..., :2].float().reshape(batch, 2, -1, 2)  # (B, 2, N, 2)
        radius = 1.0 if self.config.use_disks else self.config.norm_radius
        rows = torch.arange(height, dtype=torch.float32, device=x.device)[:, None]  # (H, 1)
        cols = torch.arange(width, dtype=torch.float32, device=x.device)  # (W,)
        dy = (rows - places[..., 0, None, None]) / radius  # (B, 2, N, H, 1)
        dx = (cols - places[..., 1, None, None]) / radius  # (B, 2, N, 1, W)
        absent = places.amax(-1)[..., None, None] < 0  # (B, 2, N, 1, 1)
        far = (dy**2 + dx**2).masked_fill(absent, _FAR).amin(2)  # (B, 2, H, W), squared
        if self.config.use_disks:
            return (far <= self.config.norm_radius**2).to(x.dtype)
        return torch.tanh(2 * far.sqrt()).to(x.dtype)


class Scale(nn.Module):
    """Times the absolute value of one learned number."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), scale))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.abs()


class Exact(nn.Conv2d):
    """The last layer before logits, in float32 under autocast too."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


class HRNet(nn.Module):
    """
    Four branches at 1/4, 1/8, 1/16 and 1/32 that keep exchanging what they see.

    Args:
        widths: channels of the branches, from the finest on.
    """

    def __init__(self, widths: Sequence[int], ocr_width: int, small: bool) -> None:
        super().__init__()
        blocks = 2 if small else 4
        self.widths = tuple(widths)
        self.conv1 = _conv3(3, 64, stride=2)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = _conv3(64, 64, stride=2)
        self.bn2 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(
            Bottleneck(64, 64), *(Bottleneck(256, 64) for _ in range(blocks - 1))
        )
        self.transition1 = _transition([256], widths[:2])
        self.stage2 = nn.Sequential(Exchange(widths[:2], blocks))
        self.transition2 = _transition(widths[:2], widths[:3])
        self.stage3 = nn.Sequential(
            *(Exchange(widths[:3], blocks) for _ in range(3 if small else 4))
        )
        self.transition3 = _transition(widths[:3], widths)
        self.stage4 = nn.Sequential(*(Exchange(widths, blocks) for _ in range(2 if small else 3)))
        total = sum(widths)
        self.ocr = ocr_width > 0
        if self.ocr:
            self.conv3x3_ocr = nn.Sequential(
                nn.Conv2d(total, 2 * ocr_width, 3, padding=1),
                nn.BatchNorm2d(2 * ocr_width),
                nn.ReLU(inplace=True),
            )
            self.ocr_distri_head = ObjectContext(2 * ocr_width, ocr_width)
            self.cls_head: nn.Module = Exact(2 * ocr_width, 1, 1)
            self.aux_head = _head(total, kernel=1)
        else:
            self.cls_head = _head(total, kernel=3)

    def forward(self, image: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """
        Logits (B, 1, h, w), and those before the OCR head, of a normalised picture (B, 3, H, W).

        `features` (B, 64, H/2, W/2) of clicks and mask are added after the first convolution.
        """
        x = F.relu(self.bn1(self.conv1(image)), inplace=True)  # (B, 64, H/2, W/2)
        if features is not None:
            x = x + features
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)  # (B, 64, h, w)
        x = self.layer1(x)  # (B, 256, h, w)
        branches: list[Tensor] = [x]
        for transition, stage in (
            (self.transition1, self.stage2),
            (self.transition2, self.stage3),
            (self.transition3, self.stage4),
        ):
            branches = stage(_passed(transition, branches))
        size = branches[0].shape[2:]
        finest, *others = branches
        x = torch.cat([finest, *(_upsampled(y, size) for y in others)], dim=1)  # (B, C, h, w)
        if not self.ocr:
            logits: Tensor = self.cls_head(x)  # (B, 1, h, w)
            return logits, None
        aux = self.aux_head(x)  # (B, 1, h, w)
        x = self.conv3x3_ocr(x)  # (B, O, h, w)
        x = self.ocr_distri_head(x, aux)  # (B, O, h, w)
        return self.cls_head(x), aux


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution around a shortcut; four times `planes` come out."""

    def __init__(self, channels: int, planes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _conv3(planes, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.downsample = _shortcut(channels, 4 * planes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.relu(self.bn1(self.conv1(x)), inplace=True)  # (B, planes, h, w)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)  # (B, planes, h, w)
        y = self.bn3(self.conv3(y))  # (B, 4 planes, h, w)
        y += self.downsample(x)
        return F.relu(y, inplace=True)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; nothing changes its shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _conv3(channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += x
        return F.relu(y, inplace=True)


class Exchange(nn.Module):
    """One module of a stage: each branch by itself, then each branch takes from all others."""

    def __init__(self, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width) for _ in range(blocks))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleDict({str(j): _fuse(widths, j, i) for j in range(len(widths)) if j != i})
            for i in range(len(widths))
        )

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        """From and to (B, width_i, h / 2^i, w / 2^i) for each branch i."""
        xs = [branch(x) for branch, x in zip(self.branches, xs, strict=True)]
        fused = []
        for i, (own, layers) in enumerate(zip(xs, self.fuse_layers, strict=True)):
            total: Tensor | None = None  # in the official order, from the finest branch on
            for j, x in enumerate(xs):
                y: Tensor = x if j == i else layers[str(j)](x)  # type: ignore[index]
                y = _upsampled(y, own.shape[2:]) if j > i else y
                total = y if total is None else total + y
            assert total is not None
            fused.append(F.relu(total))
        return fused


class ObjectContext(nn.Module):
    """
    Each pixel is told what the object as a whole looks like.

    With one object the attention of pixels to objects is a softmax over one number, which is 1
    whatever `f_pixel` and `f_object` say: they are in every checkpoint, and not computed.
    """

    def __init__(self, channels: int, keys: int) -> None:
        super().__init__()
        self.object_context_block = nn.ModuleDict(
            {
                "f_pixel": nn.Sequential(*_twice(channels, keys)),
                "f_object": nn.Sequential(*_twice(channels, keys)),
                "f_down": nn.Sequential(*_conv_bn_relu(channels, keys)),
                "f_up": nn.Sequential(*_conv_bn_relu(keys, channels)),
            }
        )
        self.conv_bn_dropout = nn.Sequential(
            *_conv_bn_relu(2 * channels, channels), nn.Dropout2d(0.05)
        )

    def forward(self, x: Tensor, aux: Tensor) -> Tensor:
        """From features and to features (B, O, h, w), by the logits `aux` (B, 1, h, w)."""
        with torch.autocast(x.device.type, enabled=False):  # sums over all pixels: in float32
            share = aux.float().flatten(2).softmax(dim=2)  # (B, 1, hw)
            object_ = share @ x.float().flatten(2).transpose(1, 2)  # (B, 1, O)
        block = self.object_context_block
        object_ = object_.transpose(1, 2)[..., None].to(x.dtype)  # (B, O, 1, 1)
        # spread over all pixels before the last step, as in the official code: it rounds alike
        keys = block["f_down"](object_).expand(-1, -1, *x.shape[2:])  # (B, O/2, h, w)
        context = block["f_up"](keys)  # (B, O, h, w), everywhere the same
        y: Tensor = self.conv_bn_dropout(torch.cat([context, x], dim=1))  # (B, O, h, w)
        return y


def _activation(config: Config) -> nn.Module:
    return nn.LeakyReLU(0.2) if config.use_leaky_relu else nn.ReLU(inplace=True)


def _conv3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


def _conv1_bn(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


def _shortcut(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential() if inputs == outputs else _conv1_bn(inputs, outputs)


def _conv_bn_relu(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module]:
    normalised = nn.Sequential(nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
    return nn.Conv2d(inputs, outputs, 1, bias=False), normalised


def _twice(channels: int, keys: int) -> tuple[nn.Module, ...]:
    return *_conv_bn_relu(channels, keys), *_conv_bn_relu(keys, keys)


def _head(channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel, padding=kernel // 2),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        Exact(channels, 1, 1),
    )


def _transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleDict:
    """What takes branches to the next stage; a branch that stays as it is has no entry."""
    steps: dict[str, nn.Module] = {}
    for i, width in enumerate(after):
        if i >= len(before):  # a new branch, half as fine as the coarsest so far
            steps[str(i)] = nn.Sequential(_conv3_bn(before[-1], width, stride=2, relu=True))
        elif before[i] != width:
            steps[str(i)] = _conv3_bn(before[i], width, stride=1, relu=True)
    return nn.ModuleDict(steps)


def _passed(transition: nn.ModuleDict, xs: Sequence[Tensor]) -> list[Tensor]:
    """All branches of the next stage: those there are, and one new one from the coarsest."""
    branches = []
    for i in range(len(xs) + 1):
        x = xs[min(i, len(xs) - 1)]
        branches.append(transition[str(i)](x) if str(i) in transition else x)
    return branches


def _fuse(widths: Sequence[int], source: int, target: int) -> nn.Sequential:
    """What takes a branch to the channels, and if need be down to the size, of another."""
    if source > target:
        return _conv1_bn(widths[source], widths[target])
    steps = target - source
    inner = (_conv3_bn(widths[source], widths[source], 2, relu=True) for _ in range(steps - 1))
    return nn.Sequential(*inner, _conv3_bn(widths[source], widths[target], 2, relu=False))


def _conv3_bn(inputs: int, outputs: int, stride: int, *, relu: bool) -> nn.Sequential:
    layers: list[nn.Module] = [_conv3(inputs, outputs, stride), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))


@torch.fx.wrap
def _upsampled(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def _resized(logits: Tensor, x: Tensor) -> Tensor:
    return _upsampled(logits.float(), x.shape[2:])
