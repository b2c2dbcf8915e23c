"""Normal numbers from a counter-based generator, written down here once more, and how they are stored as quants."""

import math

import torch

from .common import Cases

MASK = 2**32 - 1


def philox(counter, key):
    """Philox-4x32-10, Salmon et al., SC 2011; the constants are those of Random123."""
    (a, b, c, d), (k, l) = counter, key
    for _ in range(10):
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (q >> 32) ^ b ^ k, q & MASK, (p >> 32) ^ d ^ l, p & MASK
        k, l = (k + 0x9E3779B9) & MASK, (l + 0xBB67AE85) & MASK
    return a, b, c, d


assert philox((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)) == (
    0xD16CFE09,
    0x94FDCCEB,
    0x5001E420,
    0x24126EA1,
)


def normals(first, count, seed):
    words = []
    for block in range(first // 4, (first + count + 3) // 4):
        words += philox((block & MASK, block >> 32, 1, 0), seed)
    uniform = torch.tensor(words, dtype=torch.float64).reshape(-1, 2)
    radius = torch.sqrt(-2 * torch.log1p(-(uniform[:, 0] + 0.5) / 2**32))
    turned = torch.polar(radius, 2 * math.pi * uniform[:, 1] / 2**32)
    return torch.view_as_real(turned).reshape(-1)[first % 4 : first % 4 + count]


def make():
    cases = Cases("random_normal")
    count = 22
    for name, first, seed in [
        ("from the first on", 0, (0, 0)),
        ("from the middle of a block", 7, (1, 0)),
        ("over the first 2^32 values", 2**32 - 9, (0xDEADBEEF, 0x12345678)),
        ("over the first 2^32 blocks", 2**34 - 11, (5, MASK)),
    ]:
        options = {"count": count, "seed": list(seed), "first": first, "scale": 0.02, "offset": 0.5}
        cases.add(name, "fillNormal", {}, options, 0.5 + 0.02 * normals(first, count, seed))
    for dtype, spread, most in [("q8", 32, 127), ("q4", 2.75, 7)]:
        # The probability of each quant that is not the largest; the two largest share the rest.
        normal = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)
        quants = torch.arange(-most + 1, most, dtype=torch.float64)
        inner = normal.cdf((quants + 0.5) / spread) - normal.cdf((quants - 0.5) / spread)
        deviation = ((inner * quants**2).sum() + (1 - inner.sum()) * most**2).sqrt()
        z = normals(40, count, (9, 0))
        expected = 0.02 / deviation * (spread * z).round().clamp(-most, most)
        options = {"count": count, "seed": [9, 0], "first": 40, "scale": 0.02, "quants": dtype}
        cases.add(dtype, "fillNormal", {}, options, expected)
    cases.write()
