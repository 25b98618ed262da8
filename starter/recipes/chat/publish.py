"""Installs a trained checkpoint as the shipped one, measures it through llama.cpp, and writes its model card.

    python starter/recipes/chat/publish.py DIR

``DIR`` is what ``train.py`` wrote. Needs the workspace's environment (llama-pajamas-run-gguf), not PyTorch.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

from llama_pajamas_run_gguf import GGUFLLMBackend
from llama_pajamas_starter.chat import checkpoint
from llama_pajamas_starter.chat.evaluate import EXACT_FLOOR, JSON_FLOOR, Report, evaluate
from llama_pajamas_starter.chat.to_gguf import Precision, convert

_FILES = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")
_PER_FAMILY = 30


def measure(folder: Path, precision: Precision) -> Report:
    """The held-out figures of a checkpoint at one precision."""
    with tempfile.TemporaryDirectory() as scratch:
        file = convert(folder, Path(scratch) / "chat.gguf", precision)
        with GGUFLLMBackend(file) as backend:
            return evaluate(backend, per_family=_PER_FAMILY)


def card(full: Report, small: Report, metrics: dict[str, object], parameters: int) -> str:
    """The model card, with the figures filled in."""
    template = Path(__file__).with_name("card.md").read_text(encoding="utf-8")
    rows = "\n".join(f"| {family} | {total} | {100 * right / total:.1f} % |" for family, right, total in full.rows())
    values = {
        "parameters": f"{parameters / 1e6:.2f} million",
        "prompts": str(sum(total for _, _, total in full.rows())),
        "exact": f"{100 * full.exact_share:.1f} %",
        "json": f"{100 * full.json_share:.1f} % of {full.json[1]}",
        "q8_exact": f"{100 * small.exact_share:.1f} %",
        "q8_json": f"{100 * small.json_share:.1f} %",
        "exact_floor": f"{100 * EXACT_FLOOR:.0f} %",
        "json_floor": f"{100 * JSON_FLOOR:.0f} %",
        "rows": rows,
        "device": str(metrics["device"]),
        "date": time.strftime("%Y-%m-%d"),
    }
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", value)
    return template


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    target = checkpoint()
    target.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        shutil.copyfile(folder / name, target / name)
    full, small = measure(target, "f16"), measure(target, "q8_0")
    for mistake in full.mistakes:
        print(f"{mistake.family}: {mistake.question!r}\n  said {mistake.answered!r}\n  want {mistake.expected!r}")
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    (target / "README.md").write_text(card(full, small, metrics, parameters(config)), encoding="utf-8")
    print(f"exact {full.exact_share:.4f}, valid JSON {full.json_share:.4f}; Q8_0 {small.exact_share:.4f}")
    if not full.passed:
        raise SystemExit("a floor does not hold: train for longer before shipping this checkpoint")


def parameters(config: dict[str, int]) -> int:
    """How many weights a checkpoint with this config.json has."""
    width, head = config["hidden_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    attention = 2 * width * queries + 2 * width * keys + 2 * head
    layer = attention + 3 * width * config["intermediate_size"] + 2 * width
    return config["vocab_size"] * width + config["num_hidden_layers"] * layer + width


if __name__ == "__main__":
    main()
