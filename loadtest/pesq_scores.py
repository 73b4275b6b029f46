#!/usr/bin/env python3
"""PESQ (wide band) of what `veza-loadtest quality --out FOLDER` wrote: pip install pesq"""

import collections
import pathlib
import sys

import numpy
from pesq import pesq

WAV_HEADER_BYTES = 44


def samples(path):
    return numpy.frombuffer(path.read_bytes()[WAV_HEADER_BYTES:], dtype="<i2")


def main(folder):
    reference = samples(folder / "reference.wav")
    scores, whole = collections.defaultdict(list), {}
    for path in sorted(folder.glob("*-*.wav")):
        variant, seed = path.stem.rsplit("-", 1)
        score = pesq(16_000, reference, samples(path), "wb")
        if seed == "whole":
            whole[variant] = score
        else:
            scores[variant].append(score)
    print("| variant | mean | lowest | highest | nothing lost |\n|---|---|---|---|---|")
    for variant, of in scores.items():
        print(f"| {variant} | {sum(of) / len(of):.2f} | {min(of):.2f} | {max(of):.2f} | {whole[variant]:.2f} |")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: pesq_scores.py FOLDER")
    main(pathlib.Path(sys.argv[1]))
