"""Entry of the worker process: address and key come over standard input."""

import sys

from napari_fewshot.worker._server import serve

if __name__ == "__main__":
    address, key = (sys.stdin.readline().strip() for _ in range(2))
    serve(address, bytes.fromhex(key))
