"""The three networks: a YOLOv8-style detector, a ViT classifier and a CLIP-style dual encoder.

Sources: YOLOv8's published layout (C2f blocks, PAN neck, decoupled anchor-free head with distribution focal loss, Li et
al. 2020, arXiv:2006.04388); ViT (Dosovitskiy et al. 2020, arXiv:2010.11929) with a convolutional stem (Xiao et al.
2021, arXiv:2106.14881); CLIP (Radford et al. 2021, arXiv:2103.00020).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BINS = 16
STRIDES = (8, 16, 32)


class Conv(nn.Module):
    """Convolution, batch norm, SiLU; :meth:`fuse` folds the norm into the convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn: nn.BatchNorm2d | None = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return F.silu(x if self.bn is None else self.bn(x))

    def fuse(self) -> None:
        if self.bn is None:
            return
        gain = self.bn.weight / torch.sqrt(self.bn.running_var + self.bn.eps)
        weight = self.conv.weight * gain[:, None, None, None]
        bias = self.bn.bias - self.bn.running_mean * gain
        self.conv.weight = nn.Parameter(weight.detach())
        self.conv.bias = nn.Parameter(bias.detach())
        self.bn = None


class Bottleneck(nn.Module):
    def __init__(self, width: int, shortcut: bool) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(width, width, 3), Conv(width, width, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.shortcut else y


class C2f(nn.Module):
    def __init__(self, inputs: int, outputs: int, count: int = 1, shortcut: bool = False) -> None:
        super().__init__()
        half = outputs // 2
        self.half = half
        self.cv1 = Conv(inputs, 2 * half)
        self.cv2 = Conv((2 + count) * half, outputs)
        self.m = nn.ModuleList(Bottleneck(half, shortcut) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.cv1(x).split((self.half, self.half), 1))
        for block in self.m:
            parts.append(block(parts[-1]))
        return self.cv2(torch.cat(parts, 1))


class SPPF(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(width, width // 2), Conv(width * 2, width)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.cv1(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.cv2(torch.cat(parts, 1))


class Detector(nn.Module):
    """Boxes of ``classes`` kinds in a square RGB image (batch, 3, size, size) with values 0 to 1.

    In training mode the output is (batch, anchors, 4 * BINS) distance logits and (batch, anchors, classes) score
    logits. In evaluation mode it is what an exported YOLOv8 gives: (batch, 4 + classes, anchors) with centre x, centre
    y, width, height in input pixels, then scores after the sigmoid; before non-maximum suppression.
    """

    def __init__(self, classes: int, size: int = 320, widths: tuple[int, ...] = (16, 24, 40, 60, 80)) -> None:
        super().__init__()
        a, b, c, d, e = widths
        self.classes, self.size = classes, size
        self.stem = nn.Sequential(Conv(3, a, 3, 2), Conv(a, b, 3, 2), C2f(b, b, 1, True))
        self.stage3 = nn.Sequential(Conv(b, c, 3, 2), C2f(c, c, 2, True))
        self.stage4 = nn.Sequential(Conv(c, d, 3, 2), C2f(d, d, 2, True))
        self.stage5 = nn.Sequential(Conv(d, e, 3, 2), C2f(e, e, 1, True), SPPF(e))
        self.up4, self.up3 = C2f(d + e, d), C2f(c + d, c)
        self.down3, self.out4 = Conv(c, c, 3, 2), C2f(c + d, d)
        self.down4, self.out5 = Conv(d, d, 3, 2), C2f(d + e, e)
        reg, cls = 32, 40
        self.box = nn.ModuleList(
            nn.Sequential(Conv(w, reg, 3), Conv(reg, reg, 3), nn.Conv2d(reg, 4 * BINS, 1)) for w in (c, d, e)
        )
        self.score = nn.ModuleList(
            nn.Sequential(
                Conv(w, w, 3, groups=w),
                Conv(w, cls),
                Conv(cls, cls, 3, groups=cls),
                Conv(cls, cls),
                nn.Conv2d(cls, classes, 1),
            )
            for w in (c, d, e)
        )
        for box, score, stride in zip(self.box, self.score, STRIDES, strict=True):
            nn.init.constant_(box[-1].bias, 1.0)
            # A prior of about five objects per image, so that the first steps are not spent on unlearning half-ones.
            nn.init.constant_(score[-1].bias, float(torch.log(torch.tensor(5 / classes / (size / stride) ** 2))))
        points, strides = [], []
        for stride in STRIDES:
            cells = torch.arange(size // stride) + 0.5
            y, x = torch.meshgrid(cells, cells, indexing="ij")
            points.append(torch.stack([x, y], -1).reshape(-1, 2) * stride)
            strides.append(torch.full(((size // stride) ** 2,), float(stride)))
        self.register_buffer("points", torch.cat(points), persistent=False)
        self.register_buffer("strides", torch.cat(strides), persistent=False)
        self.register_buffer("bins", torch.arange(BINS, dtype=torch.float32).view(1, 1, BINS, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        p3 = self.stage3(self.stem(image))
        p4 = self.stage4(p3)
        p5 = self.stage5(p4)
        n4 = self.up4(torch.cat([F.interpolate(p5, scale_factor=2.0, mode="nearest"), p4], 1))
        n3 = self.up3(torch.cat([F.interpolate(n4, scale_factor=2.0, mode="nearest"), p3], 1))
        n4 = self.out4(torch.cat([self.down3(n3), n4], 1))
        n5 = self.out5(torch.cat([self.down4(n4), p5], 1))
        maps = (n3, n4, n5)
        # Sizes as plain numbers: traced shapes would put their arithmetic into the exported graph.
        cells = [(self.size // stride) ** 2 for stride in STRIDES]
        boxes = torch.cat([h(x).reshape(-1, 4 * BINS, n) for h, x, n in zip(self.box, maps, cells, strict=True)], 2)
        scores = torch.cat(
            [h(x).reshape(-1, self.classes, n) for h, x, n in zip(self.score, maps, cells, strict=True)], 2
        )
        if self.training:
            return boxes.transpose(1, 2), scores.transpose(1, 2)
        distances = boxes.reshape(-1, 4, BINS, sum(cells)).float()
        distances = (distances.softmax(2) * self.bins).sum(2) * self.strides
        centre, (left_top, right_bottom) = (self.points.T.unsqueeze(0), distances.split((2, 2), 1))
        middle = centre + (right_bottom - left_top) / 2
        return torch.cat([middle, left_top + right_bottom, scores.float().sigmoid()], 1)

    def corners(self, boxes: Tensor) -> Tensor:
        """Distance logits (batch, anchors, 4 * BINS) to corners x0, y0, x1, y1 in input pixels."""
        batch, anchors, _ = boxes.shape
        distances = (boxes.float().view(batch, anchors, 4, BINS).softmax(-1) * self.bins.view(BINS)).sum(-1)
        distances = distances * self.strides[:, None]
        return torch.cat([self.points - distances[..., :2], self.points + distances[..., 2:]], -1)

    def fuse(self) -> "Detector":
        for module in self.modules():
            if isinstance(module, Conv):
                module.fuse()
        return self


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, length: int) -> None:
        super().__init__()
        self.width, self.heads, self.length = width, heads, length
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        depth = self.width // self.heads
        parts = self.qkv(x).split((self.width, self.width, self.width), -1)
        q, k, v = (part.reshape(-1, self.length, self.heads, depth).transpose(1, 2) for part in parts)
        if torch.onnx.is_in_onnx_export():
            # Plain products and a softmax: every converter knows them.
            scores = q @ k.transpose(-1, -2) * depth**-0.5
            y = (scores if bias is None else scores + bias).softmax(-1) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, None if bias is None else bias.to(q.dtype))
        return self.out(y.transpose(1, 2).reshape(-1, self.length, self.width))


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, length: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, length)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        x = x + self.attention(self.norm1(x), bias)
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class VisionTransformer(nn.Module):
    """(batch, 3, size, size), normalized, to (batch, outputs): patches of 8 pixels, mean over the patches."""

    def __init__(self, outputs: int, size: int = 96, width: int = 96, heads: int = 4, depth: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, 2, 1)
        self.patch = nn.Conv2d(24, width, 4, 4)
        self.width, self.length = width, (size // 8) ** 2
        self.position = nn.Parameter(torch.randn(1, self.length, width) * 0.02)
        self.layers = nn.ModuleList(Layer(width, heads, self.length) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(F.gelu(self.stem(image))).reshape(-1, self.width, self.length).transpose(1, 2) + self.position
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x).mean(1))


class TextTransformer(nn.Module):
    """(batch, length) token ids, padded with ``pad``, to (batch, outputs), read off at the first token."""

    def __init__(
        self, vocabulary: int, outputs: int, length: int, pad: int, width: int = 96, heads: int = 4, depth: int = 2
    ) -> None:
        super().__init__()
        self.pad = pad
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.randn(1, length, width) * 0.02)
        self.layers = nn.ModuleList(Layer(width, heads, length) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)
        nn.init.normal_(self.token.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        bias = (ids == self.pad).to(self.position.dtype)[:, None, None, :] * -1e4
        x = self.token(ids) + self.position
        for layer in self.layers:
            x = layer(x, bias)
        return self.head(self.norm(x[:, 0]))


class Normalized(nn.Module):
    """An encoder whose output has length one."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        y = self.encoder(x).float()
        return y / torch.sqrt((y * y).sum(-1, keepdim=True) + 1e-12)


class Embedder(nn.Module):
    """Both encoders and CLIP's temperature."""

    def __init__(self, vocabulary: int, length: int, pad: int, outputs: int = 128) -> None:
        super().__init__()
        self.image = Normalized(VisionTransformer(outputs))
        self.text = Normalized(TextTransformer(vocabulary, outputs, length, pad))
        self.temperature = nn.Parameter(torch.tensor(2.65))
