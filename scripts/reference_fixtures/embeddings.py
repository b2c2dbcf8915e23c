"""Embeddings with learned positions, as transformers' gpt2 adds them, and of a vocabulary in parts."""

import torch
import torch.nn.functional as F

from .common import Cases, Draw


def make():
    cases, draw = Cases("embeddings"), Draw(32)
    vocabulary, width, capacity = 9, 4, 12
    table, positions = draw(vocabulary, width), draw(capacity, width)
    tokens = torch.tensor([[0, 8, 3, 3, 1], [7, 7, 2, 0, 5]])
    shape = {"rows": 10, "vocabulary": vocabulary, "width": width, "capacity": capacity}
    position = torch.tensor([0, 7])
    ids = position[:, None] + torch.arange(5)
    inputs = {"table": table, "tokens": tokens, "positions": positions, "position": position}
    expected = F.embedding(tokens, table) + F.embedding(ids, positions)
    cases.add("positions of two sequences", "embed", inputs, {**shape, "length": 5}, expected)
    expected = 2 * F.embedding(tokens, table) + F.embedding(2 + torch.arange(10).reshape(2, 5), positions)
    one = {**inputs, "position": torch.tensor([2])}
    cases.add("scaled, positions of one sequence", "embed", one, {**shape, "scale": 2}, expected)
    # Rows of the first six tokens come from one table, the others from a second one.
    whole = F.embedding(tokens, table)
    is_first = (tokens < 6)[..., None]
    part = {"rows": 10, "width": width, "length": 5}
    first = {**part, "vocabulary": 6, "firstToken": 0}
    cases.add("first part", "embed", {"table": table[:6], "tokens": tokens}, first, torch.where(is_first, whole, 0))
    out = draw(2, 5, width)
    second = {**part, "vocabulary": 3, "firstToken": 6}
    inputs = {"table": table[6:], "tokens": tokens, "out": out}
    cases.add("second part", "embed", inputs, second, torch.where(is_first, out, whole))
    cases.write()
