"""The real server with the starter models: a spoken question answered aloud, and mistakes that it survives."""

import asyncio
import base64
import io
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from llama_pajamas_run_core.artifacts.catalogue import Catalogue
from llama_pajamas_run_core.errors import LoadError
from llama_pajamas_run_core.machine import Machine
from llama_pajamas_run_core.server.run import Server
from llama_pajamas_run_core.server.settings import Settings
from llama_pajamas_run_core.types.tasks import Task
from llama_pajamas_starter.speech.data import DEMO_VOICE, HELD_OUT_ACCENT

SCENE = Path(__file__).resolve().parents[2] / "examples" / "scene.png"


@pytest.fixture(scope="module")
def machine() -> Machine:
    return Machine(Catalogue())


@pytest.fixture(scope="module")
def url(machine: Machine) -> Iterator[str]:
    started = threading.Event()
    server = Server(machine.pool(), Settings(port=0))
    thread = threading.Thread(target=server.run, kwargs={"ready": lambda _: started.set()})
    thread.start()
    assert started.wait(30)
    yield server.url
    server.stop()
    thread.join(15)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made:
        yield made


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


@pytest.mark.parametrize("voice", [DEMO_VOICE, HELD_OUT_ACCENT])
@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is twenty-three plus nineteen?", "Twenty-three plus nineteen is forty-two."),
        ("What is seven times eight?", "Seven times eight is fifty-six."),
        ("Turn off the light in the kitchen.", "Turning off the light in the kitchen."),
    ],
)
def test_a_spoken_question_gets_the_right_spoken_answer(
    client: openai.OpenAI, voice: str, question: str, answer: str
) -> None:
    """Asked in a voice that the speech model never heard; the answer's sound is transcribed again."""
    asked = client.audio.speech.create(model="system-voice", voice=voice, input=question, response_format="wav")
    heard = client.audio.transcriptions.create(model="starter-speech", file=("question.wav", asked.content))
    assert words(heard.text) == words(question)
    reply = client.chat.completions.create(
        model="starter-chat", messages=[{"role": "user", "content": heard.text}], temperature=0
    )
    assert reply.choices[0].message.content == answer
    spoken = client.audio.speech.create(model="tts-1", voice="alloy", input=answer)
    again = client.audio.transcriptions.create(model="whisper-1", file=("answer.mp3", spoken.content))
    assert words(again.text) == words(answer)


def test_the_async_client_does_all_at_once(url: str) -> None:
    async def everything() -> tuple[list[str], list[str], list[bytes], list[str]]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:

            async def stream(number: int) -> str:
                chunks = await client.chat.completions.create(
                    model="starter-chat",
                    messages=[{"role": "user", "content": f"What is {number} plus 1?"}],
                    temperature=0,
                    stream=True,
                )
                return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

            async def speak(format: Any) -> bytes:
                reply = await client.audio.speech.create(
                    model="system-voice", voice="onyx", input="It is half past three.", response_format=format
                )
                return reply.content

            async def hear(format: Any, sound: bytes) -> str:
                heard: Any = await client.audio.transcriptions.create(
                    model="starter-speech", file=("speech.wav", sound), response_format=format
                )
                return heard if isinstance(heard, str) else str(heard.text)

            answers = await asyncio.gather(*(stream(number) for number in range(2, 10)))
            formats = ("mp3", "opus", "aac", "flac", "wav", "pcm")
            sounds = await asyncio.gather(*(speak(format) for format in formats))
            heard = await asyncio.gather(
                *(hear(form, sounds[4]) for form in ("json", "verbose_json", "text", "srt", "vtt"))
            )
            names = [model.id async for model in client.models.list()]
            return list(answers), list(heard), list(sounds), names

    answers, heard, sounds, names = asyncio.run(everything())
    numbers = "three four five six seven eight nine ten".split()
    assert [answer.rstrip(".").split()[-1] for answer in answers] == numbers
    assert all("half past three" in text.lower() for text in heard)
    assert all(len(sound) > 1000 for sound in sounds)
    assert "starter-chat" in names


