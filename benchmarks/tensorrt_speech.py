"""Whisper through TensorRT beside PyTorch in half precision, and what the starter model hears in TensorRT and ONNX.

    python benchmarks/tensorrt_speech.py --models FOLDER --torch-python python3 --torch-path '' --output results.json

Speed is measured on models of OpenAI's sizes with random weights (speech_models.py makes those that are missing), which
never end a transcript by themselves: each window of 30 seconds gets a fixed number of tokens, for ours and for PyTorch
alike, from spectrograms in the host's memory to tokens there. Ours are the engines as the backend runs them:

    ours             every token chosen by Whisper's rules for times, as the backend chooses it
    ours-greedy      the likeliest token, no rules: the same work as PyTorch's

The real-time factor is seconds of computing for a second of audio. In each round every subject is measured once,
another one first each time. Outputs: the logits behind the first token against ONNX Runtime's on the processor.

The starter model hears held-out sentences: its word error rate through TensorRT (FP16 and FP32) and through ONNX
Runtime, and the speed of a long recording. That part needs llama-pajamas-starter and espeakng-loader.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import speech_models
from common import record
from common.figures import ratios, rounded, spread
from common.worker import Worker, measured

_HERE = Path(__file__).resolve().parent
_SECONDS = 30.0
_OURS = ("ours", "ours-greedy")


class Run:
    """Our engines on a batch of windows.

    Args:
        backend: a loaded backend.
        batch: windows.
        tokens: decoded for each.
        rules: whether tokens are chosen by Whisper's rules.
    """

    def __init__(self, backend: Any, batch: int, tokens: int, *, rules: bool) -> None:
        from llama_pajamas_run_core.whisper.rules import Rules

        self._owner, self._whisper = backend._ready(), backend._whisper
        self._tokens = tokens
        sizes = self._whisper.model.sizes
        self._rules = Rules(self._whisper.vocabulary, sizes.n_vocab) if rules else None
        self._mel = np.random.default_rng(0).standard_normal((batch, sizes.n_mels, 3000), np.float32)

    def start(self) -> None:
        """Nothing: speech cannot be decoded without waiting."""

    def wait(self) -> None:
        """Nothing is under way."""

    def once(self) -> None:
        """One batch, to the tokens in the host's memory."""
        self._owner.run(self._decode)

    def _decode(self) -> None:
        from llama_pajamas_run_core.whisper.rules import choose

        model, vocabulary, rules = self._whisper.model, self._whisper.vocabulary, self._rules
        random = np.random.default_rng(0)
        transcript = model.start(model.encode(self._mel))
        tokens = np.full((len(self._mel), 1), vocabulary.start, np.int32)
        made: list[list[int]] = [[] for _ in self._mel]
        for _ in range(self._tokens):
            logits = model.step(transcript, tokens)
            if rules is None:
                tokens = logits.argmax(1).astype(np.int32)[:, None]
                continue
            for row, scores in enumerate(logits):
                rules.apply(scores, made[row])
                scores[vocabulary.end] = -np.inf  # for a fixed number of tokens
                made[row].append(choose(scores, 0.0, random)[0])
            tokens = np.array([[said[-1]] for said in made], np.int32)


def first_logits(backend: Any, mel: np.ndarray) -> np.ndarray:
    """The logits behind the first token."""
    model, vocabulary = backend._whisper.model, backend._whisper.vocabulary
    begin = np.full((len(mel), 1), vocabulary.start, np.int32)
    return backend._ready().run(lambda: model.step(model.start(model.encode(mel)), begin).copy())


def speed(given: argparse.Namespace, torch: Worker | None) -> tuple[dict[str, Any], dict[str, str]]:
    """The sizes, each with every batch and subject; and what was left out, with the reason."""
    from llama_pajamas_run_tensorrt.stt import TensorRTSTTBackend

    found: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    batches = [int(batch) for batch in given.batches.split(",")]
    for size in given.only.split(","):
        place = speech_models.model_path(size, given.models)
        began = time.perf_counter()
        with TensorRTSTTBackend(place / "onnx", windows=max(batches)) as backend:
            entry: dict[str, Any] = {"ready_in_s": rounded(time.perf_counter() - began)}
            entry["details"] = dict(backend.details)
            entry["outputs"] = compare(backend, place, torch)
            for batch in batches:
                entry[str(batch)] = one_batch(given, backend, torch, size, place, batch, left_out)
        found[size] = entry
        print(json.dumps({size: {key: entry[key] for key in ("ready_in_s", "outputs")}}))
    return found, left_out


