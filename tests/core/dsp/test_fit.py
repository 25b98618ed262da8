import time

import numpy as np
import pytest

from llama_pajamas_run_core.dsp.fit import fit
from llama_pajamas_run_core.types.vision import Box, Image, VisionSpec


def spec(width=320, height=320, resize="letterbox", **fields):
    return VisionSpec(frozenset({"detect"}), width, height, resize, **fields)


def picture(width, height, seed=0):
    return Image(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def marked(width, height, box):
    pixels = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = box
    pixels[y1:y2, x1:x2] = 255
    return Image(pixels)


@pytest.mark.parametrize(
    ("size", "into"),
    [
        ((640, 480), (320, 320)),
        ((500, 333), (224, 160)),
        ((37, 91), (64, 48)),
        ((100, 80), (333, 257)),
        ((3, 5), (9, 2)),
    ],
)
def test_it_resizes_as_pillow_does(size, into):
    pil = pytest.importorskip("PIL.Image")
    image = picture(*size)
    made, _ = fit(image, spec(*into, "stretch"))
    expected = np.asarray(pil.fromarray(image.pixels).resize(into, pil.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert made.shape == (3, into[1], into[0])
    assert made.dtype == np.float32
    assert made.flags.c_contiguous
    assert np.abs(made * 255 - expected).max() <= 1.01  # Pillow rounds between its two passes


def test_the_same_size_is_the_same_picture():
    image = picture(64, 48)
    for resize in ("letterbox", "stretch", "crop"):
        made, _ = fit(image, spec(64, 48, resize))
        np.testing.assert_allclose(made * 255, image.pixels.transpose(2, 0, 1), atol=1e-4)


def test_shrinking_counts_every_pixel():
    stripes = np.zeros((64, 640, 3), np.uint8)
    stripes[:, ::10] = 255
    made, _ = fit(Image(stripes), spec(64, 64, "stretch"))
    np.testing.assert_allclose(made[:, :, 1:-1] * 255, 25.5, atol=0.5)


@pytest.mark.parametrize(
    ("size", "into", "place"),
    [
        # left, top, width and height as ultralytics' LetterBox has them
        ((640, 480), (320, 320), (0, 40, 320, 240)),
        ((480, 640), (320, 320), (40, 0, 240, 320)),
        ((1280, 720), (640, 640), (0, 140, 640, 360)),
        ((100, 33), (64, 64), (0, 21, 64, 21)),
        ((810, 1080), (640, 640), (80, 0, 480, 640)),
        ((32, 32), (640, 320), (160, 0, 320, 320)),
    ],
)
def test_a_letterbox(size, into, place):
    made, placement = fit(Image(np.full((size[1], size[0], 3), 255, np.uint8)), spec(*into))
    left, top, width, height = place
    assert (placement.left, placement.top) == (left, top)
    inside = np.zeros((into[1], into[0]), bool)
    inside[top : top + height, left : left + width] = True
    np.testing.assert_allclose(made[:, inside], 1, atol=1e-5)
    np.testing.assert_allclose(made[:, ~inside] * 255, 114, atol=1e-3)


def test_a_crop_is_the_middle():
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, 100:200] = 255
    made, placement = fit(Image(pixels), spec(50, 50, "crop"))
    np.testing.assert_allclose(made[:, :, 1:-1], 1, atol=1e-5)
    assert placement.left == -50
    part, _ = fit(Image(pixels), spec(50, 50, "crop", crop=0.5))
    np.testing.assert_allclose(part, 1, atol=1e-5)


def test_normalizing():
    image = Image(np.full((8, 8, 3), (255, 0, 51), np.uint8))
    made, _ = fit(image, spec(8, 8, mean=(0.5, 0.5, 0.1), std=(0.5, 0.25, 0.2)))
    np.testing.assert_allclose(made[:, 0, 0], [1, -2, 0.5], atol=1e-6)


@pytest.mark.parametrize("resize", ["letterbox", "stretch", "crop"])
@pytest.mark.parametrize("size", [(640, 480), (333, 777), (1920, 1080), (50, 40)])
def test_boxes_come_back_to_their_place(size, resize):
    width, height = size
    box = (width * 2 // 5, height * 2 // 5, width * 3 // 5, height * 3 // 5)
    made, placement = fit(marked(width, height, box), spec(320, 256, resize))
    white = made[0] > 0.5
    across, down = np.flatnonzero(white.any(axis=0)), np.flatnonzero(white.any(axis=1))
    found = np.array([across[0], down[0], across[-1] + 1, down[-1] + 1], np.float32)
    restored = placement.restore(found)
    pixel = max(width / 320, height / 256, 1)
    np.testing.assert_allclose([restored.x1, restored.y1, restored.x2, restored.y2], box, atol=1.5 * pixel)


def test_boxes_are_clipped_to_the_image():
    _, placement = fit(picture(640, 480), spec())
    assert placement.restore(np.array([-50, -50, 400, 400], np.float32)) == Box(0, 0, 640, 480)
    whole = placement.restore(np.array([0, 40, 320, 280], np.float32))
    assert (whole.x1, whole.y1, whole.x2, whole.y2) == (0, 0, 640, 480)
    assert type(whole.x1) is float


@pytest.mark.parametrize("resize", ["letterbox", "stretch", "crop"])
@pytest.mark.parametrize("size", [(1, 1), (1, 16_384), (16_384, 1), (2, 3)])
def test_extreme_shapes_cost_no_more_than_their_result(size, resize):
    image = Image(np.full((size[1], size[0], 3), 200, np.uint8))
    start = time.thread_time()
    made, placement = fit(image, spec(224, 320, resize))
    assert time.thread_time() - start < 1
    assert made.shape == (3, 320, 224)
    values = np.unique((made * 255).round())
    assert set(values.tolist()) <= {114.0, 200.0}
    assert 200.0 in values
    assert placement.width == size[0]


def test_the_image_is_left_alone():
    image = picture(64, 64)
    image.pixels.flags.writeable = False
    before = image.pixels.copy()
    for resize in ("letterbox", "stretch", "crop"):
        fit(image, spec(64, 64, resize, mean=(0.5,) * 3))
    assert (image.pixels == before).all()


def test_it_takes_milliseconds():
    image = picture(640, 480)

    def seconds() -> float:
        start = time.thread_time()
        fit(image, spec())
        return time.thread_time() - start

    # Where others compute besides, the threads of a matrix product wait for each other; not every time.
    assert any(seconds() < 0.05 for _ in range(50))
