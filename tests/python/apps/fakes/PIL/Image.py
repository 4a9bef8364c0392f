"""An image is its bytes and what was done to them."""


class Opened:
    def __init__(self, data, done=b""):
        self.data = data
        self.done = done

    def resize(self, size):
        return Opened(self.data, b" resized to %dx%d" % size)

    def thumbnail(self, size):
        self.done += b" thumbnail of %dx%d" % size

    def save(self, file, format):
        file.write(self.data + self.done + b" as " + format.encode())


def open(file):
    return Opened(file.read())
