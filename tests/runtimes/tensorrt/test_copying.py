"""Pixels copied to pinned memory, alone and with helpers."""

import threading

import numpy as np
import pytest

from llama_pajamas_run_tensorrt import _copying
from llama_pajamas_run_tensorrt._copying import Copiers, Copying, copied


def pictures(*sizes, seed=0):
    """Pictures, every third of them a view with gaps."""
    rng = np.random.default_rng(seed)
    made = [rng.integers(0, 256, (height, width, 3), np.uint8) for height, width in sizes]
    return [one[::-1, ::-1] if index % 3 == 2 else one for index, one in enumerate(made)]


def laid_out(images):
    offsets, end = [], 0
    for image in images:
        offsets.append(end)
        end += -(-image.size // 256) * 256
    return np.full(end + 64, 7, np.uint8), offsets


CASES = [
    [(1, 1)],
    [(640, 640)],
    [(1080, 1920)],
    [(224, 224)] * 9,
    [(640, 640), (3, 5), (1, 700), (900, 1), (480, 640), (64, 64), (2, 2), (1000, 333)],
]


def in_pieces(into, offsets, images, helpers):
    copying = Copying(into, offsets, images)
    helpers.help(copying)
    return copying.ready()


def alone(into, offsets, images, helpers):
    return copied(into, offsets, images)


@pytest.mark.parametrize(("how", "threads"), [(alone, 0), (in_pieces, 0), (in_pieces, 1), (in_pieces, 3)])
@pytest.mark.parametrize("sizes", CASES, ids=len)
def test_every_pixel_comes_to_its_place_and_is_told_once(sizes, how, threads):
    images = pictures(*sizes)
    helpers = Copiers(threads)
    try:
        for _ in range(5):
            into, offsets = laid_out(images)
            told = []
            for first, last in how(into, offsets, images, helpers):
                told.append((first, last))
                for image, offset in zip(images, offsets, strict=True):  # what is told is there
                    low, high = max(first, offset), min(last, offset + image.size)
                    if low < high:
                        expected = np.ascontiguousarray(image).reshape(-1)[low - offset : high - offset]
                        np.testing.assert_array_equal(into[low:high], expected)
            covered = np.zeros(len(into), np.int32)
            for first, last in told:
                covered[first:last] += 1
            for image, offset in zip(images, offsets, strict=True):
                assert (covered[offset : offset + image.size] == 1).all()
            assert told == sorted(told)
            assert (into[offsets[-1] + images[-1].size :] == 7).all()
    finally:
        helpers.close()


def test_most_of_a_picture_is_on_its_way_while_the_rest_is_copied():
    images = pictures((640, 640))
    into, offsets = laid_out(images)
    assert list(copied(into, offsets, images)) == [(0, 921_600), (921_600, 1_228_800)]


def test_small_copies_are_told_together():
    images = pictures(*[(100, 100)] * 64)
    into, offsets = laid_out(images)
    told = list(Copying(into, offsets, images).ready())
    assert len(told) == 4  # 30 kB each, about half a megabyte at once
    assert all(last - first >= _copying._TOLD for first, last in told[:-1])


def test_helpers_that_do_not_come_are_not_waited_for():
    class Nobody(Copiers):
        def __init__(self):
            super().__init__(0)
            self.threads = 4  # none of which ever wakes

    images = pictures(*[(640, 640)] * 3)
    into, offsets = laid_out(images)
    copying = Copying(into, offsets, images)
    assert not copying.helped
    Nobody().help(copying)
    assert copying.helped
    assert list(copying.ready())[-1][1] == offsets[-1] + images[-1].size


def test_helpers_alone_can_do_it(monkeypatch):
    """Pieces that others have taken are waited for, those that still sleep included."""
    images = pictures(*[(640, 640)] * 4)
    into, offsets = laid_out(images)
    copying = Copying(into, offsets, images)
    begun, go = threading.Event(), threading.Event()
    copy = copying._copy

    def slowly(index):
        begun.set()
        assert go.wait(10)
        copy(index)

    copying._copy = slowly
    helper = threading.Thread(target=copying.help)
    helper.start()
    assert begun.wait(10)
    threading.Timer(0.05, go.set).start()
    assert [last for _, last in copying.ready()][-1] == offsets[-1] + images[-1].size
    helper.join(10)
    for image, offset in zip(images, offsets, strict=True):
        np.testing.assert_array_equal(into[offset : offset + image.size], np.ascontiguousarray(image).reshape(-1))


def test_after_settling_nothing_is_written_any_more():
    images = pictures(*[(640, 640)] * 8)
    into, offsets = laid_out(images)
    helpers = Copiers(2)
    try:
        for _ in range(20):
            copying = Copying(into, offsets, images)
            helpers.help(copying)
            copying.settle()
            into[:] = 3
            copying.settle()  # harmless
            copying.help()
            assert (into == 3).all()
    finally:
        helpers.close()


def test_a_fault_of_a_helper_is_the_callers():
    images = pictures(*[(640, 640)] * 4)
    into, offsets = laid_out(images)
    copying = Copying(into, offsets, images)

    def fails(index):
        raise ValueError("no such pixels")

    copying._copy = fails
    helper = threading.Thread(target=copying.help)
    helper.start()
    helper.join(10)
    with pytest.raises(ValueError, match="no such pixels"):
        list(copying.ready())
    copying.settle()
