"""Resampling to 16 kHz and everything that spoils a recording, on the training device, for a whole batch at once."""

import math

import torch
from torch import Tensor
from windows import RATE

HEARD_RATE = 16_000


def _uniform(batch: int, low: float, high: float, device: torch.device) -> Tensor:
    return torch.rand(batch, 1, device=device) * (high - low) + low


def _chosen(batch: int, probability: float, device: torch.device) -> Tensor:
    return torch.rand(batch, 1, device=device) < probability


@torch.no_grad()
def spoil(audio: Tensor, speech: Tensor, strength: float = 1.0) -> Tensor:
    """Windows as a microphone in a room could hear them.

    Args:
        audio: int16, ``(batch, samples)`` at eSpeak NG's rate.
        speech: bool, ``(batch,)``, whether anybody speaks.
        strength: scales how often something is spoiled; 0 only resamples.

    Returns:
        float32, ``(batch, samples * 16000 / 22050)``: equalised, band-limited, with reverberation, noise and clipping,
        each on a random part of the batch, at random levels.
    """
    batch, length = audio.shape
    device = audio.device
    heard = length * HEARD_RATE // RATE
    bins = heard // 2 + 1
    sound = audio.float() / 32768
    active = (sound.abs() > 1e-4).float().mean(1, keepdim=True).clamp_min(0.02)
    spectrum = torch.fft.rfft(sound)[:, :bins]
    hertz = torch.linspace(0, HEARD_RATE / 2, bins, device=device)[None]
    if strength > 0:
        # A microphone's response: a tilt and a few wide bumps, in decibels over the logarithm of the frequency.
        octave = (hertz.clamp_min(30) / 1000).log2()
        tone = _uniform(batch, -2.5, 2.5, device) * octave
        for _ in range(2):
            tone += _uniform(batch, -8, 8, device) * torch.exp(-((octave - _uniform(batch, -3, 3, device)) ** 2))
        gain = torch.where(_chosen(batch, 0.5 * strength, device), 10 ** (tone / 20), 1.0)
        low = torch.where(_chosen(batch, 0.3 * strength, device), _uniform(batch, 3200, 7800, device), 9000.0)
        high = torch.where(_chosen(batch, 0.3 * strength, device), _uniform(batch, 60, 350, device), 1.0)
        gain = gain * torch.sigmoid((low - hertz) / 80) * torch.sigmoid((hertz - high) / 15)
        spectrum = spectrum * gain
        echoing = _chosen(batch, 0.4 * strength, device)[:, 0].nonzero()[:, 0]
        if len(echoing):
            spectrum[echoing] = spectrum[echoing] * _room(len(echoing), length, bins, device)
    made = torch.fft.irfft(spectrum, heard) * (HEARD_RATE / RATE)
    if strength == 0:
        return made
    level = (made.square().mean(1, keepdim=True) / active).sqrt()
    level = torch.where(speech[:, None], level, 0.05)
    decibels = torch.where(_chosen(batch, 0.5, device), _uniform(batch, 8, 35, device), _uniform(batch, -4, 14, device))
    noisy = _chosen(batch, 0.75 * strength, device) | (~speech[:, None] & _chosen(batch, 0.8, device))
    color = _uniform(batch, 0.0, 2.0, device)
    shape = (hertz.clamp_min(40) / 1000) ** (-color / 2) * torch.sigmoid(
        (_uniform(batch, 1500, 12000, device) - hertz) / 200
    )
    hiss = torch.fft.irfft(torch.fft.rfft(torch.randn(batch, heard, device=device)) * shape, heard)
    seconds = torch.arange(heard, device=device)[None] / HEARD_RATE
    swell = 1 + 0.9 * torch.sin(_uniform(batch, 0, 6.3, device) + seconds * 6.3 * _uniform(batch, 0.1, 4, device))
    hiss = torch.where(_chosen(batch, 0.3, device), hiss * swell, hiss)
    hiss = hiss / hiss.square().mean(1, keepdim=True).sqrt()
    babble = sum(made.roll((k + 1, k * heard // 5 + 777), (0, 1)) for k in range(5))
    babble = babble / babble.square().mean(1, keepdim=True).sqrt().clamp_min(1e-6)
    talk = _chosen(batch, 0.25, device) & speech[:, None]
    noise = torch.where(talk, babble, hiss)
    made = made + torch.where(noisy, noise * level * 10 ** (-decibels / 20), 0.0)
    # A recording ends soon after its last word, and the decoder fills its window up with zeros.
    place = torch.arange(length, device=device)[None] / RATE
    end = torch.where(sound.abs() > 1e-4, place, 0.0).amax(1, keepdim=True)
    end = torch.where(speech[:, None], end, _uniform(batch, 0, 1, device) * length / RATE)
    ended = _chosen(batch, 0.7, device) & (seconds > end + _uniform(batch, 0.05, 0.8, device))
    made = torch.where(ended, 0.0, made)
    volume = 10 ** (_uniform(batch, -26, 6, device) / 20)
    volume = torch.where(_chosen(batch, 0.7 * strength, device), volume, 1.0)
    return (made * volume).clamp(-1, 1)


def _room(batch: int, length: int, bins: int, device: torch.device) -> Tensor:
    """Transfer functions of random rooms: the direct sound and an exponentially fading tail."""
    size = RATE * 6 // 10
    time = torch.arange(size, device=device)[None] / RATE
    fading = torch.exp(-6.9 * time / _uniform(batch, 0.1, 0.6, device))
    tail = torch.randn(batch, size, device=device) * fading * (time > _uniform(batch, 0.001, 0.02, device))
    tail = tail / tail.square().sum(1, keepdim=True).sqrt() * 10 ** (_uniform(batch, -20, -1, device) / 20)
    tail[:, 0] = 1.0
    return torch.fft.rfft(tail, length)[:, :bins] / math.sqrt(1.2)
