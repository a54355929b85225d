"""Make `builtin:tiny`: a Qwen2 model of 1.1M parameters, trained from scratch on `pretraining_data.stream`.

    python -m trainables.builtin.pretrain            # at most 30 minutes on 2 idle cores; uses a GPU if there is one
    python -m trainables.builtin.pretrain --steps 500 --folder /tmp/tiny

It writes config, weights (bfloat16, safetensors), generation config, tokenizer and chat template, then prints the
scores of the untouched model. It checks in every batch that no key is of the arena's train, search or test
buckets.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, PreTrainedTokenizerBase

from trainables.builtin import tokenizer as tokenizers
from trainables.builtin.muon import Muon
from trainables.builtin.pretraining_data import PretrainingExample, stream
from trainables.builtin.start import untrained
from trainables.core import Example
from trainables.tasks.arena.task import ArenaTask, bucket

FOLDER = Path(__file__).parent / "tiny"
BATCH, POOL = 64, 32  # conversations in a batch; batches whose conversations are sorted by length together
BEFORE, LONGEST_BEFORE = 0.5, 32  # share of batches with other text before the conversations; most tokens of it
MATRIX_RATE, OTHER_RATE, WARMUP = 0.006, 3e-3, 50  # Muon, AdamW, steps
SKILL_SHARE = 0.65  # share of the conversations in the first part, with plain right answers; styles come after

Batch = tuple[torch.Tensor, torch.Tensor]  # tokens, labels: both (conversations, tokens), label -100 is not scored


def encode(vocabulary: PreTrainedTokenizerBase, conversations: list[PretrainingExample]) -> list[tuple[list[int], int]]:
    """Return the token ids of each conversation up to its end token, and where the answer starts."""
    prompts, whole = [], []
    for talk in conversations:
        messages = [{"role": "system", "content": talk.system}] if talk.system else []
        messages.append({"role": "user", "content": talk.prompt})
        text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
        prompts.append(f"{text}<|im_start|>assistant\n")
        whole.append(f"{prompts[-1]}{talk.answer}{tokenizers.END}")
    starts = [len(ids) for ids in vocabulary(prompts).input_ids]
    return list(zip(vocabulary(whole).input_ids, starts, strict=True))


def batches(vocabulary: PreTrainedTokenizerBase, seed: int, steps: int) -> Iterator[Batch]:
    """Yield batches for `steps` steps; a batch's conversations have similar lengths and are padded on the right.

    Causal attention then needs no mask. The first part of the stream teaches skills, with plain right answers. As in
    packed documents of larger models, a conversation often follows the end of another one. So the model learns to
    ignore text before a conversation; otherwise an untrained soft prompt, which stands there, would harm its answers.
    """
    talks, order = stream(seed, int(steps * BATCH * SKILL_SHARE)), torch.Generator().manual_seed(seed)
    rng = random.Random(seed)
    while True:
        pool = list(islice(talks, BATCH * POOL))
        if leaked := [t.key for t in pool if bucket(t.key) != "pretrain"]:
            raise AssertionError(f"the stream holds a key of another bucket: {leaked[0]}")
        rows = sorted(encode(vocabulary, pool), key=lambda row: len(row[0]))
        for place in torch.randperm(POOL, generator=order).tolist():
            chosen = _after_others(rows[place * BATCH : (place + 1) * BATCH], rng)
            tokens = torch.full((BATCH, max(len(ids) for ids, _ in chosen)), int(vocabulary.pad_token_id or 0))
            labels = torch.full_like(tokens, -100)
            for row, (ids, start) in enumerate(chosen):
                tokens[row, : len(ids)] = torch.tensor(ids)
                labels[row, start : len(ids)] = tokens[row, start : len(ids)]
            yield tokens, labels


def _after_others(rows: list[tuple[list[int], int]], rng: random.Random) -> list[tuple[list[int], int]]:
    """Put the last tokens of another row before each row, in a share of the batches."""
    if rng.random() >= BEFORE:
        return rows
    count = rng.randint(1, min(LONGEST_BEFORE, *(len(ids) for ids, _ in rows)))
    others = rng.sample(rows, len(rows))
    return [(other[-count:] + ids, start + count) for (ids, start), (other, _) in zip(rows, others, strict=True)]


def schedule(progress: float, step: int) -> float:
    """Return the factor on the learning rate: linear warm-up, then a cosine to zero at `progress` 1."""
    return min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def loss_of(base: Any, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of the labels; logits are computed only for them."""
    hidden = base.model(tokens[:, :-1], use_cache=False).last_hidden_state
    wanted = labels[:, 1:] != -100
    return cross_entropy(base.lm_head(hidden[wanted]).float(), labels[:, 1:][wanted])


