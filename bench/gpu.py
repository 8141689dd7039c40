#!/usr/bin/env python3
"""Treen beside PyTorch on one GPU, in one run: decoders of two published shapes with made-up weights.

PyTorch's side is what a careful user gets: torch.compile with max-autotune, a static cache, the step of a token as one
CUDA graph, the compiled prompt. The hybrid's prompt needs a chunked scan that PyTorch lacks, and is left out.
Prints a Markdown table. Needs torch with CUDA; both sides measure for themselves how fast memory is read.
"""

import argparse
import json
import statistics
import subprocess

import torch
from torch import nn
from torch.nn import functional

EPS = 1e-6
DENSE = dict(e=4096, heads=32, groups=8, width=128, f=12288, v=151936, pattern="*-" * 36, gated=True, rotates=True)
HYBRID = dict(
    e=4480, heads=40, groups=8, width=128, f=15680, v=131072, gated=False, rotates=False,
    pattern="M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-", scans=dict(h=128, p=80, g=8, n=128, k=4),
)
MODELS = {"qwen3-8b": DENSE, "nano2-9b": HYBRID}


def linear(i, o):
    return nn.Linear(i, o, bias=False)


class Norm(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))

    def forward(self, x):
        return functional.rms_norm(x, (x.shape[-1],), self.weight, EPS)


class Attention(nn.Module):
    """Grouped heads over a cache `[B, groups, capacity, width]`; queries and keys normalised and rotated, or neither."""

    def __init__(self, c, batch, capacity):
        super().__init__()
        self.c, size = c, [c["heads"], c["groups"], c["groups"]]
        self.sizes = [it * c["width"] for it in size]
        self.qkv, self.out = linear(c["e"], sum(self.sizes)), linear(self.sizes[0], c["e"])
        self.norms = nn.ModuleList(Norm(c["width"]) for _ in range(2)) if c["rotates"] else None
        shape = batch, c["groups"], capacity, c["width"]
        self.keys, self.values = (nn.Buffer(torch.zeros(shape)) for _ in range(2))

    def forward(self, x, turn, at, mask):
        b, s, _ = x.shape
        q, k, v = (it.view(b, s, -1, self.c["width"]).transpose(1, 2) for it in self.qkv(x).split(self.sizes, -1))
        if self.norms:
            q, k = (rotated(norm(it), *turn) for norm, it in zip(self.norms, (q, k)))
        if at is None:
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        else:
            self.keys[:, :, at], self.values[:, :, at] = k, v
            y = functional.scaled_dot_product_attention(q, self.keys, self.values, attn_mask=mask, enable_gqa=True)
        return self.out(y.transpose(1, 2).reshape(b, s, -1))


