"""The colours of a heat map."""
import math

import torch
from vsf_pack.vsf_core.heat import colours, oklab_to_linear, table

TO_CONES = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005]]
TO_LAB = [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
          [0.0259040371, 0.7827717662, -0.8086757660]]


def to_oklab(light: torch.Tensor) -> torch.Tensor:
    """Oklab of linear sRGB, by the published way there."""
    cones = light.double() @ torch.tensor(TO_CONES, dtype=torch.float64).mT
    return cones.sign() * cones.abs() ** (1 / 3) @ torch.tensor(TO_LAB, dtype=torch.float64).mT


def test_oklab_and_back():
    light = torch.rand(20, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(oklab_to_linear(to_oklab(light)), light, atol=1e-6, rtol=0)
    torch.testing.assert_close(oklab_to_linear(torch.tensor([1.0, 0, 0])), torch.ones(3), atol=1e-5, rtol=0)


def test_colours_grow_lighter_evenly():
    """Within sRGB, from a dark violet by red to a light yellow."""
    rgb = table().double()
    assert rgb.shape == (256, 3) and rgb.min() >= 0 and rgb.max() <= 1
    lab = to_oklab(torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4))
    torch.testing.assert_close(lab[:, 0], torch.linspace(0.13, 0.96, 256, dtype=torch.float64), atol=1e-3, rtol=0)
    hue = torch.atan2(lab[:, 2], lab[:, 1]) * 180 / math.pi
    for place, degrees in ((0, 290 - 360), (128, 375 - 360), (255, 460 - 360)):
        assert abs(hue[place] - degrees) < 3


def test_colours_of_numbers():
    assert torch.equal(colours(torch.tensor([[-1.0, 0.0], [1.0, 2.0]])), table()[[0, 0, 255, 255]].view(2, 2, 3))
    for level in range(256):
        assert torch.equal(colours(torch.tensor(level / 255)), table()[level])
        assert torch.equal(colours(torch.tensor((level + 0.4) / 255)), table()[level])
