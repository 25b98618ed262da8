"""The kernels' arithmetic against run-core's: run by the processor from the source that a GPU runs."""

import struct

import numpy as np
import pytest
from support.vision_kernels import processor_kernels

from llama_pajamas_run_core.dsp.fit import fit, normalization, place
from llama_pajamas_run_core.dsp.heads import read_candidates, suppress
from llama_pajamas_run_core.testing.vision import pictures
from llama_pajamas_run_core.types.vision import DetectOptions, Image, VisionSpec
from llama_pajamas_run_tensorrt.kernels import BOX, MOST_KEPT, PICTURE, SUPPRESS_THREADS, TILE

SIZES = ((64, 64), (40, 100), (129, 65), (1, 1), (1, 200), (200, 1), (320, 200), (48, 33), (7, 5))


@pytest.fixture(scope="module")
def kernels():
    return processor_kernels()


def describe(images, spec, options=None):
    """The bytes that tell the kernels about pictures, and the pixels that they point to."""
    held = [np.ascontiguousarray(image.pixels) for image in images]
    told = b""
    for image, pixels in zip(images, held, strict=True):
        at = place(image.width, image.height, spec)
        how = (options.confidence, options.iou, options.max_detections) if options else (0.0, 0.0, 0)
        told += struct.pack(PICTURE, pixels.ctypes.data, at.width, at.height, at.across, at.down, at.left, at.top,
                            3 * at.width, *how)  # fmt: skip
    return np.frombuffer(told, np.uint8).copy(), held


