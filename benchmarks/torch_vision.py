"""The networks of vision_models.py in PyTorch, with the weights of the same ONNX files: a peer for speed and outputs.

    python benchmarks/torch_vision.py --models FOLDER --out torch.json
    python benchmarks/torch_vision.py --serve            # for gpu_vision.py

Runs in any Python with PyTorch and the onnx package, and imports nothing of this project. Half precision, images in
channels-last order (the faster one), eager or through torch.compile with CUDA graphs.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from common.worker import alone, alone_options, serve
from torch import Tensor, nn
from torch.nn import functional as F

_BINS = 16
_STRIDES = (8, 16, 32)


class Conv(nn.Module):
    """A convolution with its normalization folded in, and SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.conv(x))


class Bottleneck(nn.Module):
    def __init__(self, width: int, shortcut: bool) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(width, width, 3), Conv(width, width, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.shortcut else y


class C2f(nn.Module):
    def __init__(self, inputs: int, outputs: int, count: int, shortcut: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.cv1 = Conv(inputs, outputs)
        self.cv2 = Conv((2 + count) * half, outputs)
        self.m = nn.ModuleList(Bottleneck(half, shortcut) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.cv1(x).chunk(2, 1))
        for block in self.m:
            parts.append(block(parts[-1]))
        return self.cv2(torch.cat(parts, 1))


class SPPF(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(width, width // 2), Conv(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.cv1(x)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, 1, 2))
        return self.cv2(torch.cat(parts, 1))


class Prototypes(nn.Module):
    def __init__(self, width: int, masks: int) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv3 = Conv(width, width, 3), Conv(width, width, 3), Conv(width, masks)
        self.upsample = nn.ConvTranspose2d(width, width, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(self.cv2(self.upsample(self.cv1(x))))


class Distances(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(_BINS, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        n, _, places = x.shape
        return self.conv(x.view(n, 4, _BINS, places).transpose(1, 2).softmax(1)).view(n, 4, places)


class Head(nn.Module):
    """Boxes, scores and the coefficients of masks from three feature maps."""

    def __init__(self, classes: int, masks: int, size: int) -> None:
        super().__init__()
        widths = (64, 128, 256)
        self.cv2 = nn.ModuleList(self._branch(width, 64, 4 * _BINS) for width in widths)
        self.cv3 = nn.ModuleList(self._branch(width, max(64, min(classes, 100)), classes) for width in widths)
        if masks:
            self.cv4 = nn.ModuleList(self._branch(width, max(16, masks), masks) for width in widths)
            self.proto = Prototypes(64, masks)
        self.masks = masks
        self.dfl = Distances()
        points, strides = [], []
        for stride in _STRIDES:
            cells = torch.arange(size // stride) + 0.5
            y, x = torch.meshgrid(cells, cells, indexing="ij")
            points.append(torch.stack([x.flatten(), y.flatten()]))
            strides.append(torch.full((1, x.numel()), float(stride)))
        self.register_buffer("points", torch.cat(points, 1)[None], persistent=False)
        self.register_buffer("strides", torch.cat(strides, 1)[None], persistent=False)

    @staticmethod
    def _branch(inputs: int, width: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(Conv(inputs, width, 3), Conv(width, width, 3), nn.Conv2d(width, outputs, 1))

    def forward(self, maps: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
        def joined(branch: nn.ModuleList) -> Tensor:
            return torch.cat([one(x).flatten(2) for one, x in zip(branch, maps, strict=True)], 2)

        before, after = self.dfl(joined(self.cv2)).chunk(2, 1)
        low, high = self.points - before, self.points + after
        boxes = torch.cat([(low + high) / 2, high - low], 1) * self.strides
        parts = [boxes, joined(self.cv3).sigmoid()]
        if not self.masks:
            return (torch.cat(parts, 1),)
        return torch.cat([*parts, joined(self.cv4)], 1), self.proto(maps[0])


class YOLOv8n(nn.Module):
    """Normalized images [n, 3, 640, 640] to what an exported YOLOv8 gives."""

    def __init__(self, classes: int = 80, masks: int = 0, size: int = 640) -> None:
        super().__init__()
        layers: dict[int, nn.Module] = {
            0: Conv(3, 16, 3, 2), 1: Conv(16, 32, 3, 2), 2: C2f(32, 32, 1, True), 3: Conv(32, 64, 3, 2),
            4: C2f(64, 64, 2, True), 5: Conv(64, 128, 3, 2), 6: C2f(128, 128, 2, True), 7: Conv(128, 256, 3, 2),
            8: C2f(256, 256, 1, True), 9: SPPF(256), 12: C2f(384, 128, 1, False), 15: C2f(192, 64, 1, False),
            16: Conv(64, 64, 3, 2), 18: C2f(192, 128, 1, False), 19: Conv(128, 128, 3, 2),
            21: C2f(384, 256, 1, False), 22: Head(classes, masks, size),
        }  # fmt: skip
        self.model = nn.ModuleDict({str(index): layer for index, layer in layers.items()})

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        layer = self.model
        for index in range(5):
            x = layer[str(index)](x)
        p3 = x
        p4 = layer["6"](layer["5"](p3))
        p5 = layer["9"](layer["8"](layer["7"](p4)))
        n4 = layer["12"](torch.cat([F.interpolate(p5, scale_factor=2.0), p4], 1))
        n3 = layer["15"](torch.cat([F.interpolate(n4, scale_factor=2.0), p3], 1))
        n4 = layer["18"](torch.cat([layer["16"](n3), n4], 1))
        n5 = layer["21"](torch.cat([layer["19"](n4), p5], 1))
        made: tuple[Tensor, ...] = layer["22"]((n3, n4, n5))
        return made


class Block(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, first: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(inputs, width, 1), nn.Conv2d(width, width, 3, stride, 1)
        self.conv3 = nn.Conv2d(width, 4 * width, 1)
        self.downsample = nn.Sequential(nn.Conv2d(inputs, 4 * width, 1, stride)) if first else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv2(F.relu(self.conv1(x))))
        return F.relu(self.downsample(x) + self.conv3(y))


class ResNet50(nn.Module):
    """Normalized images [n, 3, 224, 224] to logits [n, classes]."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        inputs = 64
        for stage, blocks in enumerate((3, 4, 6, 3)):
            width, made = 64 << stage, []
            for block in range(blocks):
                made.append(Block(inputs, width, 2 if stage and not block else 1, not block))
                inputs = 4 * width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*made))
        self.fc = nn.Conv2d(inputs, classes, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = F.max_pool2d(F.relu(self.conv1(x)), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return (self.fc(F.adaptive_avg_pool2d(x, 1)).flatten(1),)


class Transformer(nn.Module):
    """Normalized images [n, 3, 224, 224] to logits [n, 1000]: ViT-Base with patches of 16 pixels."""

    def __init__(self, size: int = 224, patch: int = 16, width: int = 768, depth: int = 12, heads: int = 12) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, patch)})
        self.positions = nn.Parameter(torch.zeros(1, (size // patch) ** 2 + 1, width))
        self.blocks = nn.ModuleList(Layer(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, 1e-6)
        self.head = nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        x = F.pad(x, (0, 0, 1, 0)) + self.positions
        for block in self.blocks:
            x = block(x)
        return (self.head(self.norm(x)[:, 0]),)


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attn = nn.ModuleDict({name: nn.Linear(width, width) for name in ("q", "k", "v", "proj")})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        n, places, width = x.shape
        y = self.norm1(x)
        q, k, v = (self.attn[name](y).view(n, places, self.heads, -1).transpose(1, 2) for name in "qkv")
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, places, width)
        x = x + self.attn["proj"](y)
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


NETWORKS: Mapping[str, tuple[type[nn.Module], dict[str, Any], int]] = {
    "yolov8n": (YOLOv8n, {}, 640),
    "yolov8n-96": (YOLOv8n, {"size": 96}, 96),
    "yolov8n-seg": (YOLOv8n, {"masks": 32}, 640),
    "resnet50": (ResNet50, {}, 224),
    "vit-base": (Transformer, {}, 224),
}


def load(model: str, folder: Path) -> nn.Module:
    """A network with the weights of its ONNX file, in float32 on the CPU."""
    kind, options, _ = NETWORKS[model]
    network = kind(**options)
    graph = onnx.load(folder / "model.onnx").graph
    wanted = network.state_dict()
    state = {}
    for tensor in graph.initializer:
        if tensor.name in wanted:
            values = torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
            # Graphs hold the matrices of products the other way round.
            linear = values.ndim == 2 and tensor.name != "positions"
            state[tensor.name] = values.T.contiguous() if linear else values
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


class Prepared:
    """A network with a batch on the device."""

    def __init__(self, network: Any, batch: Tensor) -> None:
        self._network, self._batch = network, batch

    def start(self) -> None:
        with torch.inference_mode():
            self._network(self._batch)

    def wait(self) -> None:
        torch.cuda.synchronize()

    def once(self) -> None:
        self.start()
        self.wait()


class TorchSubject:
    """PyTorch.

    Args:
        compiled: whether through torch.compile.
        dtype: of weights and activations.
    """

    def __init__(self, compiled: bool, dtype: torch.dtype = torch.float16) -> None:
        self._compiled, self._dtype = compiled, dtype
        self._networks: dict[str, Any] = {}

    def prepare(self, model: str, folder: Path, batch: int) -> Prepared:
        size = NETWORKS[model][2]
        images = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
        return Prepared(self._ready(model, folder), self._moved(images))

    def outputs(self, model: str, folder: Path, inputs: Path, to: Path) -> None:
        with torch.inference_mode():
            made = self._ready(model, folder)(self._moved(torch.from_numpy(np.load(inputs))))
        np.savez(to, *(one.float().cpu().numpy() for one in made))

    def _moved(self, images: Tensor) -> Tensor:
        return images.to("cuda", self._dtype).to(memory_format=torch.channels_last)

    def _ready(self, model: str, folder: Path) -> Any:
        if model not in self._networks:
            network = load(model, folder).to("cuda", self._dtype).to(memory_format=torch.channels_last)
            if self._compiled:
                # Each batch size is compiled for itself: a graph for any size is slower.
                network = torch.compile(network, mode="reduce-overhead", dynamic=False)
            self._networks[model] = network
        return self._networks[model]


SUBJECTS = {
    "torch-eager": lambda: TorchSubject(False),
    "torch-compiled": lambda: TorchSubject(True),
    "torch-eager-fp32": lambda: TorchSubject(False, torch.float32),
}


def about() -> dict[str, Any]:
    """The versions, and the device."""
    return {
        "versions": {"torch": torch.__version__, "cuda (torch)": torch.version.cuda},
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }


def main() -> int:
    """Measure by itself, or serve."""
    given = alone_options(__doc__)
    # Convolutions of a fixed size are timed once and the fastest way kept, as an engine builder does.
    torch.backends.cudnn.benchmark = True
    if given.serve:
        serve(SUBJECTS, about)
        return 0
    if not torch.cuda.is_available():
        print("skipped: PyTorch sees no CUDA device")
        return 0
    batches = list(map(int, given.batches.split(",")))
    found = alone(
        {name: SUBJECTS[name] for name in ("torch-eager", "torch-compiled")},
        given.models,
        given.only.split(","),
        batches,
        given.rounds,
    )
    if given.out:
        given.out.write_text(json.dumps({**about(), **found}, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
