"""Does MLX compute on an NVIDIA GPU what it computes elsewhere, and how fast are many streams there?

    PYTHONPATH=run-core/src:run-mlx/src:run-system/src:starter/src python3 benchmarks/mlx_cuda.py --out mlx-cuda.json

Two questions. Correctness: the starter chat model's greedy answers to held-out prompts, compared with PyTorch's
recorded ones (those of llama.cpp with an F16 GGUF file are the same). Speed: tokens per second of a model with the
shape of Llama 3.2 1B and random weights, through our backend and, interleaved, mlx-lm's batch generator alone.
"""

import argparse
import json
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
from common import record
from common.figures import ratios, rounded, spread
from mlx.utils import tree_flatten

from llama_pajamas_run_core.types.chat import GenerationOptions, GenerationRequest
from llama_pajamas_run_mlx.llm import MLXLLMBackend
from llama_pajamas_starter.chat import checkpoint
from llama_pajamas_starter.fidelity import chat
from llama_pajamas_starter.fidelity.reference import Reference

_SHAPES: dict[str, dict[str, Any]] = {
    "llama-1b": {
        "hidden_size": 2048, "num_hidden_layers": 16, "intermediate_size": 8192, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256,
    },
    "tiny": {
        "hidden_size": 256, "num_hidden_layers": 2, "intermediate_size": 512, "num_attention_heads": 8,
        "num_key_value_heads": 4, "head_dim": 32, "vocab_size": 4096,
    },
}  # fmt: skip
#: Tokens of the starter's vocabulary that are text; the random model chooses no others, so that no answer ends early.
_TEXT = range(300, 1500)


def write_model(folder: Path, shape: dict[str, Any], dtype: str) -> int:
    """A Llama with random weights and the starter's vocabulary.

    Returns:
        bytes of its weights.
    """
    from mlx_lm.models import llama

    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
        "max_position_embeddings": 8192, "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 2, **shape,
    }  # fmt: skip
    model = llama.Model(llama.ModelArgs.from_dict(config))
    mx.random.seed(0)
    head = mx.zeros((shape["vocab_size"], shape["hidden_size"]))
    head[_TEXT.start : _TEXT.stop] = mx.random.normal((len(_TEXT), shape["hidden_size"]))
    model.lm_head.weight = head
    model.set_dtype(getattr(mx, dtype))
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint() / name, folder / name)
    return sum(array.nbytes for array in weights.values())


def correctness(prompts: int) -> list[dict[str, Any]]:
    """The share of equal answers by precision."""
    reference, pieces = Reference.load(), chat.token_bytes(checkpoint())
    reference.check(checkpoint() / "model.safetensors")
    answers, rows = reference.answers[:prompts], []
    for dtype in ("float32", "float16", "bfloat16"):
        with MLXLLMBackend(checkpoint(), n_ctx=2048, n_lanes=16, dtype=dtype) as backend:
            begun = time.perf_counter()
            found = chat.compare(backend, answers, reference, pieces)
            rows.append(
                {
                    "dtype": dtype,
                    "device": backend.details["device"],
                    "prompts": len(answers),
                    "equal": 1 - len(found) / len(answers),
                    "differences": chat.described(found),
                    "seconds": rounded(time.perf_counter() - begun),
                }
            )
    return rows


def through_backend(backend: MLXLLMBackend, prompts: list[list[int]], count: int) -> float:
    """Tokens per second, prompts included."""
    options = GenerationOptions(temperature=0.0, max_tokens=count)
    begun = time.perf_counter()
    running = [backend.submit(GenerationRequest(tuple(prompt), options)) for prompt in prompts]
    made = [one.result().usage.completion_tokens for one in running]
    spent = time.perf_counter() - begun
    if made != [count] * len(prompts):
        raise SystemExit(f"answers of {sorted(set(made))} tokens instead of {count}")
    return sum(made) / spent


def through_generator(backend: MLXLLMBackend, prompts: list[list[int]], count: int) -> float:
    """The same with mlx-lm's batch generator alone, on the thread that owns MLX."""
    from mlx_lm.generate import BatchGenerator

    def run() -> float:
        generator = BatchGenerator(
            backend._engine._model._model, completion_batch_size=len(prompts), prefill_batch_size=len(prompts)
        )
        begun = time.perf_counter()
        generator.insert([list(prompt) for prompt in prompts], max_tokens=[count] * len(prompts))
        made = 0
        while made < count * len(prompts):
            made += len(generator.next()[1])
        spent = time.perf_counter() - begun
        generator.close()
        return made / spent

    return backend._ready().run(run)


def speed(asked: argparse.Namespace) -> dict[str, Any]:
    """Tokens per second by the number of streams."""
    shape = _SHAPES[asked.shape]
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        weights = write_model(Path(folder), shape, asked.dtype)
        for streams in asked.streams:
            with MLXLLMBackend(folder, n_ctx=4096, n_lanes=streams, prompt_cache_mb=0) as backend:
                draw = random.Random(streams)
                ours: list[float] = []
                theirs: list[float] = []
                for repeat in range(asked.repeats + 1):
                    prompts = [draw.choices(_TEXT, k=asked.prompt) for _ in range(streams)]
                    pair = [(ours, through_backend), (theirs, through_generator)]
                    for rates, measure in pair if repeat % 2 == 0 else pair[::-1]:
                        rate = measure(backend, prompts, asked.generated)
                        if repeat:  # the first run compiles kernels
                            rates.append(rate)
                rows[str(streams)] = {
                    "tokens_per_second": spread(ours),
                    "batch_generator_alone": spread(theirs),
                    "ratio": ratios(ours, theirs),
                    "weights_read_gb_per_second": rounded(weights * spread(ours)["median"] / streams / 1e9),
                }
    return {"shape": asked.shape, "dtype": asked.dtype, "weights_bytes": weights, "streams": rows}


def main() -> None:
    """Measure, print, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the record; in benchmarks/results by default")
    parser.add_argument("--prompts", type=int, default=500, help="for correctness")
    parser.add_argument("--shape", choices=_SHAPES, default="llama-1b")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--streams", type=lambda text: [int(one) for one in text.split(",")], default=[1, 8, 32])
    parser.add_argument("--prompt", type=int, default=128, help="tokens of each prompt")
    parser.add_argument("--generated", type=int, default=256, help="tokens of each answer")
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    found = {"mlx": mx.__version__, "device": str(mx.default_device()), "correctness": correctness(asked.prompts)}
    for row in found["correctness"]:
        print(f"{row['dtype']}: {row['equal']:.1%} of {row['prompts']} equal, {row['differences']}", flush=True)
    found["speed"] = speed(asked)
    path = record.write("mlx-cuda", found, path=asked.out)
    rows = [
        [streams, *(one["tokens_per_second"][name] for name in ("median", "low", "high")), one["ratio"]["median"]]
        for streams, one in found["speed"]["streams"].items()
    ]
    print(record.table(["streams", "tok/s", "low", "high", "over the batch generator alone"], rows))
    print(path.name)


if __name__ == "__main__":
    main()
