"""The built-in base's tokenizer: a token per word of the arena's vocabulary, per digit, and per byte of other text.

A Unigram model (Kudo 2018) over the byte-level alphabet. Its best path takes whole words if it has them and single
bytes otherwise, so decoding gives back any text exactly. Words that can be answers exist only without a space, so `Ben`
is the same token in a question and in an answer; the words around it include the space.
"""

from __future__ import annotations

import re
from itertools import chain
from random import Random

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from trainables.builtin.pretraining_data import NEUTRAL, REQUESTS, STYLES
from trainables.tasks.arena.kinds import KINDS
from trainables.tasks.arena.world import EVENTS, NAMES, OBJECTS, THEMES

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONTENT = (*NAMES, *EVENTS, *OBJECTS, *chain.from_iterable(THEMES.values()))
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_names() -> dict[int, str]:
    """Return the byte-level alphabet (Radford et al. 2019): a character per byte, printable ones as themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return {byte: chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)}


def written(text: str) -> str:
    """Return a text in the byte-level alphabet."""
    names = byte_names()
    return "".join(names[byte] for byte in text.encode())


def corpus() -> list[str]:
    """Return texts that contain every word of the pre-training."""
    rng = Random("vocabulary")
    questions = [kind.draw(rng).prompt for kind in KINDS.values() for _ in range(600)]
    requests = [*chain.from_iterable(REQUESTS.values()), *NEUTRAL]
    pairs = [f"{a} {b}" for a in requests for b in requests]
    return [*questions, *pairs, *(style.format(word) for style in STYLES.values() for word in CONTENT)]


def candidate_pieces() -> dict[str, float]:
    """Return pieces and their scores. A path's scores add up, so fewer pieces win, and the word before a digit takes
    the space."""
    words = {w for text in corpus() for w in re.findall(r"[A-Za-z]+", text)} - set(CONTENT)
    grammar = {form: score for w in sorted(words) for form, score in
               ((w, -1.0), (f" {w}", -1.0), (f" {w} ", -1.5), (f"{w} ", -1.5))}  # fmt: skip
    marks = {form: -1.0 for mark in ".,?:" for form in (mark, f"{mark} ")}
    roles = {f"{role}\n": -1.0 for role in ("system", "user", "assistant")}
    return {**dict.fromkeys(CONTENT, -1.0), **grammar, **marks, **roles, "\n": -1.0}


def unigram(pieces: dict[str, float]) -> Tokenizer:
    """Return a tokenizer of these pieces and all single bytes, whose scores are so low that any known piece wins."""
    names = byte_names()
    taken = {written(piece) for piece in pieces}
    vocabulary = [(token, 0.0) for token in (PAD, START, END)]
    vocabulary += [(written(piece), score) for piece, score in pieces.items()]
    digits = {str(d) for d in range(10)}
    vocabulary += [(name, -1.0 if name in digits else -10.0) for name in names.values() if name not in taken]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (PAD, START, END)])
    return tokenizer


def build() -> PreTrainedTokenizerFast:
    """Return the tokenizer. It keeps the candidate pieces that the corpus uses, so that every token is trained."""
    pieces = candidate_pieces()
    used = {token for encoding in unigram(pieces).encode_batch(corpus()) for token in encoding.tokens}
    roles = {piece for piece in pieces if piece.endswith("\n")}
    kept = {piece: score for piece, score in pieces.items() if written(piece) in used or piece in roles}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=unigram(kept), eos_token=END, pad_token=PAD, model_max_length=512,
        clean_up_tokenization_spaces=False, padding_side="left",
    )  # fmt: skip
    tokenizer.chat_template = TEMPLATE
    # Transformers 5 gives every model of type qwen2 the tokenizer of Qwen2 (other splitting, and a normalizer that
    # loses text), whatever the folder says, unless `auto_map` is set; it then reads tokenizer.json as it is.
    tokenizer.init_kwargs["auto_map"] = {"AutoTokenizer": [None, "PreTrainedTokenizerFast"]}
    return tokenizer