@pytest.mark.parametrize("resize", ["letterbox", "stretch", "crop"])
@pytest.mark.parametrize("kind", ["f32", "f16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_pictures_are_fitted_as_numpy_fits_them(kernels, resize, kind, channels_last):
    spec = VisionSpec(frozenset({"detect"}), 72, 41, resize, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), crop=0.9)
    images = pictures(SIZES, seed=3)
    told, _held = describe(images, spec)
    made = np.full((len(images), 3, 41, 72), np.nan, np.float16 if kind == "f16" else np.float32)
    counts = np.full(len(images), 7, np.int32)
    factors, offsets = normalization(spec)
    kernels.launch(
        f"fit_{kind}", (-(-72 // TILE[0]), -(-41 // TILE[1]), len(images)), (*TILE, 1), told.ctypes.data,
        made.ctypes.data, 72, 41, int(channels_last), *factors, *offsets, counts.ctypes.data,
    )  # fmt: skip
    assert counts.tolist() == [0] * len(images)
    if channels_last:
        made = made.reshape(len(images), 41, 72, 3).transpose(0, 3, 1, 2)
    for image, array in zip(images, made, strict=True):
        expected, _ = fit(image, spec)
        np.testing.assert_allclose(array.astype(np.float32), expected, atol=2e-3 if kind == "f16" else 2e-5)


def test_an_extreme_crop_is_within_the_integers(kernels):
    """A picture of one column: the crop enlarges it thousands of times."""
    spec = VisionSpec(frozenset({"classify"}), 24, 16, "crop")
    image = Image(np.random.default_rng(0).integers(0, 256, (16_384, 1, 3), np.uint8))
    told, _held = describe([image], spec)
    made = np.zeros((1, 3, 16, 24), np.float32)
    factors, offsets = normalization(spec)
    kernels.launch(
        "fit_f32", (1, 2, 1), (*TILE, 1), told.ctypes.data, made.ctypes.data, 24, 16, 0, *factors, *offsets, 0
    )
    np.testing.assert_allclose(made[0], fit(image, spec)[0], atol=2e-5)


def head(places, kinds, seed, *, weights=0, clustered=True):
    """[4 + kinds + weights, places]: boxes, many of them doubles of each other, with scores."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(20, 300, (2, places))
    if clustered:
        centres = centres[:, rng.integers(0, max(places // 6, 1), places)] + rng.normal(0, 2, (2, places))
    table = np.concatenate([centres, rng.uniform(5, 60, (2, places)), rng.beta(0.4, 2.0, (kinds, places)),
                            rng.normal(0, 1, (weights, places))])  # fmt: skip
    return table.astype(np.float32)


def run(kernels, tables, kinds, options, *, half=False, turned=False, weights=0, threads=64, room=None):
    """What the three kernels tell of several heads: heading, boxes, scores, classes and coefficients of each."""
    count, channels, places = tables.shape
    table = tables.transpose(0, 2, 1) if turned else tables
    table = np.ascontiguousarray(table, np.float16 if half else np.float32)
    kind, steps = ("f16" if half else "f32"), ((1, channels) if turned else (places, 1))
    spec = VisionSpec(frozenset({"detect"}), 320, 320, "letterbox")
    told, _held = describe([Image(np.zeros((2, 2, 3), np.uint8))] * count, spec, options)
    wanted = np.ones((count, kinds), np.uint8)
    if options.classes is not None:
        wanted[:] = 0
        wanted[:, list(options.classes)] = 1
    room = room or 1 << max(places - 1, 0).bit_length()
    found = np.zeros((count, room), BOX)
    keys = np.zeros((count, room), np.uint64)
    rows, copy = np.zeros((count, 1 + MOST_KEPT), BOX), np.zeros((count, 1 + MOST_KEPT), BOX)
    counts = np.zeros(count, np.int32)
    out = np.zeros((count, MOST_KEPT, max(weights, 1)), np.float32)
    kernels.launch(
        f"collect_{kind}", (-(-places // threads), count, 1), (threads, 1, 1), told.ctypes.data, table.ctypes.data,
        channels, kinds, places, *steps, wanted.ctypes.data, room, found.ctypes.data, counts.ctypes.data,
    )  # fmt: skip
    kernels.launch(
        "suppress_boxes", (count, 1, 1), (SUPPRESS_THREADS, 1, 1), told.ctypes.data, room,
        found.ctypes.data, counts.ctypes.data, keys.ctypes.data, rows.ctypes.data, copy.ctypes.data,
    )  # fmt: skip
    if weights:
        kernels.launch(
            f"gather_{kind}", (count, 1, 1), (256, 1, 1), copy.ctypes.data, table.ctypes.data, channels, weights,
            places, *steps, out.ctypes.data,
        )  # fmt: skip
    headings = rows.view(np.int32).reshape(count, 1 + MOST_KEPT, 8)[:, 0, :3]
    made = []
    for index in range(count):
        kept = rows[index, 1 : 1 + headings[index, 1]]
        made.append((headings[index].tolist(), kept["box"], kept["score"], kept["kind"], out[index, : len(kept)]))
    return made


def expected(table, kinds, options, *, half=False, weights=0):
    labels = tuple(str(i) for i in range(kinds))
    name = "yolov8-seg" if weights else "yolov8"
    spec = VisionSpec(frozenset({"detect"}), 320, 320, "letterbox", labels=labels, head=name)
    outputs = [table.astype(np.float16 if half else np.float32)]
    if weights:
        outputs.append(np.zeros((weights, 4, 4), np.float32))
    candidates = read_candidates(outputs, spec, options)
    return len(candidates), suppress(candidates, spec, options)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        DetectOptions(),
        DetectOptions(confidence=0.6, iou=0.7),
        DetectOptions(iou=0.0),
        DetectOptions(iou=1.0, confidence=0.5),
        DetectOptions(max_detections=3),
        DetectOptions(classes=(0, 2)),
        DetectOptions(classes=()),
        DetectOptions(confidence=1.0),
    ],
    ids=str,
)
def test_boxes_are_chosen_as_numpy_chooses_them(kernels, half, turned, options):
    tables = np.stack([head(400, 4, seed) for seed in range(3)])
    for table, made in zip(tables, run(kernels, tables, 4, options, half=half, turned=turned), strict=True):
        candidates, found = expected(table, 4, options, half=half)
        heading, boxes, scores, classes, _ = made
        assert heading == [candidates, len(found), 0]
        np.testing.assert_array_equal(classes, found.classes)
        np.testing.assert_array_equal(scores, found.scores)
        np.testing.assert_array_equal(boxes, found.boxes)


def test_coefficients_are_those_of_the_boxes_kept(kernels):
    for turned in (False, True):
        tables = np.stack([head(300, 3, seed, weights=8) for seed in range(2)])
        for table, made in zip(tables, run(kernels, tables, 3, DetectOptions(), turned=turned, weights=8), strict=True):
            _, found = expected(table, 3, DetectOptions(), weights=8)
            assert len(found) > 10
            np.testing.assert_array_equal(made[1], found.boxes)
            np.testing.assert_array_equal(made[4], found.coefficients)


def test_ties_keep_the_order_of_the_output(kernels):
    table = head(200, 2, 1, clustered=False)
    table[4:] = np.round(table[4:], 1)  # many equal scores
    options = DetectOptions(confidence=0.05)
    ((heading, boxes, _, _, _),) = run(kernels, table[None], 2, options)
    candidates, found = expected(table, 2, options)
    assert heading == [candidates, len(found), 0]
    np.testing.assert_array_equal(boxes, found.boxes)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e7])
def test_what_is_not_finite_is_left_out(kernels, bad):
    table = head(60, 3, 5)
    for row in range(7):
        table[row, row * 3] = bad
    table[:, 40] = bad
    if bad == 1e7:  # a score may be as large as it likes
        table[4:, :] = np.minimum(table[4:, :], 1.0)
    options = DetectOptions(confidence=0.1)
    ((heading, boxes, _, classes, _),) = run(kernels, table[None], 3, options)
    candidates, found = expected(table, 3, options)
    assert heading == [candidates, len(found), 0]
    np.testing.assert_array_equal(boxes, found.boxes)
    np.testing.assert_array_equal(classes, found.classes)


def test_more_than_fits_is_said(kernels):
    table = head(3000, 2, 2)
    ((heading, *_),) = run(kernels, table[None], 2, DetectOptions(confidence=0.0), room=2048)
    assert heading == [3000, 0, 1]
    # As many boxes as can be told, and more that would be kept.
    apart = head(900, 1, 3, clustered=False)
    apart[2:4], apart[:2] = 0.5, np.stack(np.meshgrid(np.arange(30), np.arange(30))).reshape(2, -1) * 2
    apart[4] = np.linspace(1, 0.3, 900)
    ((heading, *_),) = run(kernels, apart[None], 1, DetectOptions(max_detections=900))
    assert heading == [900, MOST_KEPT, 1]
    ((heading, *_),) = run(kernels, apart[None], 1, DetectOptions(max_detections=MOST_KEPT))
    assert heading == [900, MOST_KEPT, 0]


@pytest.mark.parametrize("places", [1025, 2048, 4500])
@pytest.mark.parametrize("options", [DetectOptions(confidence=0.0), DetectOptions(confidence=0.0, iou=0.1)], ids=str)
def test_more_than_shared_memory_holds_is_taken_in_turns(kernels, places, options):
    """Boxes so close together that later ones fall to those kept of the thousand before."""
    tables = np.stack([head(places, 3, places + seed) for seed in range(2)])
    tables[1, :2] = tables[1, :2] % 40
    for table, made in zip(tables, run(kernels, tables, 3, options), strict=True):
        candidates, found = expected(table, 3, options)
        assert made[0] == [candidates, len(found), 0]
        assert candidates > 1024
        np.testing.assert_array_equal(made[1], found.boxes)
        np.testing.assert_array_equal(made[2], found.scores)
        np.testing.assert_array_equal(made[3], found.classes)


@pytest.mark.parametrize("places", [1, 2, 3, 63, 64, 65, 1024])
def test_sizes_around_the_blocks(kernels, places):
    table = head(places, 2, places)
    table[4:] = np.clip(table[4:], 0.3, 1)
    ((heading, boxes, _, _, _),) = run(kernels, table[None], 2, DetectOptions())
    candidates, found = expected(table, 2, DetectOptions())
    assert heading == [candidates, len(found), 0]
    np.testing.assert_array_equal(boxes, found.boxes)