def one_batch(
    given: argparse.Namespace,
    backend: Any,
    torch: Worker | None,
    size: str,
    place: Path,
    batch: int,
    left_out: dict[str, str],
) -> dict[str, Any]:
    """Every subject in turns."""
    runs = {name: Run(backend, batch, given.tokens, rules=name == "ours") for name in _OURS}
    for run in runs.values():
        for _ in range(3):
            run.once()
    request = {"model": size, "folder": str(place), "batch": batch}
    peers = []
    for name in given.peers.split(",") if torch is not None else ():
        assert torch is not None
        if "error" in (answer := torch.ask(do="prepare", subject=name, **request)):
            left_out[f"{name} {size} {batch}"] = answer["error"]
        else:
            peers.append(name)
    subjects = [*runs, *peers]
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for turn in range(given.rounds):
        for name in subjects[turn % len(subjects) :] + subjects[: turn % len(subjects)]:
            if name in runs:
                figures = measured(runs[name], given.seconds, 2)
            else:
                assert torch is not None
                figures = torch.ask(do="measure", subject=name, seconds=given.seconds, least=1, **request)
            times[name].append(figures.get("latency_ms", float("nan")) / 1e3)
    made = {
        name: {
            "seconds": spread(every),
            "real_time_factor": rounded(float(np.median(every)) / (_SECONDS * batch)),
            "ms_per_token": rounded(float(np.median(every)) / given.tokens * 1e3),
        }
        for name, every in times.items()
    }
    for name in peers:
        made[name]["ours_over_it"] = ratios(times["ours"], times[name])
        made[name]["ours_greedy_over_it"] = ratios(times["ours-greedy"], times[name])
    for name, figures in made.items():
        print(f"{size:6s} batch {batch:2d} {name:16s} RTF {figures['real_time_factor']:.6f}")
    return made


def compare(backend: Any, place: Path, torch: Worker | None) -> dict[str, Any]:
    """The first logits against ONNX Runtime's on the processor: relative to the largest, and the cosine."""
    from llama_pajamas_run_onnx.stt import ONNXSTTBackend

    mel = np.random.default_rng(1).standard_normal((2, backend._whisper.model.sizes.n_mels, 3000), np.float32)
    with ONNXSTTBackend(place / "onnx") as reference:
        wanted = first_logits(reference, mel)
    found = {"tensorrt-fp16": first_logits(backend, mel)}
    if torch is not None:
        with tempfile.TemporaryDirectory() as folder:
            np.save(f"{folder}/mel.npy", mel)
            answer = torch.ask(
                do="outputs", subject="torch-loop", model=place.name, folder=str(place),
                inputs=f"{folder}/mel.npy", to=f"{folder}/logits.npz",
            )  # fmt: skip
            if "error" not in answer:
                found["torch"] = np.load(f"{folder}/logits.npz")["logits"]
    return {
        name: {
            "largest_difference": rounded(float(np.abs(made - wanted).max() / np.abs(wanted).max())),
            "cosine": float((made * wanted).sum() / np.linalg.norm(made) / np.linalg.norm(wanted)),
            "same_token": rounded(float((made.argmax(1) == wanted.argmax(1)).mean())),
        }
        for name, made in found.items()
    }


