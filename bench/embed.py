"""Vectors of texts, Treen beside ONNX Runtime in turns: `embed.py TREEN FOLDER`, with all-MiniLM-L6-v2 in FOLDER.

Needs torch, transformers, onnx and onnxruntime. Texts have 128 tokens; both use two threads.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
import onnxruntime
import torch
from transformers import AutoTokenizer, BertModel

ROUNDS = 5
WORDS = "the quick brown fox jumps over the lazy dog and then it runs away from the wolf who lives near the river "


class States(torch.nn.Module):
    """The last states of a BERT."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        """Of `input_ids i64 [B, S]` the states `f32 [B, S, E]`."""
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def exported(folder, path):
    """The model as ONNX Runtime runs it."""
    model = States(BertModel.from_pretrained(folder, attn_implementation="eager").eval())
    ids = torch.randint(1000, 20000, (2, 16))
    axes = {name: {0: "b", 1: "s"} for name in ["input_ids", "attention_mask"]}
    torch.onnx.export(
        model, (ids, torch.ones_like(ids)), path, input_names=list(axes), dynamic_axes=axes, opset_version=17,
        dynamo=False,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = 2, 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def of_onnx(session, ids, batch, times):
    """Tokens a second."""
    feed = {"input_ids": ids[:batch], "attention_mask": numpy.ones_like(ids[:batch])}
    session.run(None, feed)
    start = time.perf_counter()
    for _ in range(times):
        session.run(None, feed)
    return ids[:batch].size * times / (time.perf_counter() - start)


def of_treen(*command):
    """What a command of Treen reports."""
    command = [*command, "--json", "-t", "2"]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def main():
    treen, folder = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        text = " ".join((WORDS * 8).split()[:126])
        ids = numpy.array([AutoTokenizer.from_pretrained(folder)(text)["input_ids"]] * 32, dtype=numpy.int64)
        texts = scratch / "texts"
        texts.write_text("".join(f"{text}\n" for _ in ids))
        session = exported(folder, str(scratch / "model.onnx"))
        found = {"onnx, 1 text": [], "treen, 1 text": [], "onnx, 32 texts": [], "treen, 32 texts": []}
        for _ in range(ROUNDS):
            found["onnx, 1 text"].append(of_onnx(session, ids, 1, 32))
            one = of_treen(treen, "bench", folder, "-p", "128", "-r", "32")
            found["treen, 1 text"].append(one["prompt_tokens_per_s"])
            found["onnx, 32 texts"].append(of_onnx(session, ids, 32, 1))
            found["treen, 32 texts"].append(of_treen(treen, "embed", folder, "-f", texts)["tokens_per_s"])
    for name, rates in found.items():
        print(f"{name:15} {statistics.median(rates):8.0f} tokens/s, {min(rates):.0f} to {max(rates):.0f}")


if __name__ == "__main__":
    main()
