"""Small vision models as Core ML packages that describe themselves, built operation by operation."""

from pathlib import Path

import numpy as np

from llama_pajamas_run_core.types.vision import VisionSpec
from llama_pajamas_run_coreml.description import Origin, TextDescription, VisionDescription, to_metadata
from support.coreml_programs import builder, ct, program, save

mb = builder()
ORIGIN = Origin("tiny", "00" * 32, "0.1.0", "ios18", "float32", "none")
SIDE = 32
LABELS = ("bright", "dark", "red")


def detector(path: Path, *, batches: tuple[int, ...] = (2,)) -> Path:
    """A YOLO head on 32 x 32 pixels: each of 16 places is an 8 x 8 box, its classes are what its pixels look like."""
    centres = (np.stack(np.meshgrid(np.arange(4), np.arange(4)), 0).reshape(2, 16) * 8 + 4).astype(np.float32)
    boxes = np.concatenate([centres, np.full((2, 16), 8, np.float32)])[None]

    def build(images):
        cells = mb.avg_pool(x=images, kernel_sizes=[8, 8], strides=[8, 8], pad_type="valid")
        scores = _looks(mb.reshape(x=cells, shape=[batches[0], 3, 16]), 1)
        return mb.concat(values=[mb.tile(x=boxes, reps=[batches[0], 1, 1]), scores], axis=1, name="output0")

    spec = VisionSpec(frozenset({"detect"}), SIDE, SIDE, "letterbox", labels=LABELS, head="yolov8")
    return _written(path, build, VisionDescription(ORIGIN, spec, "images", ("output0",), batches=batches))


def classifier(path: Path) -> Path:
    """Logits of what a picture looks like, one picture at a time, in half precision inside."""

    def build(images):
        half = mb.cast(x=images, dtype="fp16")
        colors = mb.reduce_mean(x=half, axes=[2, 3])
        plain = mb.add(x=mb.mul(x=colors, y=np.float16(0.25)), y=np.float16(0.5))  # undoes the normalization
        return mb.cast(x=_looks(plain, 1, np.float16), dtype="fp32", name="logits")

    spec = VisionSpec(
        frozenset({"classify"}), SIDE, SIDE, "stretch", (0.5,) * 3, (0.25,) * 3, LABELS, "logits", dynamic_batch=False
    )
    return _written(path, build, VisionDescription(ORIGIN, spec, "images", ("logits",)))


def embedder(folder: Path) -> Path:
    """Colours and counts of words as vectors: a folder with image, text and tokenizer."""
    folder.mkdir(parents=True)
    spec = VisionSpec(
        frozenset({"embed", "embed_text"}), SIDE, SIDE, "crop", head="embedding", dynamic_batch=False, crop=0.875
    )
    _written(
        folder / "image.mlpackage",
        lambda images: mb.reduce_mean(x=images, axes=[2, 3], name="image_embeds"),
        VisionDescription(ORIGIN, spec, "images", ("image_embeds",)),
    )
    table = np.eye(4, 3, dtype=np.float32)

    def read(ids, mask):
        words = mb.mul(
            x=mb.gather(x=table, indices=ids, axis=0), y=mb.expand_dims(x=mb.cast(x=mask, dtype="fp32"), axes=[2])
        )
        return mb.reduce_sum(x=words, axes=[1], name="text_embeds")

    example = {"ids": np.zeros((2, 5), np.int32), "mask": np.zeros((2, 5), np.int32)}
    about = TextDescription(ORIGIN, "ids", "mask", "text_embeds", 5, 3, (2,), 4)
    save(program(example, read), folder / "text.mlpackage", metadata=to_metadata(about))
    _tokenizer(folder / "tokenizer.json")
    return folder


def _looks(colors, axis: int, kind=np.float32):
    """Brightness, darkness and redness of colours, as scores."""
    bright = mb.reduce_mean(x=colors, axes=[axis], keep_dims=True)
    red, _, blue = mb.split(x=colors, num_splits=3, axis=axis)
    redness = mb.relu(x=mb.sub(x=red, y=blue))
    return mb.concat(values=[bright, mb.sub(x=kind(1), y=bright), redness], axis=axis)


def _written(path: Path, build, about: VisionDescription) -> Path:
    example = {"images": np.zeros((about.batches[0], 3, SIDE, SIDE), np.float32)}
    return save(program(example, build), path, metadata=to_metadata(about), target=ct.target.iOS18)


def _tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"red": 0, "green": 1, "blue": 2, "[pad]": 3}, unk_token="[pad]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path))
