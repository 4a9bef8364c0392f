#!/usr/bin/env python3
"""Draws the pictures beside this file: mountains.jpg, tower.jpg, leaf.png and night.webp.

They are committed; run this only to change them. Needs Python's standard library and libvips' command line tool
(`apt install libvips-tools`), which compresses them. The same seed draws the same pictures.
"""

import math
import pathlib
import random
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable

Colour = tuple[float, ...]
HERE = pathlib.Path(__file__).resolve().parent


def mix(a: Colour, b: Colour, t: float) -> Colour:
    """The colour that is `t` (0 to 1) of the way from `a` to `b`."""
    t = min(1.0, max(0.0, t))
    return tuple(x + (y - x) * t for x, y in zip(a, b))


def ridge(rng: random.Random, width: int, base: float, height: float, roughness: float) -> list[float]:
    """A mountain line by midpoint displacement: for each column, where its edge is (0 top, in pixels)."""
    size = 1 << math.ceil(math.log2(width))
    line = [0.0] * (size + 1)
    line[0], line[size] = rng.uniform(-1, 1), rng.uniform(-1, 1)
    step, amplitude = size, 1.0
    while step > 1:
        for left in range(0, size, step):
            middle = left + step // 2
            line[middle] = (line[left] + line[left + step]) / 2 + rng.uniform(-amplitude, amplitude)
        step //= 2
        amplitude *= roughness
    return [base - height * y for y in line[:width]]


def write_png(path: pathlib.Path, width: int, height: int, channels: int, pixel: Callable[[int, int], Colour]) -> None:
    """Writes what `pixel(x, y)` returns (3 or 4 channels, 0 to 255) as a PNG."""
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        for x in range(width):
            rows.extend(min(255, max(0, round(c))) for c in pixel(x, y))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, {3: 2, 4: 6}[channels], 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(rows), 9)) + chunk(b"IEND", b"")
    )