Ask = Callable[[httpx.Client], httpx.Response]
CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "Hi"}]
MISTAKES: dict[str, tuple[int, str | None, str, Ask]] = {
    "an unknown model": (404, "model", "starter-chat", lambda c: c.post(CHAT, json={"model": "gpt-9", "messages": HI})),
    "no file": (400, "file", "file", lambda c: c.post("/v1/audio/transcriptions", data={"model": "starter-speech"})),
    "a text file as audio": (
        400,
        "file",
        "not audio",
        lambda c: c.post(
            "/v1/audio/transcriptions", data={"model": "starter-speech"}, files={"file": ("a.wav", b"Some notes.")}
        ),
    ),
    "an empty upload": (
        400,
        "file",
        "empty",
        lambda c: c.post("/v1/audio/transcriptions", data={"model": "starter-speech"}, files={"file": ("a.wav", b"")}),
    ),
    "a truncated picture": (
        400,
        "file",
        "",
        lambda c: c.post(
            "/v1/images/detect", data={"model": "starter-detect"}, files={"file": ("a.png", SCENE.read_bytes()[:9000])}
        ),
    ),
    "a picture that is none": (
        400,
        "image",
        "",
        lambda c: c.post(
            "/v1/images/classify",
            json={"model": "starter-classify", "image": base64.b64encode(b"no picture").decode()},
        ),
    ),
    "broken JSON": (
        400,
        None,
        "JSON",
        lambda c: c.post(CHAT, content=b'{"model": "starter-chat", ', headers={"content-type": "application/json"}),
    ),
    "a temperature of 9": (
        400,
        "temperature",
        "2",
        lambda c: c.post(CHAT, json={"model": "starter-chat", "messages": HI, "temperature": 9}),
    ),
    "a model for another task": (
        400,
        "model",
        "speech to text",
        lambda c: c.post(CHAT, json={"model": "starter-speech", "messages": HI}),
    ),
    "a prompt beyond the context": (
        400,
        "messages",
        "2048",
        lambda c: c.post(
            CHAT, json={"model": "starter-chat", "messages": [{"role": "user", "content": "llama " * 3000}]}
        ),
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_and_the_server_goes_on(url: str, name: str) -> None:
    status, param, told, ask = MISTAKES[name]
    with httpx.Client(base_url=url, timeout=30) as client:
        reply = ask(client)
        assert reply.status_code == status, reply.text
        error = reply.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["param"] == param
        assert told in error["message"]
        again = client.post(
            CHAT,
            json={"model": "starter-chat", "messages": [{"role": "user", "content": "Thank you."}], "temperature": 0},
        )
        assert again.json()["choices"][0]["message"]["content"] == "You are welcome."


def test_half_a_model_is_refused_by_name(machine: Machine, tmp_path: Path) -> None:
    whole = machine.find("starter-chat", Task.LLM).artifact("gguf").materialize().read_bytes()
    half = tmp_path / "half.gguf"
    half.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LoadError, match=r"half\.gguf.*bytes"):
        machine.catalogue.add_path(half)


def test_a_model_that_breaks_after_it_was_named_is_a_clear_503(url: str, machine: Machine, tmp_path: Path) -> None:
    whole = machine.find("starter-chat", Task.LLM).artifact("gguf").materialize().read_bytes()
    path = tmp_path / "breaks.gguf"
    path.write_bytes(whole)
    entry = machine.catalogue.add_path(path)
    path.write_bytes(whole[:100_000])
    reply = httpx.post(f"{url}{CHAT}", json={"model": entry.id, "messages": HI}, timeout=30)
    assert reply.status_code == 503
    assert "breaks.gguf" in reply.json()["error"]["message"]
    assert str(tmp_path) not in reply.text


def test_pictures_of_every_kind_are_read(url: str) -> None:
    from PIL import Image

    scene = Image.open(SCENE).convert("RGB")
    for kind in ("png", "jpeg", "webp", "gif"):
        held = io.BytesIO()
        scene.save(held, kind)
        reply = httpx.post(
            f"{url}/v1/images/detect", data={"model": "starter-detect"}, files={"file": held.getvalue()}, timeout=30
        )
        assert {one["label"] for one in reply.json()["data"]} == {"boat", "house", "fish"}, kind
