"""The original text's MLApp, and one that calls it from inside a worker."""

from dirty import DirtyApp, get_dirty_client
from original import MLApp

__all__ = ["Caller", "MLApp"]


class Caller(DirtyApp):
    def call(self, text: str) -> object:
        client = get_dirty_client()
        client.execute("myapp.ml:MLApp", "load_model", "inner")
        return client.execute("myapp.ml:MLApp", "inference", "inner", input_text=text)
