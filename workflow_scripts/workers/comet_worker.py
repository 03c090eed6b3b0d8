"""COMET (Rei et al. 2020) as a learned metric: JSON lines in, signature and scores out, times 100.

It runs in the environment of envs/comet.yaml, without Retort. ``--model`` is a name, which is downloaded once, or the
path of a checkpoint. Several references of a source are scored one by one, and their mean counts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from importlib.metadata import version
from pathlib import Path

import comet  # type: ignore[import-not-found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="Unbabel/wmt22-comet-da")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--gpus", type=int, default=0)
    args = parser.parse_args()
    lines = [json.loads(line) for line in sys.stdin]
    samples = [
        {"src": line["source"], "mt": line["hypothesis"], "ref": reference}
        for line in lines
        for reference in line["references"]
    ]
    # the package prints what it does to standard output, which is for scores
    with contextlib.redirect_stdout(sys.stderr):
        path = args.model if Path(args.model).is_file() else comet.download_model(args.model)
        model = comet.load_from_checkpoint(path)
        scores = iter(model.predict(samples, batch_size=args.batch_size, gpus=args.gpus).scores)
    name = Path(args.model).name if Path(args.model).is_file() else args.model
    print(json.dumps({"signature": f"COMET|model:{name}|refs:mean|scale:100|version:{version('unbabel-comet')}"}))
    for line in lines:
        own = [next(scores) for _ in line["references"]]
        print(json.dumps({"score": 100 * sum(own) / len(own)}))


if __name__ == "__main__":
    main()
