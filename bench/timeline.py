#!/usr/bin/env python3
"""Sums up what bench/timeline.c wrote: by kernel, told apart by its shape and by what came before it.

Kernels overlap, so what one costs is how much later it ends than the one before it: `adds`. `early` is how long it was
there before that ended. Both are medians, in microseconds. The first lines, up to `--skip`, are left out: the prompt's.
"""

import argparse
import collections
import statistics


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lines")
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--least", type=int, default=4, help="leave out what is there less often")
    args = parser.parse_args()
    with open(args.lines) as file:
        rows = sorted(tuple(map(int, line.split())) for line in file)[args.skip :]
    kinds = collections.defaultdict(list)
    for before, it in zip(rows, rows[1:]):
        kinds[before[2:4], it[2:]].append([it[1] - before[1], it[1] - it[0], before[1] - it[0]])
    often = {kind: times for kind, times in kinds.items() if args.least <= len(times)}
    print("   all us  times     adds    takes    early  blocks, threads, registers, shared, after blocks")
    for (before, it), times in sorted(often.items(), key=lambda kind: -sum(time[0] for time in kind[1])):
        adds, takes, early = (statistics.median(time[i] for time in times) / 1e3 for i in range(3))
        shape = f"{it[0]}x{it[1]}, {it[2]}, {it[3]}, {it[4]}, after {before[0]}x{before[1]}"
        print(f"{adds * len(times):9.1f} {len(times):6} {adds:8.2f} {takes:8.2f} {early:8.2f}  {shape}")


if __name__ == "__main__":
    main()
