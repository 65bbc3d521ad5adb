"""Masks of one size as averages over the cells of another."""
import pytest
import torch
from torch import Tensor
from vsf_pack.vsf_core.areas import averaging, resized

SIZES = [1, 2, 3, 5, 8, 12, 17]


def averaged(line: Tensor, cells: int) -> Tensor:
    """(..., n) to (..., cells): each pixel cut into `cells` parts, so that every cell has n whole parts."""
    return line.repeat_interleave(cells, dim=-1).unflatten(-1, (cells, line.shape[-1])).mean(dim=-1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cells", SIZES)
def test_a_cell_is_the_mean_of_its_part(size, cells):
    found = averaging(size, cells)
    assert (found.shape, found.dtype) == ((cells, size), torch.float64)
    torch.testing.assert_close(found, averaged(torch.eye(size, dtype=torch.float64), cells).mT)


@pytest.mark.parametrize(("sizes", "cells"), [((6, 9), (4, 3)), ((3, 2), (5, 7)), ((4, 4), (4, 4)), ((7, 10), (1, 1))])
def test_a_mask_by_averages(sizes, cells):
    mask = torch.rand(2, 3, *sizes, generator=torch.Generator().manual_seed(0))
    found = resized(mask, cells)
    assert (found.shape, found.dtype) == ((2, 3, *cells), torch.float32)
    torch.testing.assert_close(found, averaged(averaged(mask, cells[1]).mT, cells[0]).mT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_white_and_black_stay(dtype):
    """Exactly, whatever the numbers; what is beyond them by a rounding is not."""
    for size in SIZES:
        for cells in SIZES:
            mask = torch.ones(size, 13, dtype=dtype)
            assert torch.equal(resized(mask, (cells, 11)), torch.ones(cells, 11))
            assert torch.equal(resized(0 * mask, (cells, 11)), torch.zeros(cells, 11))


def test_brightness_is_from_0_to_1():
    assert torch.equal(resized(torch.tensor([[-1.0, 2.0]]), (1, 2)), torch.tensor([[0.0, 1.0]]))


def test_a_mask_has_two_axes():
    with pytest.raises(ValueError, match="shorter|longer"):
        resized(torch.ones(4, 4), (1, 2, 3))
