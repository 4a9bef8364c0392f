"""Apps that say themselves how many workers they want, and some that only seem to."""

import os


class Model:
    workers = 1

    def init(self):
        print(f"Model loaded in {os.getpid()}")

    def pid(self):
        return os.getpid()


class Light:
    workers = None

    def pid(self):
        return os.getpid()


class Office:
    """Here `workers` is an action."""

    def workers(self):
        return ["Ann", "Bob"]


class Nobody:
    workers = 0


class Half:
    workers = "1"