def save(width: int, height: int, pixel: Callable[[int, int], Colour], name: str, operation: str, *options: str) -> None:
    """Draws a picture without alpha and compresses it to `name` with a vips operation."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = pathlib.Path(folder) / "drawn.png"
        write_png(drawn, width, height, 3, pixel)
        subprocess.run(["vips", operation, str(drawn), str(HERE / name), *options], check=True)


def mountains() -> None:
    """A landscape of 960 x 640: ranges in the haze, a low sun, a lake that mirrors it all."""
    width, height, shore = 960, 640, 430
    rng = random.Random(7)
    ranges = [
        (ridge(rng, width, 300, 110, 0.52), (150, 165, 195)),
        (ridge(rng, width, 350, 90, 0.54), (104, 120, 150)),
        (ridge(rng, width, 395, 60, 0.56), (58, 74, 92)),
        (ridge(rng, width, 425, 22, 0.62), (26, 38, 40)),
    ]
    sun_x, sun_y = 640, 215

    def land(x: int, y: float) -> Colour:
        for line, colour in reversed(ranges):
            if y >= line[x]:
                depth = (y - line[x]) / 160
                return mix(colour, (190, 190, 205), depth * 0.45)
        colour = mix((70, 105, 165), (252, 196, 140), (y / 340) ** 1.4)
        distance = math.hypot(x - sun_x, y - sun_y)
        if distance < 26:
            return (255, 248, 226)
        return mix(colour, (255, 236, 190), 0.9 * math.exp(-distance / 90))

    def pixel(x: int, y: int) -> Colour:
        if y < shore:
            return land(x, y)
        depth = (y - shore) / (height - shore)
        wave = math.sin(y * 0.9 + 6 * math.sin(x * 0.011 + y * 0.05)) * (1 + 7 * depth)
        mirrored = shore - (y - shore) * 1.6 + wave
        colour = land(min(width - 1, max(0, round(x + wave))), max(0.0, mirrored))
        return mix(colour, (18, 40, 62), 0.25 + 0.4 * depth)

    save(width, height, pixel, "mountains.jpg", "jpegsave", "--Q", "82", "--optimize-coding")


def tower() -> None:
    """A lighthouse that stands upright at 480 x 720, stored lying (EXIF orientation 6), as telephones do."""
    width, height = 480, 720
    rng = random.Random(3)
    rocks = ridge(rng, width, 640, 30, 0.6)

    def upright(x: int, y: int) -> Colour:
        if y > rocks[x]:
            return mix((72, 64, 60), (24, 22, 26), (y - rocks[x]) / 90)
        half = 34 + 26 * (y - 250) / 390
        if 250 <= y <= 650 and abs(x - 240) < half:
            shade = 0.55 + 0.45 * math.cos((x - 225) / half * 1.4)
            stripe = (196, 44, 40) if (y - 250) // 66 % 2 else (244, 240, 232)
            return tuple(c * shade for c in stripe)
        if 226 <= y < 250 and abs(x - 240) < 50:
            return (46, 48, 54)
        if 176 <= y < 226 and abs(x - 240) < 28:
            return (255, 236, 150) if abs(x - 240) % 14 > 2 else (60, 60, 64)
        if 140 <= y < 176 and abs(x - 240) < 34 * (y - 138) / 38:
            return (150, 34, 34)
        sky = mix((28, 58, 112), (238, 168, 142), (y / 600) ** 1.2)
        if y > 560:
            sky = mix((60, 86, 120), (30, 52, 84), (y - 560) / 80 + 0.15 * math.sin(x * 0.05 + y * 0.7))
        beam = abs((y - 200) - 0.1 * (x - 240))
        glow = math.exp(-beam / (6 + abs(x - 240) * 0.14)) * math.exp(-abs(x - 240) / 300)
        return mix(sky, (255, 240, 190), 0.6 * glow)

    # Stored columns are the rows of the upright picture, from its left to its right.
    save(height, width, lambda x, y: upright(width - 1 - y, x), "tower.jpg", "jpegsave", "--Q", "84", "--optimize-coding", "--strip")
    path = HERE / "tower.jpg"
    tiff = b"MM\x00\x2a" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\x00\x00" + tiff
    jpeg = path.read_bytes()
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])


def leaf() -> None:
    """A leaf of 400 x 400 on nothing: a PNG with alpha."""
    size = 400

    def pixel(x: int, y: int) -> Colour:
        # Along the leaf (u, 0 to 1) and across it (v), turned by 45 degrees.
        u = ((x - 60) + (size - 60 - y)) / (2 * (size - 120))
        v = ((x - 60) - (size - 60 - y)) / (size - 120)
        if not -0.14 < u < 1:
            return (0, 0, 0, 0)
        half = 0.0 if u < 0 else 0.42 * math.sin(math.pi * u) ** 0.8 * (1 - 0.25 * u)
        half += 0.012 * math.sin(u * 90) if u > 0.05 else 0
        stem = 0.012
        alpha = min(1.0, max(0.0, (max(half, stem if u < 0.9 else 0) - abs(v)) * size / 3))
        if alpha <= 0:
            return (0, 0, 0, 0)
        colour = mix((60, 140, 48), (176, 206, 70), u + 0.6 * v)
        vein = abs(math.sin((u - 0.55 * abs(v)) * 38))
        colour = mix(colour, (216, 232, 150), 0.5 * math.exp(-vein * 9))
        if abs(v) < 0.012:
            colour = (226, 236, 170)
        return (*colour, 255 * alpha)

    write_png(HERE / "leaf.png", size, size, 4, pixel)


def night() -> None:
    """A night sky of 800 x 500 with northern lights: a WebP."""
    width, height = 800, 500
    rng = random.Random(11)
    forest = ridge(rng, width, 440, 16, 0.8)
    stars = {(rng.randrange(width), rng.randrange(height)): rng.uniform(60, 230) for _ in range(420)}

    def pixel(x: int, y: int) -> Colour:
        if y > forest[x]:
            return (5, 9, 12)
        colour = mix((6, 10, 34), (16, 44, 66), y / height)
        for start, reach, tint in ((150, 200, (70, 240, 150)), (90, 160, (140, 90, 220))):
            edge = start + 60 * math.sin(x * 0.008 + start) + 24 * math.sin(x * 0.023 + 2)
            below = edge + reach - y
            if 0 < below:
                curtain = 0.6 + 0.4 * math.sin(x * 0.11 + 3 * math.sin(x * 0.017))
                light = math.exp(-below / reach * 1.6) * min(1.0, below / 26)
                colour = mix(colour, tint, 0.75 * curtain * light)
        star = stars.get((x, y), 0.0)
        return tuple(c + star for c in colour)

    save(width, height, pixel, "night.webp", "webpsave", "--Q", "80")


if __name__ == "__main__":
    mountains()
    tower()
    leaf()
    night()
