"""Inputs of realistic sizes and content for the models of the tests.

Every generator is seeded from the case's name, so the same name gives the same inputs.
"""

import numpy as np

Feeds = dict[str, np.ndarray]


def picture(generator, batch: int, channels: int, height: int, width: int) -> np.ndarray:
    """Values from 0 to 1 with edges, gradients and some noise, as photographs have them."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    image = np.empty((batch, channels, height, width))
    for plane in image.reshape(-1, height, width):
        fx, fy, phase = generator.uniform(1, 9, 3)
        plane[:] = 0.5 + 0.3 * np.sin(fx * x + fy * y + phase)
    for item in image:
        for _ in range(12):
            top, left = generator.integers(0, height), generator.integers(0, width)
            bottom = top + generator.integers(1, height // 2 + 1)
            right = left + generator.integers(1, width // 2 + 1)
            item[:, top:bottom, left:right] = generator.uniform(0, 1, (channels, 1, 1))
    return np.clip(image + generator.normal(0, 0.02, image.shape), 0, 1).astype(np.float32)


def text_line(generator, batch: int, channels: int, height: int, width: int) -> np.ndarray:
    """Dark upright and level strokes on a light ground, from 0 to 1."""
    image = np.full((batch, channels, height, width), 0.92)
    for item in image:
        left = height // 4
        while left + height // 3 < width:
            for _ in range(3):
                thick, at = max(height // 12, 1), generator.integers(height // 6, height // 2)
                across = left + generator.integers(0, height // 3)
                item[:, at : at + height // 3, across : across + thick] = 0.1
                item[:, at : at + thick, left : left + height // 3] = 0.1
            left += height // 2
    return np.clip(image + generator.normal(0, 0.02, image.shape), 0, 1).astype(np.float32)


def page(generator, height: int, width: int) -> np.ndarray:
    """A page of text lines."""
    image = np.full((1, 3, height, width), 0.92, np.float32)
    for top in range(16, height - 48, 64):
        long = int(generator.integers(width // 3, width - 32))
        image[:, :, top : top + 32, 16 : 16 + long] = text_line(generator, 1, 3, 32, long)
    return image


def speech(generator, samples: int, rate: int) -> np.ndarray:
    """A voice-like tone: harmonics of a gliding pitch, swelling and fading, with some noise."""
    time = np.arange(samples) / rate
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 2.5 * time)) / rate
    tone = sum(np.sin(k * phase + generator.uniform(0, 6)) / k for k in range(1, 20))
    swell = np.sin(2 * np.pi * 4 * time) ** 2
    return (0.2 * swell * tone + generator.normal(0, 0.005, samples)).astype(np.float32)


def frames(generator, count: int, rate: int) -> list[np.ndarray]:
    """Consecutive frames as the detector takes them: the end of the last one, then 32 ms."""
    fresh, context = (512, 64) if rate == 16000 else (256, 32)
    samples = np.concatenate([np.zeros(context, np.float32), speech(generator, count * fresh, rate)])
    return [samples[None, i * fresh : i * fresh + context + fresh] for i in range(count)]


def file_bytes(generator, batch: int) -> np.ndarray:
    """The first and last 1024 bytes of files, 256 where a file is shorter."""
    tokens = generator.integers(0, 256, (batch, 2048))
    # Text has few different bytes.
    tokens[0] = 32 + tokens[0] % 90
    tokens[-1, 300:1024] = 256
    return tokens.astype(np.int32)


def sentences(generator, lengths: list[int], padded: int) -> Feeds:
    """Token numbers between [CLS] and [SEP], padded with zeros to one length."""
    ids = np.zeros((len(lengths), padded), np.int64)
    for row, length in zip(ids, lengths):
        row[:length] = generator.integers(1000, 30000, length)
        row[0], row[length - 1] = 101, 102
    mask = (np.arange(padded) < np.array(lengths)[:, None]).astype(np.int64)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
