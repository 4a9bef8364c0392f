"""The app that dirtyd's workers run: thumbnails, with Pillow."""

from __future__ import annotations

import io
import threading
from typing import Any

from dirty import DirtyApp
from PIL import Image, ImageOps, UnidentifiedImageError

# Of the picture that comes in: about what 300 MB of memory decode.
MAX_PIXELS = 100_000_000
FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}


class BadPictureError(Exception):
    """What came is no picture that can be read."""


class PictureTooLargeError(Exception):
    """It has more than MAX_PIXELS."""


class Thumbnails(DirtyApp):
    """Makes small pictures of large ones."""

    def init(self) -> None:
        """Once in each worker, before its first call."""
        Image.init()  # loads the decoders now, not during somebody's call
        self._lock = threading.Lock()  # with `threads` above 1, actions run at the same time
        self._made = 0

    def thumbnail(self, picture: bytes, size: int = 128) -> dict[str, Any]:
        """`picture` in at most `size` x `size` pixels, in its own format if browsers know that."""
        if not 1 <= size <= 4096:
            raise ValueError(f"size is 1 to 4096 pixels, not {size}")
        try:
            with Image.open(io.BytesIO(picture)) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise PictureTooLargeError(f"{image.width} x {image.height} pixels: at most {MAX_PIXELS} in all")
                kind = image.format if image.format in FORMATS else "PNG"
                image.thumbnail((size, size))
                small = ImageOps.exif_transpose(image)
        except UnidentifiedImageError:
            raise BadPictureError("no format that Pillow knows") from None
        except Image.DecompressionBombError as error:
            raise PictureTooLargeError(str(error)) from None
        except (OSError, SyntaxError) as error:  # what Pillow raises for damaged files
            raise BadPictureError(f"damaged: {error}") from None
        out = io.BytesIO()
        small.save(out, kind)
        with self._lock:
            self._made += 1
        # bytes may stand anywhere in a result.
        return {"picture": out.getvalue(), "type": FORMATS[kind], "width": small.width, "height": small.height}

    def close(self) -> None:
        """Once, after the last call. What is printed is in dirtyd's log."""
        print(f"{self._made} thumbnails made")
