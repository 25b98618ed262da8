"""``/v1/images/*`` and ``/v1/detection``."""

import base64

import numpy as np
import pytest

from llama_pajamas_run_core.dsp.outlines import from_coco_rle
from llama_pajamas_run_core.server.settings import Limits, Settings

pytestmark = pytest.mark.anyio

DETECT = "/v1/images/detect"


def encoded(data):
    return base64.b64encode(data).decode()


def near(box, expected, within=2.5):
    return all(abs(box[name] - value) <= within for name, value in zip(("x1", "y1", "x2", "y2"), expected, strict=True))


async def test_boxes_come_in_the_pictures_own_pixels(client, png):
    response = await client.post(DETECT, files={"file": ("a.png", png(), "image/png")})
    reply = response.json()
    assert response.status_code == 200
    assert (reply["object"], reply["model"]) == ("list", "colour-detector")
    assert reply["image"] == {"width": 200, "height": 100}
    (found,) = reply["data"]
    assert (found["class_id"], found["label"]) == (0, "red")
    assert 0 <= found["confidence"] <= 1
    assert near(found["box"], (20, 30, 80, 70))
    assert set(reply["timing"]) == {"decode_ms", "queue_ms", "infer_ms", "total_ms"}


async def test_json_gives_the_same(client, png):
    data = png()
    one = (await client.post(DETECT, files={"file": data}, data={"model": "colour-detector"})).json()["data"]
    for image in (encoded(data), f"data:image/png;base64,{encoded(data)}"):
        reply = (await client.post(DETECT, json={"model": "colour-detector", "image": image})).json()
        assert reply["data"] == one


async def test_nothing_found_is_an_empty_list(client, png):
    response = await client.post(DETECT, files={"file": png(colour=(10, 10, 10))})
    assert (response.status_code, response.json()["data"]) == (200, [])


async def test_options(client, png):
    async def found(**fields):
        response = await client.post(DETECT, files={"file": png()}, data=fields)
        assert response.status_code == 200, response.text
        return len(response.json()["data"])

    assert await found(confidence="0.95") == 0
    assert await found(confidence="0.5", iou="0.3", max_detections="1") == 1
    assert await found(classes="green") == 0
    assert await found(classes="0,1") == 1
    body = {"image": encoded(png()), "classes": ["red", 2]}
    assert len((await client.post(DETECT, json=body)).json()["data"]) == 1


async def test_masks_as_coco_has_them(client, png):
    data = png()
    reply = (await client.post(DETECT, files={"file": data}, data={"masks": "rle"})).json()
    assert reply["model"] == "colour-segmenter"
    (found,) = reply["data"]
    mask = from_coco_rle(found["segmentation"])
    assert found["segmentation"]["size"] == [100, 200]
    assert mask.area == found["area"]
    drawn = np.zeros((100, 200), bool)
    drawn[30:70, 20:80] = True
    # The model sees a third of the pixels across: an edge may be two of them off.
    assert np.count_nonzero(mask.full() != drawn) < 0.2 * drawn.sum()
    body = {"image": encoded(data), "masks": "polygons", "model": "colour-segmenter"}
    (found,) = (await client.post(DETECT, json=body)).json()["data"]
    (ring,) = found["segmentation"]
    corners = np.array(ring).reshape(-1, 2)
    assert found["area"] == mask.area
    np.testing.assert_allclose(corners.min(axis=0), [20, 30], atol=2.5)
    np.testing.assert_allclose(corners.max(axis=0), [80, 70], atol=2.5)
    (bare,) = (await client.post(DETECT, json={"image": encoded(data), "model": "colour-segmenter"})).json()["data"]
    assert set(bare) == {"class_id", "label", "confidence", "box"}
    assert bare["box"] == found["box"]


@pytest.mark.parametrize(
    ("fields", "param"), [({"masks": "png"}, "masks"), ({"masks": "rle", "model": "colour-detector"}, "model")]
)
async def test_masks_that_cannot_be(client, png, fields, param):
    response = await client.post(DETECT, files={"file": png()}, data=fields)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_the_shape_of_localai(client, png):
    reply = (await client.post("/v1/detection", json={"model": "colour-detector", "image": encoded(png())})).json()
    (found,) = reply["detections"]
    assert found["class_name"] == "red"
    assert abs(found["width"] - 60) <= 4
    assert abs(found["height"] - 40) <= 4
    assert abs(found["x"] - 20) <= 2.5
    reply = (await client.post("/v1/detection", json={"image": encoded(png()), "threshold": 0.99})).json()
    assert reply == {"detections": []}


