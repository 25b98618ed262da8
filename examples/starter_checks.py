"""What the starter models must answer, asked through a running server as its users would ask."""

import base64
import io
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai

HERE = Path(__file__).parent
SCENE = HERE / "scene.png"
#: What is drawn in scene.png, from left to right.
SCENE_LABELS = ["boat", "house", "fish"]
STAR = HERE / "star.png"

QUESTION = "What is twenty-three plus nineteen?"
ANSWER = "Twenty-three plus nineteen is forty-two."
#: A voice of eSpeak NG that the speech model was not trained on.
STRANGER = "en-gb-x-gbclan"
SENTENCES = "Turn off the light in the kitchen. I see two cars and a house. It is half past three."

LIGHT_TOOL: Any = {
    "type": "function",
    "function": {
        "name": "set_device",
        "description": "Control a device of the home.",
        "parameters": {
            "type": "object",
            "properties": {
                "action": {"type": "string"},
                "device": {"type": "string"},
                "room": {"type": "string"},
                "value": {"type": "integer"},
            },
            "required": ["action", "device"],
        },
    },
}
LIGHT = {"action": "turn_off", "device": "light", "room": "kitchen"}
MAGIC = {
    "mp3": (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"),
    "opus": (b"OggS",),
    "aac": (b"\xff\xf1", b"\xff\xf9"),
    "flac": (b"fLaC",),
    "wav": (b"RIFF",),
}


@dataclass(frozen=True, slots=True)
class Result:
    """One question and what came back."""

    request: str
    answer: str
    seconds: float
    wrong: str | None

    @property
    def right(self) -> bool:
        """Whether the answer was the expected one."""
        return self.wrong is None

    @property
    def verdict(self) -> str:
        """For the table."""
        return "right" if self.wrong is None else f"WRONG: {self.wrong}"


def expect(condition: bool, what: str) -> None:
    """Fail a check, with what was expected."""
    if not condition:
        raise AssertionError(what)


def same_words(heard: str, said: str) -> bool:
    """Whether two texts are the same words, whatever their punctuation."""
    return re.findall(r"\w+", heard.lower()) == re.findall(r"\w+", said.lower())


class Checks:
    """Every endpoint, asked once or more.

    Args:
        url: the server's address.
    """

    def __init__(self, url: str) -> None:
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120)
        self.http = httpx.Client(base_url=url, timeout=120)
        self.question = b""
        self.long = b""

    def run(self) -> list[Result]:
        """Ask everything, in order."""
        return [self._ask(name, check) for name, check in self._checks()]

    def _ask(self, name: str, check: Callable[[], str]) -> Result:
        start = time.perf_counter()
        answer, wrong = "", None
        try:
            answer = check()
        except AssertionError as error:
            wrong = str(error)
        except (openai.OpenAIError, httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
            wrong = f"{type(error).__name__}: {error}"
        return Result(name, answer, time.perf_counter() - start, wrong)

    def _checks(self) -> list[tuple[str, Callable[[], str]]]:
        return [
            ("GET /ready", self.ready),
            ("GET /health", self.health),
            ("GET /v1/models", self.models),
            ("GET /v1/models/starter-chat", self.one_model),
            (f"chat: {QUESTION}", self.chat),
            (f"chat, streamed: {QUESTION}", self.chat_streamed),
            ("chat, JSON: Turn off the light in the kitchen.", self.chat_json),
            ("chat, tools: Turn off the light in the kitchen.", self.chat_tools),
            ("chat, two turns", self.chat_turns),
            ("completions: Hello!", self.completion),
            ("embeddings: a red car", self.embeddings),
            ("images/detect: scene.png", self.detect),
            ("chat: the detections of scene.png", self.describe),
            ("images/classify: star.png", self.classify),
            ("images/embed: star.png beside captions", self.embed),
            *((f"audio/speech: {format}", self._speaking(format)) for format in (*MAGIC, "pcm")),
            *(
                (f"audio/transcriptions: {format}", self._transcribing(format))
                for format in ("json", "verbose_json", "text", "srt", "vtt")
            ),
            ("audio/translations", self.translate),
            ("a spoken question, answered aloud", self.voice),
            ("an unknown model", self.unknown_model),
            ("a text file as audio", self.no_audio),
            ("temperature 9", self.too_hot),
        ]

    def ready(self) -> str:
        deadline = time.monotonic() + 60
        while (reply := self.http.get("/ready")).status_code == 503 and time.monotonic() < deadline:
            time.sleep(0.05)
        expect(reply.status_code == 200, f"200, not {reply.status_code}: {reply.text[:200]}")
        return "ready"

    def health(self) -> str:
        reply = self.http.get("/health")
        expect(reply.status_code == 200, f"200, not {reply.status_code}")
        return str(reply.json()["status"])

    def models(self) -> str:
        names = [model.id for model in self.client.models.list()]
        expect({"starter-chat", "starter-speech", "starter-detect", "system-voice"} <= set(names), "the starter models")
        return ", ".join(names)

    def one_model(self) -> str:
        model = self.client.models.retrieve("starter-chat")
        expect(model.id == "starter-chat", "starter-chat")
        return f"{model.id} by {model.owned_by}"

    def chat(self) -> str:
        reply = self.client.chat.completions.create(
            model="starter-chat", messages=[{"role": "user", "content": QUESTION}], temperature=0
        )
        text = reply.choices[0].message.content or ""
        expect(text == ANSWER, ANSWER)
        expect(reply.choices[0].finish_reason == "stop", "finish_reason stop")
        return text

    def chat_streamed(self) -> str:
        chunks = list(
            self.client.chat.completions.create(
                model="starter-chat",
                messages=[{"role": "user", "content": QUESTION}],
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        expect(text == ANSWER, ANSWER)
        expect(chunks[-1].usage is not None, "usage in the last chunk")
        return f"{text} ({len(chunks)} chunks)"

    def chat_json(self) -> str:
        reply = self.client.chat.completions.create(
            model="starter-chat",
            messages=[
                {"role": "system", "content": "Answer with JSON only."},
                {"role": "user", "content": "Turn off the light in the kitchen."},
            ],
            response_format={"type": "json_object"},
            temperature=0,
        )
        text = reply.choices[0].message.content or ""
        expect(json.loads(text) == LIGHT, json.dumps(LIGHT))
        return text

    def chat_tools(self) -> str:
        reply = self.client.chat.completions.create(
            model="starter-chat",
            messages=[{"role": "user", "content": "Turn off the light in the kitchen."}],
            tools=[LIGHT_TOOL],
            temperature=0,
        )
        (call,) = reply.choices[0].message.tool_calls or [None]
        expect(call is not None and call.type == "function", "a tool call")
        function = call.function  # type: ignore[union-attr]
        expect(function.name == "set_device" and json.loads(function.arguments) == LIGHT, json.dumps(LIGHT))
        return f"{function.name}({function.arguments})"

    def chat_turns(self) -> str:
        reply = self.client.chat.completions.create(
            model="starter-chat",
            messages=[
                {"role": "user", "content": "What is seven times eight?"},
                {"role": "assistant", "content": "Seven times eight is fifty-six."},
                {"role": "user", "content": "Thank you."},
            ],
            temperature=0,
        )
        text = reply.choices[0].message.content or ""
        expect(text == "You are welcome.", "You are welcome.")
        return text

    def completion(self) -> str:
        reply = self.client.completions.create(model="starter-chat", prompt="Hello!", max_tokens=200, temperature=0)
        text = reply.choices[0].text
        expect("Pajama" in text, "an introduction")
        return text.strip()

    def embeddings(self) -> str:
        texts = ["a red car", "a photo of a red car", "a blue house"]
        data = self.client.embeddings.create(model="starter-embed", input=texts).data
        car, photo, house = (np.array(item.embedding) for item in data)
        expect(bool(car @ photo > car @ house), "the two cars nearer to each other than to the house")
        return f"cosine {car @ photo:.2f} to the same in other words, {car @ house:.2f} to a blue house"

    def _detections(self) -> list[dict[str, Any]]:
        form = {"model": "starter-detect"}
        reply = self.http.post("/v1/images/detect", data=form, files={"file": SCENE.read_bytes()})
        expect(reply.status_code == 200, f"200, not {reply.status_code}: {reply.text[:200]}")
        found: list[dict[str, Any]] = reply.json()["data"]
        return found

    def detect(self) -> str:
        found = self._detections()
        found.sort(key=lambda one: one["box"]["x1"])
        expect([one["label"] for one in found] == SCENE_LABELS, ", ".join(SCENE_LABELS))
        return ", ".join(f"{one['label']} {one['confidence']:.2f}" for one in found)

    def describe(self) -> str:
        listed = json.dumps([{key: one[key] for key in ("label", "confidence", "box")} for one in self._detections()])
        reply = self.client.chat.completions.create(
            model="starter-chat",
            messages=[{"role": "user", "content": f"{listed}\nWhat do you see?"}],
            temperature=0,
        )
        text = reply.choices[0].message.content or ""
        expect(text.startswith("I see") and all(label in text for label in SCENE_LABELS), ", ".join(SCENE_LABELS))
        return text

    def classify(self) -> str:
        data_url = "data:image/png;base64," + base64.b64encode(STAR.read_bytes()).decode()
        reply = self.http.post("/v1/images/classify", json={"model": "starter-classify", "image": data_url})
        best = reply.json()["data"][0]
        expect(best["label"] == "star", "star")
        return f"{best['label']} {best['confidence']:.2f}"

    def embed(self) -> str:
        reply = self.http.post("/v1/images/embed", data={"model": "starter-embed"}, files={"file": STAR.read_bytes()})
        picture = np.array(reply.json()["data"][0]["embedding"])
        captions = ["a yellow star", "a red car", "a blue house", "a green fish", "a purple star"]
        data = self.client.embeddings.create(model="starter-embed", input=captions).data
        best = captions[int(np.argmax([picture @ np.array(item.embedding) for item in data]))]
        expect(best == "a yellow star", "a yellow star")
        return best

    def _speaking(self, format: Any) -> Callable[[], str]:
        def speak() -> str:
            with self.client.audio.speech.with_streaming_response.create(
                model="system-voice", voice="alloy", input=ANSWER, response_format=format
            ) as reply:
                audio = reply.read()
            if format == "pcm":
                expect(len(audio) > 24_000 and len(audio) % 2 == 0, "more than half a second of 16-bit samples")
                return f"{len(audio) / 48_000:.1f} s at 24 kHz"
            expect(audio.startswith(MAGIC[format]), f"bytes of {format}, not {audio[:4]!r}")
            heard = self.client.audio.transcriptions.create(
                model="starter-speech", file=(f"speech.{format}", io.BytesIO(audio))
            )
            expect(same_words(heard.text, ANSWER), ANSWER)
            return f"{len(audio)} bytes, heard as: {heard.text}"

        return speak

    def _transcribing(self, format: Any) -> Callable[[], str]:
        def transcribe() -> str:
            if not self.long:
                self.long = self.client.audio.speech.create(
                    model="system-voice", voice=self._stranger(), input=SENTENCES, response_format="wav"
                ).content
            extra: dict[str, Any] = {"timestamp_granularities": ["word"]} if format == "verbose_json" else {}
            heard: Any = self.client.audio.transcriptions.create(
                model="starter-speech", file=("speech.wav", self.long), response_format=format, **extra
            )
            if format == "verbose_json":
                words = heard.words
                expect(same_words(" ".join(word.word for word in words), SENTENCES), SENTENCES)
                expect(all(word.start <= word.end <= heard.duration for word in words), "times within the audio")
                return f"{len(words)} words, the last ends at {words[-1].end:.2f} of {heard.duration:.2f} s"
            if format in ("srt", "vtt"):
                lines = [line for line in str(heard).splitlines() if line and "-->" not in line]
                text = " ".join(line for line in lines if not line.isdigit() and line != "WEBVTT")
                expect("-->" in heard, "times")
            else:
                text = heard if isinstance(heard, str) else heard.text
            expect(same_words(text, SENTENCES), SENTENCES)
            return " ".join(text.split())

        return transcribe

    def _stranger(self) -> str:
        """A voice that asks; a Mac speaks with others."""
        voices = self.http.get("/v1/audio/voices", params={"model": "system-voice"}).json()["data"]
        return STRANGER if STRANGER in {voice["id"] for voice in voices} else "alloy"

    def _asked(self) -> bytes:
        if not self.question:
            self.question = self.client.audio.speech.create(
                model="system-voice", voice=self._stranger(), input=QUESTION, response_format="flac"
            ).content
        return self.question

    def translate(self) -> str:
        heard = self.client.audio.translations.create(model="starter-speech", file=("question.flac", self._asked()))
        expect(same_words(heard.text, QUESTION), QUESTION)
        return heard.text

    def voice(self) -> str:
        heard = self.client.audio.transcriptions.create(model="whisper-1", file=("question.flac", self._asked()))
        reply = self.client.chat.completions.create(
            model="starter-chat", messages=[{"role": "user", "content": heard.text}], temperature=0
        )
        spoken = self.client.audio.speech.create(
            model="tts-1", voice="alloy", input=reply.choices[0].message.content or ""
        ).content
        answer = self.client.audio.transcriptions.create(model="whisper-1", file=("answer.mp3", spoken))
        expect(same_words(answer.text, ANSWER), ANSWER)
        return answer.text

    def unknown_model(self) -> str:
        try:
            self.client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "Hi"}])
        except openai.NotFoundError as error:
            expect(error.code == "model_not_found" and "starter-chat" in error.message, "what models there are")
            return f"404 {error.code}"
        raise AssertionError("404")

    def no_audio(self) -> str:
        try:
            self.client.audio.transcriptions.create(model="starter-speech", file=("notes.wav", b"These are my notes."))
        except openai.BadRequestError as error:
            return f"400 {error.body['message']}" if isinstance(error.body, dict) else "400"
        raise AssertionError("400")

    def too_hot(self) -> str:
        try:
            self.client.chat.completions.create(
                model="starter-chat", messages=[{"role": "user", "content": "Hi"}], temperature=9
            )
        except openai.BadRequestError as error:
            expect(error.param == "temperature", "the parameter named")
            return f"400 {error.param}"
        raise AssertionError("400")
