#!/usr/bin/env python3
"""Compares Treen with llama.cpp on one GGUF, in turns on one machine, and prints a Markdown table.

Each round runs both once, the order swapped every time, so that a slow minute hits both.
The ratio is the median of the rounds' own ratios: what both suffered cancels.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile

# Our name for a figure, what it is called in `treen bench --json`, and the sign of better.
FIGURES = {
    "prompt, tok/s": ("prompt_tokens_per_s", +1),
    "generation, tok/s": ("generate_tokens_per_s", +1),
    "first token, ms": ("first_token_ms", -1),
    "peak memory, MiB": (None, -1),
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="GGUF file")
    parser.add_argument("--treen", help="the treen executable; without it llama.cpp runs alone")
    parser.add_argument("--llama-bench", required=True, help="llama.cpp's llama-bench executable")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("-p", type=int, default=512, help="prompt tokens")
    parser.add_argument("-n", type=int, default=128, help="generated tokens")
    return parser.parse_args()


def run(command):
    """The command's standard output, read as JSON, and its peak resident memory in MiB."""
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            raise SystemExit(f"exit status {child.returncode}: {' '.join(command)}")
        out.seek(0)
        return json.load(out), usage.ru_maxrss / 1024


def run_treen(args):
    sizes = ["-p", str(args.p), "-n", str(args.n), "-r", "1", "--threads", str(args.threads)]
    result, memory = run([args.treen, "bench", args.model, *sizes, "--json"])
    figures = {figure: result[key] for figure, (key, _) in FIGURES.items() if key in result}
    return figures | {"peak memory, MiB": memory}


def run_llama(args):
    sizes = ["-p", str(args.p), "-n", str(args.n), "-r", "1", "-t", str(args.threads)]
    tests, memory = run([args.llama_bench, "-m", args.model, *sizes, "-o", "json"])
    prompt = next(test["avg_ts"] for test in tests if test["n_prompt"] > 0)
    generation = next(test["avg_ts"] for test in tests if test["n_gen"] > 0)
    return {
        "prompt, tok/s": prompt,
        "generation, tok/s": generation,
        "first token, ms": 1e3 * args.p / prompt,
        "peak memory, MiB": memory,
    }


def measure(args):
    """A list of results for each program, and the load before each round."""
    programs = {"llama.cpp": run_llama} | ({"treen": run_treen} if args.treen else {})
    results, loads = {name: [] for name in programs}, []
    for round_idx in range(args.rounds):
        loads.append(os.getloadavg()[0])
        for name in sorted(programs, reverse=round_idx % 2 == 1):
            results[name].append(programs[name](args))
    return results, loads


def spread(values):
    """`median (least to most)`."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def ratio(figure, treen, llama):
    """How many times better Treen is: above 1 is faster, or smaller."""
    sign = FIGURES[figure][1]
    return f"{statistics.median((a / b) ** sign for a, b in zip(treen, llama)):.2f}x"


def print_table(results):
    print("| figure | treen | llama.cpp | ratio |\n|---|---|---|---|")
    for figure in FIGURES:
        llama = [result[figure] for result in results["llama.cpp"]]
        treen = [result[figure] for result in results.get("treen", []) if figure in result]
        ours, times = (spread(treen), ratio(figure, treen, llama)) if treen else ("-", "-")
        print(f"| {figure} | {ours} | {spread(llama)} | {times} |")


def main():
    args = arguments()
    results, loads = measure(args)
    print_table(results)
    print(f"\nMedian (least to most) of {args.rounds} rounds; prompt {args.p}, generation {args.n}, "
          f"{args.threads} threads; load average {min(loads):.1f} to {max(loads):.1f}.")


if __name__ == "__main__":
    main()
