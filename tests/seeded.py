"Weights and images that follow from names and sizes alone: fixtures hold outputs only."

from math import prod
from zlib import crc32

import torch


def seeded_tensor(name, shape):
    "One entry of a state dict; the same name and shape give the same numbers everywhere."
    generator = torch.Generator().manual_seed(crc32(name.encode()))
    shape = tuple(shape)
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if "gamma" in name:
        return torch.full(shape, 0.5)
    if name.endswith("running_mean"):
        return 0.1 * torch.randn(shape, generator=generator)
    if len(shape) == 4:
        return torch.randn(shape, generator=generator) * (1 / prod(shape[1:])) ** 0.5
    if name.endswith("bias"):
        return 0.1 * torch.randn(shape, generator=generator)
    # weights of batch norm and running variances
    return 0.75 + 0.5 * torch.rand(shape, generator=generator)


def seeded_state(shapes):
    "`{name: shape}` -> state dict."
    return {name: seeded_tensor(name, shape) for name, shape in shapes.items()}


def seeded_image(height, width):
    "A normalised image, `(1, 3, height, width)`."
    generator = torch.Generator().manual_seed(height * 10007 + width)
    return torch.randn(1, 3, height, width, generator=generator)
