"""PyTorch eager, with the threads asked for: the steps of ours.ts with torch.optim, as its documentation has them. One task a line, see ours.ts."""
import json
import os
import struct
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

FOLDER, THREADS = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(THREADS)
MLP_BATCH, GPT_HEADS = 128, 4


def load(task):
    with open(os.path.join(FOLDER, f"{task}.safetensors"), "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
        body = file.read()
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype = {"F32": np.float32, "I32": np.int32}[entry["dtype"]]
        begin, end = entry["data_offsets"]
        found[name] = torch.from_numpy(np.frombuffer(body[begin:end], dtype=dtype).reshape(entry["shape"]).copy())
    return found


def kd(z, t, labels, temperature, hard):
    soft = F.kl_div(F.log_softmax(z / temperature, -1), F.softmax(t / temperature, -1), reduction="batchmean")
    return (1 - hard) * temperature**2 * soft + hard * F.cross_entropy(z, labels)


class Mlp:
    def __init__(self):
        self.data = load("mlp")
        self.order, self.labels = self.data["order"].long(), self.data["labels"].long()

    def reset(self, foreach):
        w = {name[6:]: value.clone() for name, value in self.data.items() if name.startswith("model.")}
        hidden, classes = w["layers.0.weight"].shape[0], w["layers.2.weight"].shape[0]
        self.model = torch.nn.Sequential(torch.nn.Linear(w["layers.0.weight"].shape[1], hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, classes))
        self.model.load_state_dict({name[7:]: value for name, value in w.items()})
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, foreach=foreach)

    def run(self):
        losses = []
        for begin in range(0, len(self.order), MLP_BATCH):
            rows = self.order[begin : begin + MLP_BATCH]
            loss = kd(self.model(self.data["x"][rows]), self.data["teacher"][rows], self.labels[rows], 4.0, 0.5)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return losses


class Gpt:
    def __init__(self):
        self.data = load("gpt")
        self.ids, self.labels = self.data["ids"].long(), self.data["labels"].long()

    def reset(self, foreach):
        self.w = {name[6:]: value.clone().requires_grad_(True) for name, value in self.data.items() if name.startswith("model.")}
        self.layers = 1 + max(int(name.split(".")[1]) for name in self.w if name.startswith("blocks."))
        self.mask = torch.ones(self.ids.shape[2], self.ids.shape[2], dtype=torch.bool).triu(1)
        self.optimizer = torch.optim.AdamW(self.w.values(), lr=3e-4, weight_decay=0.01, foreach=foreach)

    def forward(self, ids):
        w, (batch, tokens) = self.w, ids.shape
        x = F.embedding(ids, w["tokens.weight"]) + w["positions.weight"]
        width = x.shape[-1]

        def norm(x, name):
            return F.layer_norm(x, (width,), w[f"{name}.weight"], w[f"{name}.bias"])

        def linear(x, name):
            return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

        for i in range(self.layers):
            at = f"blocks.{i}."
            qkv = linear(norm(x, f"{at}norm1"), f"{at}attention.qkv").view(batch, tokens, 3, GPT_HEADS, -1)
            q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
            scores = (q @ k.transpose(-1, -2)) * (q.shape[-1] ** -0.5)
            a = F.softmax(scores.masked_fill(self.mask, float("-inf")), -1) @ v
            x = x + linear(a.transpose(1, 2).reshape(batch, tokens, -1), f"{at}attention.projection")
            x = x + linear(F.gelu(linear(norm(x, f"{at}norm2"), f"{at}up")), f"{at}down")
        return F.linear(norm(x, "norm"), w["tokens.weight"])

    def run(self):
        losses = []
        for ids, labels in zip(self.ids, self.labels):
            logits = self.forward(ids)
            loss = kd(logits.view(-1, logits.shape[-1]), self.data["teacher"], labels, 2.0, 0.5)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return losses


TASKS = {"mlp": Mlp, "gpt": Gpt}


def main():
    tasks = {}
    print("@" + json.dumps({"ready": f"PyTorch {torch.__version__.split('a')[0]} ({os.environ.get('ATEN_CPU_CAPABILITY', 'default')}, {THREADS} thread{'' if THREADS == 1 else 's'})"}), flush=True)
    for line in sys.stdin:
        try:
            request = json.loads(line)
            name = request["task"]
            if name not in tasks:
                tasks[name] = TASKS[name]()
            out = {}
            for variant, foreach in (("optimiser over all tensors", True), ("optimiser tensor by tensor", False)):
                if request.get("only") is not None and variant not in request["only"]:
                    continue
                tasks[name].reset(foreach)
                cpu, begin = time.process_time(), time.perf_counter()
                losses = tasks[name].run()
                ms = 1e3 * (time.perf_counter() - begin)
                out[variant] = {"ms": ms, "cpu": 1e3 * (time.process_time() - cpu), "losses": losses}
            reply = {"variants": out}
        except Exception as error:  # One task that fails must not end the peer.
            reply = {"error": str(error).split("\n")[0]}
        print("@" + json.dumps(reply), flush=True)


main()
