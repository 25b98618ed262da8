"""Pictures to look at, drawn."""

import numpy as np
import numpy.typing as npt


def pictures(count: int, height: int, width: int, seed: int = 0) -> list[npt.NDArray[np.uint8]]:
    """Pictures uint8 [height, width, 3] of coloured shapes before a gradient, with a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    made = []
    for _ in range(count):
        corner, side = rng.uniform(0, 255, (2, 3))
        part = ((x / width + y / height) / 2)[..., None]
        image = corner * (1 - part) + side * part
        for _ in range(14):
            colour = rng.uniform(0, 255, 3)
            cx, cy = rng.uniform(0, width), rng.uniform(0, height)
            rx, ry = rng.uniform(0.03, 0.22, 2) * (width, height)
            if rng.random() < 0.5:
                inside = (np.abs(x - cx) < rx) & (np.abs(y - cy) < ry)
            else:
                inside = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1
            image[inside] = colour + rng.uniform(-40, 40, 3) * ((x - cx) / rx)[inside][:, None]
        image += rng.normal(0, 6, image.shape)
        made.append(image.clip(0, 255).astype(np.uint8))
    return made
