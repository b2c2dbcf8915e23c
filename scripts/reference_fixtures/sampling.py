"""Sampling: the logits processors of transformers, one after another, and torch's log_softmax."""

import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from .common import Cases, Draw

ROWS, WIDTH = 3, 40


def kept(cases, draw):
    settings = [
        {"temperature": 1.0, "topK": 1},
        {"temperature": 0.7, "topK": 7},
        {"temperature": 1.0, "topK": 1000},
        {"temperature": 1.0, "topP": 0.01},
        {"temperature": 0.8, "topP": 0.6},
        {"temperature": 2.5, "topP": 0.95},
        {"temperature": 1.0, "minP": 0.05},
        {"temperature": 0.6, "minP": 0.3},
        {"temperature": 1.2, "topK": 12, "topP": 0.8},
        {"temperature": 1.1, "topK": 20, "topP": 0.97, "minP": 0.04},
    ]
    for index, chosen in enumerate(settings):
        logits = draw(ROWS, WIDTH, scale=2)
        if index == 1:
            # The seventh has equals, all of which stay.
            logits[0] = torch.round(logits[0])
        processors = LogitsProcessorList([TemperatureLogitsWarper(chosen["temperature"])])
        if "topK" in chosen:
            processors.append(TopKLogitsWarper(chosen["topK"]))
        if "topP" in chosen:
            processors.append(TopPLogitsWarper(chosen["topP"]))
        if "minP" in chosen:
            processors.append(MinPLogitsWarper(chosen["minP"]))
        found = processors(torch.zeros(ROWS, 1, dtype=torch.long), logits.clone())
        name = ", ".join(f"{key} {value}" for key, value in chosen.items())
        options = {"rows": ROWS, "width": WIDTH, **chosen}
        cases.add(name, "sampleKept", {"logits": logits}, options, torch.isfinite(found).double())


def adjusted(cases, draw):
    logits = draw(ROWS, WIDTH, scale=2)
    shape = {"rows": ROWS, "width": WIDTH}
    tokens = torch.tensor([[3, 9, 3, 3], [39, 0, 39, 1], [5, 6, 7, 8]])
    ring = torch.cat([torch.full((ROWS, 1), 4), tokens], 1)
    penalty = RepetitionPenaltyLogitsProcessor(1.3)
    expected = penalty(tokens, logits.clone())
    inputs = {"logits": logits, "recent": ring}
    cases.add("repetition", "sampleAdjusted", inputs, {**shape, "repetitionPenalty": 1.3}, expected)
    counts = torch.stack([torch.bincount(row, minlength=WIDTH) for row in tokens])
    expected = expected - 0.4 * (counts > 0).double() - 0.25 * counts.double()
    options = {**shape, "repetitionPenalty": 1.3, "presencePenalty": 0.4, "frequencyPenalty": 0.25}
    cases.add("repetition, presence, frequency", "sampleAdjusted", inputs, options, expected)

    # Six tokens were appended to a ring of four, of which the last three count.
    history = torch.tensor([[1, 2, 3, 9, 3, 5], [0, 0, 39, 0, 39, 1], [5, 6, 7, 8, 9, 9]])
    wrapped = torch.stack([history[:, n] for n in (4, 5, 2, 3)], 1)
    inputs = {"logits": logits, "recent": torch.cat([torch.full((ROWS, 1), 6), wrapped], 1)}
    options = {**shape, "repetitionPenalty": 1.3, "penaltyWindow": 3}
    cases.add("window", "sampleAdjusted", inputs, options, penalty(history[:, 3:], logits.clone()))

    bias = {4: 3.5, 17: -2.25}
    biased = SequenceBiasLogitsProcessor({(token,): value for token, value in bias.items()})
    entries = torch.tensor([[value for pair in bias.items() for value in pair]] * ROWS, dtype=torch.float64)
    inputs = {"logits": logits, "bias": entries, "recent": ring}
    expected = penalty(tokens, biased(tokens, logits.clone()))
    cases.add("bias, repetition", "sampleAdjusted", inputs, {**shape, "repetitionPenalty": 1.3}, expected)


def logprobs(cases, draw):
    logits = draw(ROWS, WIDTH, scale=3)
    token = torch.tensor([0, 39, 17])
    all_of_them = torch.log_softmax(logits, -1)
    top = torch.topk(all_of_them, 5)
    expected = {
        "logprob": all_of_them.gather(1, token[:, None])[:, 0],
        "topTokens": top.indices,
        "topLogprobs": top.values,
    }
    options = {"rows": ROWS, "width": WIDTH, "tops": 5}
    cases.add("log-probabilities", "sampleLogprobs", {"logits": logits, "token": token}, options, expected)


def make():
    cases, draw = Cases("sampling"), Draw(21)
    kept(cases, draw)
    adjusted(cases, draw)
    logprobs(cases, draw)
    cases.write()