def rotated(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Mlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gated = c["gated"]
        self.up, self.down = linear(c["e"], c["f"] * (1 + self.gated)), linear(c["f"], c["e"])

    def forward(self, x):
        h = self.up(x)
        if self.gated:
            gate, up = h.chunk(2, -1)
            return self.down(functional.silu(gate) * up)
        return self.down(functional.relu(h).square())


class Mamba(nn.Module):
    """A token's step of Mamba-2, with states `[B, heads, width, state]` in f32."""

    def __init__(self, c, batch):
        super().__init__()
        self.s = s = c["scans"]
        self.inner, both = s["h"] * s["p"], s["g"] * s["n"]
        self.sizes = [self.inner, both, both]
        self.project = linear(c["e"], 2 * self.inner + 2 * both + s["h"])
        self.out = linear(self.inner, c["e"])
        self.kernel = nn.Parameter(torch.randn(sum(self.sizes), s["k"]))
        self.bias, self.weight = nn.Parameter(torch.zeros(sum(self.sizes))), nn.Parameter(torch.ones(self.inner))
        self.decay, self.skip, self.step_bias = (nn.Parameter(torch.ones(s["h"])) for _ in range(3))
        self.window = nn.Buffer(torch.zeros(batch, sum(self.sizes), s["k"]))
        self.state = nn.Buffer(torch.zeros(batch, s["h"], s["p"], s["n"]), persistent=False)

    def forward(self, x):
        s, b = self.s, x.shape[0]
        gate, row, dt = self.project(x[:, 0]).split([self.inner, sum(self.sizes), s["h"]], -1)
        self.window.copy_(torch.cat([self.window[:, :, 1:], row[..., None]], -1))
        row = functional.silu((self.window * self.kernel).sum(-1) + self.bias).float()
        x, into, outof = row.split(self.sizes, -1)
        x = x.view(b, s["h"], s["p"])
        into, outof = (it.view(b, s["g"], s["n"]).repeat_interleave(s["h"] // s["g"], 1) for it in (into, outof))
        dt = functional.softplus(dt.float() + self.step_bias)
        kept = torch.exp(-dt * torch.exp(self.decay.float()))
        state = self.state * kept[..., None, None] + (dt[..., None] * x)[..., None] * into[:, :, None]
        self.state.copy_(state)
        y = (state * outof[:, :, None]).sum(-1) + self.skip[:, None] * x
        y = y.reshape(b, -1) * functional.silu(gate.float())
        y = functional.rms_norm(y.view(b, s["g"], -1), (self.inner // s["g"],), None, EPS).view(b, -1) * self.weight
        return self.out(y.to(gate.dtype))[:, None]


class Decoder(nn.Module):
    def __init__(self, c, batch, capacity):
        super().__init__()
        self.pattern = c["pattern"]
        make = {"*": lambda: Attention(c, batch, capacity), "-": lambda: Mlp(c), "M": lambda: Mamba(c, batch)}
        self.words, self.head, self.norm = nn.Embedding(c["v"], c["e"]), linear(c["e"], c["v"]), Norm(c["e"])
        self.norms = nn.ModuleList(Norm(c["e"]) for _ in c["pattern"])
        self.layers = nn.ModuleList(make[it]() for it in c["pattern"])
        angles = torch.outer(torch.arange(capacity), 1e6 ** -(torch.arange(0, c["width"], 2) / c["width"]))
        self.cos, self.sin = nn.Buffer(angles.cos()), nn.Buffer(angles.sin())

    def forward(self, tokens, at=None, mask=None):
        x = self.words(tokens)
        turn = [it[: tokens.shape[1]] if at is None else it[at] for it in (self.cos, self.sin)]
        for kind, norm, layer in zip(self.pattern, self.norms, self.layers):
            x = x + (layer(norm(x), turn, at, mask) if kind == "*" else layer(norm(x)))
        return self.head(self.norm(x)[:, -1:]).argmax(-1)


def made_up(name, batch, capacity):
    """The model on the GPU in bf16, but states in f32."""
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = Decoder(MODELS[name], batch, capacity).eval().requires_grad_(False)
        for layer in model.layers:
            if isinstance(layer, Mamba):
                layer.state = layer.state.float()
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.02)
    return model


def seconds(work, times):
    """Median by the GPU's clock."""
    for _ in range(3):
        work()
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(times)]
    for begin, end in events:
        begin.record()
        work()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in events) / 1e3


@torch.inference_mode()
def generating(name, batch, past):
    """Tokens a second of all rows."""
    capacity = past + 1024
    model = made_up(name, batch, capacity)
    tokens = torch.randint(0, MODELS[name]["v"], (batch, 1), device="cuda")
    at = torch.tensor([past], device="cuda")
    mask = (torch.arange(capacity, device="cuda") <= at)[None, None, None]
    step = torch.compile(lambda: model(tokens, at, mask), mode="max-autotune-no-cudagraphs")
    for _ in range(3):
        step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return batch / seconds(graph.replay, 30)


@torch.inference_mode()
def reading(name, n):
    """Tokens a second of a prompt."""
    model = made_up(name, 1, n)
    tokens = torch.randint(0, MODELS[name]["v"], (1, n), device="cuda")
    return n / seconds(torch.compile(lambda: model(tokens)), 8)


def treen(program, name, batch, args):
    sizes = ["-p", str(args.prompt), "-n", "128", "-r", "3", "--past", str(args.past)]
    sizes += ["--batch", str(batch)] if batch > 1 else []
    command = [program, "bench", name, "--weights", "random:1", "--target", "cuda", "--no-check", "--json"]
    out = subprocess.run([*command, *sizes], capture_output=True, text=True, check=True).stdout
    return json.loads(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("treen", help="the treen executable")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--prompt", type=int, default=8192)
    parser.add_argument("--past", type=int, default=1024)
    args = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, PyTorch {torch.__version__}\n")
    print("| bf16, tokens/s | Treen | PyTorch | ratio |\n|---|---|---|---|", flush=True)

    def row(what, ours, theirs):
        print(f"| {what} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f}x |", flush=True)

    for name in args.models:
        for batch in args.batches:
            ours = treen(args.treen, name, batch, args)
            what = f"{name}, batch {batch} behind {args.past}"
            row(what, ours["generate_tokens_per_s"], generating(name, batch, args.past))
            torch.cuda.empty_cache()
            torch.compiler.reset()
            if batch == 1 and "scans" not in MODELS[name]:
                row(f"{name}, prompt of {args.prompt}", ours["prompt_tokens_per_s"], reading(name, args.prompt))
                torch.cuda.empty_cache()
                torch.compiler.reset()


if __name__ == "__main__":
    main()
