"""``/v1/embeddings``."""

import base64

import numpy as np
import pytest

pytestmark = pytest.mark.anyio

PATH = "/v1/embeddings"


async def embed(client, source, **more):
    response = await client.post(PATH, json={"model": "echo", "input": source, **more})
    assert response.status_code == 200, response.text
    return response.json()


async def test_vectors_come_in_order_and_have_length_one(client):
    reply = await embed(client, ["alpha", "beta"])
    assert reply["object"] == "list"
    assert reply["model"] == "echo"
    assert reply["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    assert [item["index"] for item in reply["data"]] == [0, 1]
    assert {item["object"] for item in reply["data"]} == {"embedding"}
    vectors = np.array([item["embedding"] for item in reply["data"]])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    alone = await embed(client, "beta")
    assert alone["data"][0]["embedding"] == reply["data"][1]["embedding"]


async def test_base64_is_the_same_bit_for_bit(client):
    numbers = np.array((await embed(client, "alpha", encoding_format="float"))["data"][0]["embedding"], np.float32)
    coded = (await embed(client, "alpha", encoding_format="base64"))["data"][0]["embedding"]
    assert np.array_equal(np.frombuffer(base64.b64decode(coded), "<f4"), numbers)


async def test_token_ids(client):
    assert len((await embed(client, [1, 2, 3]))["data"]) == 1
    assert len((await embed(client, [[1, 2], [3]]))["data"]) == 2


async def test_dimensions_are_cut_and_renormalized(client):
    whole = np.array((await embed(client, "alpha"))["data"][0]["embedding"])
    cut = np.array((await embed(client, "alpha", dimensions=4))["data"][0]["embedding"])
    assert len(cut) == 4
    np.testing.assert_allclose(cut, whole[:4] / np.linalg.norm(whole[:4]), atol=1e-6)


async def test_the_text_encoder_of_a_vision_model(client):
    reply = await embed(client, ["something red", "something blue"], model="colour-embedder")
    np.testing.assert_allclose([item["embedding"] for item in reply["data"]], [[1, 0, 0], [0, 0, 1]], atol=1e-6)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": [-1]}, "input[0]"),
        ({"input": {"a": 1}}, "input"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": 99}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"model": "counter"}, "model"),
        ({"model": "colour-embedder", "input": [1, 2]}, "input"),
        ({"model": "colour-detector"}, "model"),
    ],
)
async def test_what_is_wrong_is_named(client, more, param):
    response = await client.post(PATH, json={"model": "echo", "input": "x", **more})
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param
