"""What the codec costs: 100 MB to a blob file and back, a message of ten floats, a wide model for many sites.

    python benchmarks/bench_codec.py [--json] [--folder DIR]

The yardstick, a plain `write` of the same bytes to a file in the same folder, is measured in turn with the codec.
All figures are medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import numpy as np

from hansa.apis.dxo import DXO
from hansa.apis.shareable import Shareable
from hansa.wire.buffers import Recycler
from hansa.wire.codec import Encoder, FileSink, TableCache, decode

REPEATS = 5
NUM_TENSORS = 20
MODEL_BYTES = 100_000_000


def seconds(act: Callable[[], object]) -> float:
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def microseconds(act: Callable[[], object], number: int = 2000) -> float:
    def loop() -> None:
        for _ in range(number):
            act()

    loop()
    return statistics.median(seconds(loop) for _ in range(REPEATS)) / number * 1e6


def large_model(folder: Path) -> dict[str, Any]:
    size = MODEL_BYTES // NUM_TENSORS // 4
    weights = {f"layer{i}.weight": np.full(size, i, dtype=np.float32) for i in range(NUM_TENSORS)}
    raw = np.concatenate(list(weights.values()))
    recycler = Recycler()
    passes = [one_pass(folder, weights, raw, recycler) for _ in range(REPEATS + 1)][1:]  # the first one warms up
    median = {name: statistics.median(one[name] for one in passes) for name in passes[0]}
    return median | {
        "speed_of_plain_write": median["plain_write_ms"] / median["encode_to_file_ms"],
        "decode_mapped_copies": max(int(one["decode_mapped_copies"]) for one in passes),
    }


def one_pass(folder: Path, weights: dict[str, Any], raw: Any, recycler: Recycler) -> dict[str, float]:
    target = folder / "plain"
    plain = seconds(lambda: target.write_bytes(raw.data))
    target.unlink()  # new files for both: an old one would have pages in memory already
    messages: list[Any] = []
    encoder = Encoder(sink=FileSink(folder))
    encoded = seconds(lambda: messages.append(encoder.encode(DXO("WEIGHTS", weights).to_shareable())))
    (message,) = messages
    mapped = seconds(lambda: decode(message, arrays="readonly"))
    num_copies = message.blobs[0].num_copies
    copied = seconds(lambda: decode(message))
    recycled = seconds(lambda: decode(message, allocate=recycler))
    assert decode(message, arrays="readonly")["DXO"]["data"]["layer7.weight"][-1] == 7
    message.blobs[0].path.unlink()
    return {
        "plain_write_ms": plain * 1e3,
        "encode_to_file_ms": encoded * 1e3,
        "decode_mapped_ms": mapped * 1e3,
        "decode_mapped_copies": num_copies,
        "decode_to_new_copy_ms": copied * 1e3,
        "decode_to_recycled_copy_ms": recycled * 1e3,
    }


def task(weights: dict[str, Any], site: str) -> Shareable:
    result = DXO("WEIGHTS", weights, {"NUM_STEPS_CURRENT_ROUND": 10}).to_shareable()
    for name, value in (("current_round", 3), ("num_rounds", 5), ("__task_name__", "train"), ("__task_id__", "7f3a")):
        result.set_header(name, value)
    result.add_cookie("contribution_round", 3)
    result.add_cookie("workflow", "scatter_and_gather")
    result.set_peer_props({"__identity_name__": site, "__run_num__": 1})
    return result


def small_message() -> dict[str, Any]:
    value = task({"w": np.arange(10, dtype=np.float32)}, "server")
    message = Encoder().encode(value)
    encoder = Encoder()
    return {
        "small_encode_us": microseconds(lambda: Encoder().encode(value)),
        "small_encode_next_site_us": microseconds(lambda: encoder.encode(value)),
        "small_decode_us": microseconds(lambda: decode(message)),
        "small_bytes": message.size_bytes,
    }


def wide_model() -> dict[str, Any]:
    weights = {f"block{i}.weight": np.zeros((8, 8), np.float32) for i in range(1000)}
    encoder, cache = Encoder(), TableCache()
    first = seconds(lambda: encoder.encode(task(weights, "site-0")))
    message = encoder.encode(task(weights, "site-1"))
    return {
        "wide_first_site_us": first * 1e6,
        "wide_next_site_us": microseconds(lambda: encoder.encode(task(weights, "site-2")), 200),
        "wide_decode_us": microseconds(lambda: decode(message, arrays="readonly", tables=cache), 200),
    }


def show(figures: dict[str, Any]) -> None:
    rows = [
        ("plain write of 100 MB", "plain_write_ms", "ms"),
        ("encode to a blob file", "encode_to_file_ms", "ms"),
        ("  share of a plain write's speed", "speed_of_plain_write", "(goal: 0.5)"),
        ("decode, mapped", "decode_mapped_ms", "ms"),
        ("  copies of the data", "decode_mapped_copies", "(goal: 0)"),
        ("decode into a new copy", "decode_to_new_copy_ms", "ms"),
        ("decode into a recycled copy", "decode_to_recycled_copy_ms", "ms"),
        ("10 floats: encode", "small_encode_us", "us (goal: 25)"),
        ("10 floats: encode for the next site", "small_encode_next_site_us", "us"),
        ("10 floats: decode", "small_decode_us", "us (goal: 25)"),
        ("10 floats: whole message", "small_bytes", "bytes"),
        ("1,000 tensors: encode", "wide_first_site_us", "us"),
        ("1,000 tensors: encode for the next site", "wide_next_site_us", "us"),
        ("1,000 tensors: decode", "wide_decode_us", "us"),
    ]
    for label, name, unit in rows:
        figure = figures[name]
        print(f"{label:42}{figure if isinstance(figure, int) else format(figure, '.2f'):>10} {unit}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.add_argument("--folder", type=Path, help="where the files go (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = large_model(Path(folder)) | small_message() | wide_model()
    if options.json:
        print(json.dumps(figures, indent=1))
    else:
        show(figures)


if __name__ == "__main__":
    main()