def train(base: Any, vocabulary: PreTrainedTokenizerBase, seed: int, steps: int) -> None:
    """Train in place on the answers, with Muon on the layers' matrices and AdamW on the rest."""
    inner = [p for p in base.model.layers.parameters() if p.ndim == 2]
    others = [p for p in base.parameters() if p.ndim != 2 or p is base.model.embed_tokens.weight]
    optimizers = (
        Muon(inner, lr=MATRIX_RATE),
        torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    )
    source, started, running = batches(vocabulary, seed, steps), time.monotonic(), 0.0
    base.train()
    for step in range(steps):
        for optimizer, rate in zip(optimizers, (MATRIX_RATE, OTHER_RATE), strict=True):
            optimizer.param_groups[0]["lr"] = rate * schedule(step / steps, step)
            optimizer.zero_grad()
        tokens, labels = (part.to(base.device) for part in next(source))
        loss = loss_of(base, tokens, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(base.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        running += loss.item()
        if (step + 1) % 500 == 0:
            minutes = (time.monotonic() - started) / 60
            skill = " ".join(f"{k} {v:.2f}" for k, v in measure(base, vocabulary, ArenaTask(train_size=250).train()))
            print(f"step {step + 1}/{steps} {minutes:.1f} min loss {running / 500:.3f} | {skill}", flush=True)
            running = 0.0
            base.train()


BRIEF = "Give only the answer. Take care."


@torch.no_grad()
def answers(base: Any, vocabulary: PreTrainedTokenizerBase, examples: Sequence[Example], system: str = "") -> list[str]:
    """Return greedy answers of at most 10 tokens to each question; `system` is a system message that asks for a
    style."""
    base.eval()
    rows = encode(vocabulary, [PretrainingExample(system, e.prompt, "", e.key) for e in examples])
    prompts = [{"input_ids": ids[:start]} for ids, start in rows]
    padded = vocabulary.pad(prompts, padding_side="left", return_tensors="pt").to(base.device)
    made = base.generate(**padded, max_new_tokens=10, do_sample=False)
    return vocabulary.batch_decode(made[:, padded["input_ids"].shape[1] :], skip_special_tokens=True)


def measure(
    base: Any, vocabulary: PreTrainedTokenizerBase, examples: Sequence[Example], system: str = ""
) -> list[tuple[str, float]]:
    """Return the strict score per kind, then `all` and the lenient score."""
    task, texts = ArenaTask(), answers(base, vocabulary, examples, system)
    strict = [task.score(e, text) for e, text in zip(examples, texts, strict=True)]
    lenient = [task.details(e, text)["lenient"] for e, text in zip(examples, texts, strict=True)]
    result = []
    for kind in dict.fromkeys(e.kind for e in examples):
        of_kind = [s for e, s in zip(examples, strict, strict=True) if e.kind == kind]
        result.append((kind, sum(of_kind) / len(of_kind)))
    return [*result, ("all", sum(strict) / len(strict)), ("lenient", sum(lenient) / len(lenient))]


def save(base: Any, vocabulary: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the model for `from_pretrained(folder)`; the weights become bfloat16."""
    base.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=vocabulary.eos_token_id, pad_token_id=vocabulary.pad_token_id
    )
    base.to(torch.bfloat16).save_pretrained(folder)
    vocabulary.save_pretrained(folder)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--folder", type=Path, default=FOLDER)
    flags.add_argument("--steps", type=int, default=3600, help="optimizer steps of 64 conversations")
    flags.add_argument("--seed", type=int, default=0)
    given = flags.parse_args()
    torch.manual_seed(given.seed)
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    vocabulary = tokenizers.build()
    base = untrained(vocabulary).to("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{sum(p.numel() for p in base.parameters()):,} parameters, {len(vocabulary)} tokens", flush=True)
    train(base, vocabulary, given.seed, given.steps)
    save(base, vocabulary, given.folder)
    for system in ("", BRIEF):
        scores = measure(base.float(), vocabulary, ArenaTask().search(), system)
        print(f"search split, system {system!r}: " + " ".join(f"{k} {v:.3f}" for k, v in scores))


if __name__ == "__main__":
    main()
