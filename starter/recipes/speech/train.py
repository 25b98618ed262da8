"""Trains the starter speech model on synthetic speech: ``python starter/recipes/speech/train.py --out DIR``.

The time on the clock is the budget: the learning rate falls to zero as ``--minutes`` run out. Needs PyTorch, NumPy and
safetensors beside this project's packages; eight minutes on one H200 with nine data workers, or hours on a CPU.
"""

import argparse
import json
import queue
import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from augment import spoil
from model import LogMel, SpeechModel
from windows import Batch, Workers

from llama_pajamas_run_core.text.word_errors import word_error_rate
from llama_pajamas_run_system._espeak import Espeak
from llama_pajamas_starter.speech import data, tokens
from llama_pajamas_starter.speech.checkpoint import SIZES, TokenTable, read, save
from llama_pajamas_starter.speech.sentences import sentence


def token_table(sentences: int, least: int) -> TokenTable:
    """The tokens that at least ``least`` of many sentences hold."""
    rng = random.Random(0)
    counts = Counter(token for _ in range(sentences) for token in tokens.encode(" " + sentence(rng)))
    return TokenTable.of({token for token, count in counts.items() if count >= least})


class HeldOut:
    """Unseen sentences in unseen voices, clean and with noise at 10 dB, as 16 kHz audio in equal windows."""

    def __init__(self, count: int, seconds: int) -> None:
        engine, rng, noise = Espeak(), random.Random(2**31), np.random.default_rng(2**31)
        self.texts: list[str] = []
        clean: list[np.ndarray] = []
        while len(self.texts) < count:
            made = data.utterance(engine, rng, "held-out")
            if made.duration < seconds - 1:
                self.texts.append(made.text)
                clean.append(data.padded(made.waveform(), 0.3, 0.2))
        default = [data.say(engine, text) for text in self.texts]
        noisy = [data.add_noise(wave, 10, noise, ("white", "pink")[i % 2]) for i, wave in enumerate(clean)]
        self.sets = {
            "clean": clean,
            "10 dB": noisy,
            "default voice": [made.waveform() for made in default if made is not None],
        }
        self.samples = seconds * data.RATE

    @torch.no_grad()
    def evaluate(self, model: SpeechModel, mel: LogMel, device: torch.device, show: int = 0) -> dict[str, float]:
        """Word error rate of each set."""
        figures = {}
        for name, waves in self.sets.items():
            heard: list[str] = []
            for begin in range(0, len(waves), 64):
                part = np.zeros((len(waves[begin : begin + 64]), self.samples), np.float32)
                for row, wave in zip(part, waves[begin : begin + 64], strict=True):
                    row[: len(wave)] = wave[: self.samples]
                heard += model.transcribe(mel(torch.from_numpy(part).to(device)))
            figures[name] = round(word_error_rate(zip(self.texts, heard, strict=True)), 4)
            if name == "clean":
                for expected, got in list(zip(self.texts, heard, strict=True))[:show]:
                    print(f"    {expected}\n    {got}")
        return figures


class Feeder(threading.Thread):
    """Copies batches to the device beside the training; a batch is used again (spoiled anew) when none is ready."""

    def __init__(self, workers: Workers, device: torch.device) -> None:
        super().__init__(daemon=True)
        self.workers, self.device = workers, device
        self.ready: queue.Queue[tuple[Tensor, ...] | Exception] = queue.Queue(2)
        self.stream = torch.cuda.Stream() if device.type == "cuda" else None
        self.last: tuple[Tensor, ...] | None = None
        self.uses = self.fresh = 0

    def run(self) -> None:
        try:
            while True:
                try:
                    slot, batch = self.workers.get(5)
                except queue.Empty:
                    continue
                self.ready.put(self._copy(batch))
                self.workers.release(slot)
        except Exception as error:
            self.ready.put(error)

    def _copy(self, batch: Batch) -> tuple[Tensor, ...]:
        arrays = (batch.audio, batch.given.astype(np.int64), batch.target.astype(np.int64), batch.sounds, batch.speech)
        if self.stream is None:
            return tuple(torch.from_numpy(array.copy()) for array in arrays)
        with torch.cuda.stream(self.stream):
            copied = tuple(torch.from_numpy(array).to(self.device) for array in arrays)
            self.stream.synchronize()
        return copied

    def get(self) -> tuple[Tensor, ...]:
        """The next batch."""
        try:
            item = self.ready.get(block=self.last is None or self.uses >= 3)
        except queue.Empty:
            assert self.last is not None
            self.uses += 1
            return self.last
        if isinstance(item, Exception):
            raise item
        if self.stream is not None:
            for tensor in item:  # or the allocator hands their memory to the next copy while kernels still read it
                tensor.record_stream(torch.cuda.current_stream())
        self.last, self.uses = item, 1
        self.fresh += 1
        return item