async def test_classification(client, png):
    data = png(box=(0, 0, 200, 100), colour=(0, 0, 255))
    body = {"model": "colour-classifier", "image": encoded(data), "top": 2}
    reply = (await client.post("/v1/images/classify", json=body)).json()
    assert [item["label"] for item in reply["data"]][0] == "blue"
    assert len(reply["data"]) == 2
    form = await client.post("/v1/images/classify", files={"file": data}, data={"model": "colour-classifier"})
    assert form.json()["data"][0] == reply["data"][0]
    unnamed = await client.post("/v1/images/classify", files={"file": data})
    assert unnamed.json()["model"] == "colour-classifier"
    assert sum(item["confidence"] for item in form.json()["data"]) == pytest.approx(1, abs=1e-4)


async def test_embeddings_of_pictures_and_texts_share_a_space(client, png):
    async def embed(**body):
        response = await client.post("/v1/images/embed", json={"model": "colour-embedder", **body})
        assert response.status_code == 200, response.text
        return np.array([item["embedding"] for item in response.json()["data"]])

    red, blue = (encoded(png(box=(0, 0, 200, 100), colour=colour)) for colour in ((255, 0, 0), (0, 0, 255)))
    pictures = await embed(image=[red, blue])
    texts = await embed(input=["red", "blue"])
    assert (pictures @ texts.T).argmax(axis=1).tolist() == [0, 1]
    np.testing.assert_allclose(np.linalg.norm(pictures, axis=1), 1, atol=1e-5)
    upload = await client.post(
        "/v1/images/embed",
        files={"file": base64.b64decode(red)},
        data={"model": "colour-embedder", "encoding_format": "base64"},
    )
    vector = np.frombuffer(base64.b64decode(upload.json()["data"][0]["embedding"]), "<f4")
    np.testing.assert_allclose(vector, pictures[0], atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"confidence": "1.5"}, "confidence"),
        ({"confidence": "high"}, "confidence"),
        ({"iou": "-1"}, "iou"),
        ({"max_detections": "0"}, "max_detections"),
        ({"classes": "9"}, "classes"),
        ({"classes": "purple"}, "classes"),
        ({"classes": "\u00b2"}, "classes"),
        ({"classes": "-1"}, "classes"),
        ({"model": "colour-classifier"}, "model"),
        ({"model": "echo"}, "model"),
    ],
)
async def test_what_is_wrong_is_named(client, png, fields, param):
    response = await client.post(DETECT, files={"file": png()}, data=fields)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param
    numbers = {"max_detections": int}
    if "model" not in fields and fields.get("confidence") != "high":
        value = next(iter(fields.values()))
        typed = [value] if param == "classes" else numbers.get(param, float)(value)
        response = await client.post(DETECT, json={"image": encoded(png()), param: typed})
        assert response.status_code == 400
        assert response.json()["error"]["param"] == param


async def test_files_that_are_no_pictures(client, png):
    for data in (b"", b"not a picture", png()[:50], b"GIF89a", b"\x89PNG\r\n\x1a\n"):
        response = await client.post(DETECT, files={"file": ("a.png", data)})
        assert response.status_code == 400, data
        assert "0x" not in response.json()["error"]["message"]
    response = await client.post(DETECT, data={"file": "text"}, files={"other": b"x"})
    assert response.json()["error"]["param"] == "file"
    response = await client.post(DETECT, json={"image": "http://169.254.169.254/latest"})
    assert response.json()["error"]["param"] == "image"
    response = await client.post(DETECT, json={"image": 5})
    assert response.json()["error"]["param"] == "image"
    for body in ({"model": "colour-embedder"}, {"model": "colour-embedder", "image": "x", "input": "y"}):
        assert (await client.post("/v1/images/embed", json=body)).status_code == 400
    response = await client.post("/v1/images/embed", json={"model": "colour-embedder", "image": [encoded(png()), "%"]})
    assert response.json()["error"]["param"] == "image[1]"


async def test_an_upload_that_is_too_large(make_client):
    client = await make_client(Settings(limits=Limits(upload=1000)))
    response = await client.post(DETECT, files={"file": b"x" * 2000})
    assert response.status_code == 413
    response = await client.post(DETECT, json={"image": encoded(b"x" * 2000)})
    assert response.status_code == 413
