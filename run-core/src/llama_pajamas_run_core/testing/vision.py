"""What every vision backend must do."""

from typing import Any

import numpy as np
import pytest

from llama_pajamas_run_core.errors import BadInput, Unsupported
from llama_pajamas_run_core.testing.base import BackendContract
from llama_pajamas_run_core.types.vision import DetectOptions, Image

#: Widths and heights that models are given in life.
SIZES = ((64, 64), (320, 200), (200, 320), (1, 1), (1, 300), (300, 1), (37, 53), (1280, 720))


def pictures(sizes: tuple[tuple[int, int], ...] = SIZES, seed: int = 0) -> list[Image]:
    """Noise with a few coloured rectangles, one picture for each width and height."""
    rng = np.random.default_rng(seed)
    made = []
    for width, height in sizes:
        pixels = rng.integers(90, 140, (height, width, 3), np.uint8)
        for _ in range(3):
            x, y = int(rng.integers(width)), int(rng.integers(height))
            pixels[y : y + height // 3 + 1, x : x + width // 3 + 1] = rng.integers(0, 256, 3)
        made.append(Image(pixels))
    return made


class VisionContract(BackendContract):
    """What the model does is told by its spec; tests of what it does not do check that it says so."""

    def ask(self, backend: Any) -> Any:
        images = pictures()[:2]
        tasks = backend.spec.tasks if backend.loaded else {"detect"}
        if "detect" in tasks:
            return backend.detect(images, DetectOptions(confidence=0.01))
        return backend.classify(images) if "classify" in tasks else backend.embed(images)

    def ask_wrongly(self, backend: Any) -> Any:
        tasks = backend.spec.tasks
        if "detect" in tasks:
            return backend.detect(pictures()[:1], DetectOptions(confidence=7))
        return backend.classify(pictures()[:1], top=0) if "classify" in tasks else backend.embed([])

    def same(self, one: Any, other: Any) -> bool:
        return np.array_equal(one, other) if isinstance(one, np.ndarray) else bool(one == other)

    def _need(self, backend: Any, task: str) -> None:
        if task not in backend.spec.tasks:
            pytest.skip(f"the model does not {task}")

    def test_the_spec_is_complete(self, backend: Any) -> None:
        spec = backend.spec
        assert spec.tasks
        assert spec.width > 0
        assert spec.height > 0
        assert min(spec.std) > 0
        assert "embed_text" not in spec.tasks or "embed" in spec.tasks

    def test_what_it_does_not_do_is_unsupported(self, backend: Any) -> None:
        calls = {
            "detect": lambda: backend.detect(pictures()[:1]),
            "segment": lambda: backend.segment(pictures()[:1]),
            "classify": lambda: backend.classify(pictures()[:1]),
            "embed": lambda: backend.embed(pictures()[:1]),
            "embed_text": lambda: backend.embed_text(["a dog"]),
        }
        for task in calls.keys() - backend.spec.tasks:
            with pytest.raises(Unsupported, match="it does"):
                calls[task]()

    def test_no_image_is_bad_input(self, backend: Any) -> None:
        for task in ("detect", "segment", "classify", "embed"):
            if task in backend.spec.tasks:
                with pytest.raises(BadInput, match="image"):
                    getattr(backend, task)([])

    def test_boxes_lie_inside_their_image(self, backend: Any) -> None:
        self._need(backend, "detect")
        images = pictures()
        for image, found in zip(images, backend.detect(images, DetectOptions(confidence=0.01)), strict=True):
            for one in found:
                assert 0 <= one.box.x1 <= one.box.x2 <= image.width
                assert 0 <= one.box.y1 <= one.box.y2 <= image.height
                assert 0.01 <= one.confidence <= 1
                assert not backend.spec.labels or one.label == backend.spec.labels[one.class_id]

    def test_detections_come_surest_first_and_no_more_than_asked(self, backend: Any) -> None:
        self._need(backend, "detect")
        (found,) = backend.detect(pictures()[1:2], DetectOptions(confidence=0.0, max_detections=3))
        assert len(found) <= 3
        assert [one.confidence for one in found] == sorted((one.confidence for one in found), reverse=True)

    def test_classes_filter_detections(self, backend: Any) -> None:
        self._need(backend, "detect")
        (found,) = backend.detect(pictures()[1:2], DetectOptions(confidence=0.0, classes=(0,)))
        assert {one.class_id for one in found} <= {0}
        with pytest.raises(BadInput, match="class"):
            backend.detect(pictures()[:1], DetectOptions(classes=(10**6,)))

    def test_detection_of_many_equals_singles(self, backend: Any) -> None:
        self._need(backend, "detect")
        images, options = pictures(), DetectOptions(confidence=0.2)
        together = backend.detect(images, options)
        for image, found in zip(images, together, strict=True):
            (alone,) = backend.detect([image], options)
            assert [one.label for one in found] == [one.label for one in alone]
            for one, other in zip(found, alone, strict=True):
                assert one.confidence == pytest.approx(other.confidence, abs=1e-3)
                for edge in ("x1", "y1", "x2", "y2"):
                    assert getattr(one.box, edge) == pytest.approx(getattr(other.box, edge), abs=0.5)

    def test_masks_lie_in_their_boxes(self, backend: Any) -> None:
        self._need(backend, "segment")
        images, options = pictures(), DetectOptions(confidence=0.05)
        without = backend.detect(images, options)
        for image, found, bare in zip(images, backend.segment(images, options), without, strict=True):
            assert [one.box for one in found] == [one.box for one in bare]
            assert all(one.mask is None for one in bare)
            for one in found:
                assert (one.mask.width, one.mask.height) == (image.width, image.height)
                rows, columns = np.nonzero(one.mask.full())
                if len(rows):
                    assert one.box.x1 <= columns.min() + 0.5
                    assert columns.max() + 0.5 < one.box.x2
                    assert one.box.y1 <= rows.min() + 0.5
                    assert rows.max() + 0.5 < one.box.y2

    def test_segmentation_of_many_equals_singles(self, backend: Any) -> None:
        self._need(backend, "segment")
        images, options = pictures(), DetectOptions(confidence=0.2)
        for image, found in zip(images, backend.segment(images, options), strict=True):
            (alone,) = backend.segment([image], options)
            assert [one.label for one in found] == [one.label for one in alone]
            for one, other in zip(found, alone, strict=True):
                if one.box == other.box:
                    differ = np.count_nonzero(one.mask.full() != other.mask.full())
                    assert differ <= 0.01 * one.mask.part.size + 2

    def test_probabilities_sum_to_one(self, backend: Any) -> None:
        self._need(backend, "classify")
        for named in backend.classify(pictures(), top=10**6):
            assert sum(one.confidence for one in named) == pytest.approx(1, abs=1e-3)
            assert [one.confidence for one in named] == sorted((one.confidence for one in named), reverse=True)
            assert all(one.label == backend.spec.labels[one.class_id] for one in named if backend.spec.labels)

    def test_classification_of_many_equals_singles(self, backend: Any) -> None:
        self._need(backend, "classify")
        images = pictures()
        for image, named in zip(images, backend.classify(images, top=2), strict=True):
            (alone,) = backend.classify([image], top=2)
            for one, other in zip(named, alone, strict=True):
                assert one.confidence == pytest.approx(other.confidence, abs=1e-3)

    def test_embeddings_have_length_one(self, backend: Any) -> None:
        self._need(backend, "embed")
        vectors = backend.embed(pictures())
        assert vectors.dtype == np.float32
        assert vectors.shape[0] == len(SIZES)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)

    def test_embedding_of_many_equals_singles(self, backend: Any) -> None:
        self._need(backend, "embed")
        images = pictures()
        alone = np.concatenate([backend.embed([image]) for image in images])
        np.testing.assert_allclose(backend.embed(images), alone, atol=1e-3)

    def test_texts_go_to_the_space_of_images(self, backend: Any) -> None:
        self._need(backend, "embed_text")
        texts = ["a red square", "two green circles", "blue"]
        vectors = backend.embed_text(texts)
        assert vectors.shape == (3, backend.embed(pictures()[:1]).shape[1])
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
        alone = np.concatenate([backend.embed_text([text]) for text in texts])
        np.testing.assert_allclose(vectors, alone, atol=1e-3)
        with pytest.raises(BadInput, match="empty"):
            backend.embed_text(["a red square", "  "])

    def test_what_is_drawn_on_a_canvas_is_seen(self, backend: Any) -> None:
        task = next(task for task in ("detect", "classify", "embed") if task in backend.spec.tasks)
        look = getattr(backend, task)
        drawn = []
        for image in pictures():
            canvas = backend.canvas(image.width, image.height)
            assert canvas.pixels.shape == image.pixels.shape
            assert not canvas.pixels.any()
            canvas.pixels[:] = image.pixels
            drawn.append(canvas)
        assert self.same(look(drawn), look(pictures()))
        for image, canvas in zip(pictures(), drawn, strict=True):
            assert self.same(look([canvas]), look([image]))
        part = Image(drawn[0].pixels[3:-5, 2:-1])
        assert self.same(look([part, drawn[1]]), look([Image(part.pixels.copy()), pictures()[1]]))

    def test_a_canvas_without_pixels_is_bad_input(self, backend: Any) -> None:
        for width, height in ((0, 5), (5, -1)):
            with pytest.raises(BadInput, match="at least one pixel"):
                backend.canvas(width, height)

    def test_more_images_than_fit_into_one_run(self, backend: Any) -> None:
        images = pictures() * 5
        task = next(task for task in ("detect", "classify", "embed") if task in backend.spec.tasks)
        assert len(getattr(backend, task)(images)) == len(images)