def losses(
    model: SpeechModel, mel: Tensor, batch: tuple[Tensor, ...], guided: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the next token, and of the guided layers' attention with where the token sounds."""
    _, given, target, sounds, _ = batch
    source = model.encoder(mel)
    logits, logs = model.decode(model.class_of[given], source, guided)
    wanted = torch.where(target >= 0, model.class_of[target.clamp_min(0)], -1)
    text = F.cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), ignore_index=-1)
    known = sounds[..., 1] > 0
    frames = torch.arange(source.shape[1], device=mel.device)
    first = (sounds[..., 0] / 0.02).floor()
    last = torch.maximum((sounds[..., 1] / 0.02).ceil(), first + 1)
    inside = (frames >= first[..., None]) & (frames < last[..., None]) & known[..., None]
    share = inside / inside.sum(-1, keepdim=True).clamp_min(1)
    guide = sum(-(log.mean(1) * share).sum() for log in logs) / known.sum().clamp_min(1) / len(logs)
    return text, guide


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for model.safetensors, config.json, metrics.json"
    )
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--resume", type=Path, help="folder of a checkpoint to go on from")
    parser.add_argument("--keep-tokens", action="store_true", help="with --resume: know no new tokens")
    parser.add_argument("--workers", type=int, default=9)
    parser.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument("--short", type=float, default=0.45, help="share of the time on 10 s windows before 30 s ones")
    parser.add_argument("--batch", type=int, default=64, help="30 s windows in a batch")
    parser.add_argument("--guide", type=float, default=0.25, help="weight of the attention loss")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sentences", type=int, default=300_000, help="sentences that the token table is counted on")
    parser.add_argument("--held-out", type=int, default=256, help="held-out utterances")
    options = parser.parse_args()
    begun = time.monotonic()
    budget = options.minutes * 60
    device = torch.device(options.device)
    torch.manual_seed(options.seed)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True

    sizes = SIZES
    stored = None
    table = token_table(options.sentences, max(2, options.sentences // 40_000))
    if options.resume:
        stored = read(options.resume / "model.safetensors")
        if options.keep_tokens:
            table = TokenTable(stored["tokens.ids"], stored["tokens.row_of"], stored["tokens.is_capital"])
    stages = [(10, options.batch * 5 // 2), (30, options.batch)]
    known = frozenset(table.ids.tolist())
    workers = Workers(
        options.workers, known, stages, options.seed * 1000, 2 * options.workers, 3000 if device.type == "cuda" else 40
    )
    stage = 0 if options.short > 0 else 1
    workers.set_stage(stage)
    held_out = HeldOut(options.held_out, 10)
    model = SpeechModel(sizes, table).to(device)
    if stored is not None:
        model.load_compact(stored)
    mel = LogMel().to(device)
    average = SpeechModel(sizes, table).to(device)
    average.load_state_dict(model.state_dict())
    plain = [p for p in model.parameters() if p.ndim < 2]
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}],
        lr=options.rate, betas=(0.9, 0.98), fused=device.type == "cuda",
    )  # fmt: skip
    guided = (sizes.n_text_layer - 1,)
    count = sum(p.numel() for p in model.parameters())
    print(f"{count / 1e6:.2f} M parameters, {len(table.ids)} tokens in {table.rows} rows, {device}, "
          f"ready after {time.monotonic() - begun:.0f} s", flush=True)  # fmt: skip
    feeder = Feeder(workers, device)
    feeder.start()

    step = 0
    record: list[dict[str, float]] = []
    next_report, next_check, next_save = 0.0, 60.0, 120.0
    totals = torch.zeros(2, device=device)
    since = 0
    finishing = 12 if device.type == "cuda" else 4
    while (elapsed := time.monotonic() - begun) < budget - finishing:
        fraction = elapsed / (budget - finishing)
        if stage == 0 and fraction >= options.short:
            stage = 1
            workers.set_stage(1)
        rate = options.rate * min(1.0, (step + 1) / 300, 1.02 * (1 - fraction) / (1 - 0.25))
        for group in optimizer.param_groups:
            group["lr"] = max(rate, options.rate * 0.005)
        batch = feeder.get()
        heard = spoil(batch[0], batch[4], strength=min(1.0, 0.3 + 3 * fraction) if stored is None else 1.0)
        lift = torch.rand(len(heard), 1, 1, device=device) * (torch.rand(len(heard), 1, 1, device=device) < 0.15)
        features = mel(heard, lift)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            text, guide = losses(model, features, batch, guided)
        loss = text + options.guide * guide
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            keep = min(0.999, step / (step + 20))
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)
            totals += torch.stack([text.detach(), guide.detach()])
        since += 1
        elapsed = time.monotonic() - begun
        if elapsed >= next_report:
            values = (totals / since).tolist()
            made = f"{len(batch[0])} x {batch[0].shape[1] // 22050} s, {feeder.fresh} fresh"
            figures = f"loss {values[0]:.4f} guide {values[1]:.3f} rate {rate:.2e}"
            print(f"{elapsed:5.0f} s step {step} {figures} {made}", flush=True)
            totals.zero_()
            since = 0
            next_report = elapsed + 10
        if elapsed >= next_check:
            figures = held_out.evaluate(average, mel, device, show=3)
            record.append({"seconds": round(elapsed), "step": step} | figures)
            print(f"{elapsed:5.0f} s held out: {figures}", flush=True)
            next_check = time.monotonic() - begun + 60
        if elapsed >= next_save:
            save(options.out, sizes, average.compact(), eight_bits=False)
            next_save += 120
    workers.close()
    save(options.out, sizes, average.compact(), eight_bits=False)
    save(options.out / "eight-bits", sizes, average.compact())
    figures = held_out.evaluate(average, mel, device, show=8)
    record.append({"seconds": round(time.monotonic() - begun), "step": step} | figures)
    print(f"finished at step {step}: {figures}", flush=True)
    (options.out / "metrics.json").write_text(json.dumps({"parameters": count, "record": record}, indent=1) + "\n")


if __name__ == "__main__":
    main()