def starter(given: argparse.Namespace) -> dict[str, Any]:
    """Word error rates, word times and the speed of a long recording."""
    from llama_pajamas_run_core.text.word_errors import word_error_rate
    from llama_pajamas_run_core.types.audio import Audio
    from llama_pajamas_run_onnx.export import export
    from llama_pajamas_run_onnx.stt import ONNXSTTBackend
    from llama_pajamas_run_tensorrt.stt import TensorRTSTTBackend
    from llama_pajamas_starter.speech import hugging_face
    from llama_pajamas_starter.speech.checkpoint import Checkpoint
    from llama_pajamas_starter.speech.data import padded
    from llama_pajamas_starter.speech.evaluate import held_out, word_time_errors

    graphs = given.models / "starter-speech"
    if not graphs.is_dir():
        with tempfile.TemporaryDirectory() as folder:
            export(hugging_face.write(folder, Checkpoint.load()), graphs)
    spoken = held_out(given.utterances)
    sounds = [Audio(padded(item.waveform(), 0.3, 0.3), 16_000) for item in spoken]
    pause = np.zeros(16_000, np.float32)
    long = Audio(np.concatenate([part for sound in sounds for part in (sound.samples, pause)]), 16_000)
    made: dict[str, Any] = {"utterances": len(spoken), "long_recording_s": rounded(long.duration)}
    backends = {
        "tensorrt-fp16": lambda: TensorRTSTTBackend(graphs),
        "tensorrt-fp32": lambda: TensorRTSTTBackend(graphs, precision="fp32"),
        "onnxruntime-cpu": lambda: ONNXSTTBackend(graphs),
    }
    texts: dict[str, list[str]] = {}
    for name, make in backends.items():
        with make() as backend:
            backend.transcribe(sounds[0])
            began = time.perf_counter()
            heard = [backend.transcribe(sound, word_times=True) for sound in sounds]
            single = time.perf_counter() - began
            if name != "onnxruntime-cpu":  # whose shapes cost nothing the first time
                backend.transcribe(long)
            began = time.perf_counter()
            whole = backend.transcribe(long)
            taken = time.perf_counter() - began
        texts[name] = [one.text for one in heard]
        errors = [late for item, one in zip(spoken, heard, strict=True) for late in word_time_errors(item, one, 0.3)]
        made[name] = {
            "word_error_rate": rounded(word_error_rate(zip([item.text for item in spoken], texts[name], strict=True))),
            "word_start_error_median_s": rounded(float(np.median(errors))),
            "real_time_factor": rounded(single / sum(sound.duration for sound in sounds)),
            "long_recording_real_time_factor": rounded(taken / long.duration),
            "long_recording_words": len(whole.text.split()),
        }
        print(json.dumps({name: made[name]}))
    for name in ("tensorrt-fp16", "tensorrt-fp32"):
        same = [one == other for one, other in zip(texts[name], texts["onnxruntime-cpu"], strict=True)]
        made[name]["texts_equal_to_onnxruntime"] = rounded(float(np.mean(same)))
        made[name]["points_of_word_error_rate_over_onnxruntime"] = rounded(
            100 * (made[name]["word_error_rate"] - made["onnxruntime-cpu"]["word_error_rate"])
        )
    return made


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, help="where the models are kept")
    parser.add_argument("--only", default="tiny,base,small", help="the sizes")
    parser.add_argument("--batches", default="1,8", help="windows computed together")
    parser.add_argument("--tokens", type=int, default=100, help="decoded for each window")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.4, help="for each subject in each round")
    parser.add_argument(
        "--utterances", type=int, default=100, help="held-out sentences; 0 leaves the starter model out"
    )
    parser.add_argument("--peers", default="torch-generate,torch-loop,torch-compiled", help="of PyTorch")
    parser.add_argument("--torch-python", help="the Python that has PyTorch and transformers; left out if none")
    parser.add_argument("--torch-path", help="PYTHONPATH of that process")
    parser.add_argument("--torch-libraries", help="LD_LIBRARY_PATH of that process")
    parser.add_argument("--output", type=Path, help="the JSON file; benchmarks/results/<date>-... by default")
    parser.add_argument("--machine", help="name of the machine, for the file's name")
    return parser.parse_args(arguments)


def main() -> int:
    """Measure, compare, print, write."""
    given = options()
    torch = None
    about: dict[str, Any] = {}
    if given.torch_python:
        environment = {"PYTHONPATH": given.torch_path or "", "SPEECH_TOKENS": str(given.tokens)}
        if given.torch_libraries is not None:
            environment["LD_LIBRARY_PATH"] = given.torch_libraries
        torch = Worker([given.torch_python, str(_HERE / "torch_speech.py"), "--serve"], environment)
        about = torch.ask(do="about")
        if "error" in about:
            torch = None
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        sizes, left_out = speed(given, torch)
    finally:
        if torch is not None:
            torch.close()
    content = {
        "tokens_per_window": given.tokens,
        "peer": about,
        "sizes": sizes,
        "left_out": left_out,
        "starter": starter(given) if given.utterances else None,
    }
    path = record.write("tensorrt_speech", content, name=given.machine, path=given.output)
    print(f"\n{path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
