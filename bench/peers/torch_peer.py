"""PyTorch eager, 2 threads: every usual way of writing each task, and by hand where that is faster. Speaks the protocol of serve.mjs."""
import json
import os
import statistics
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

torch.set_num_threads(2)
FOLDER = sys.argv[1]
T, K, ROTATED = 2.0, 64, 160e6
ALPHA, BETA = 0.1, 0.5


def load(rows, cols):
    def read(name, dtype, width):
        return torch.from_numpy(np.fromfile(os.path.join(FOLDER, f"{rows}x{cols}.{name}"), dtype=dtype).reshape(rows, width))

    k = min(K, cols)
    sets = max(1, min(200, int(np.ceil(ROTATED / (8 * rows * cols)))))
    student, teacher = read("student.f32", np.float32, cols), read("teacher.f32", np.float32, cols)
    ids = read("ids.i32", np.int32, k).long()
    return {
        "rows": rows,
        "sets": [(student.clone().requires_grad_(True), teacher.clone()) for _ in range(sets)],
        "ids": ids,
        "labels": ids[:, 0].clone(),
        "probs": read("probs.f32", np.float32, k),
        "k": k,
    }


def q_of(z):
    return F.softmax(z / T, -1)


def lq_of(z):
    return F.log_softmax(z / T, -1)


def summed(row, rows):
    return row.sum() * (T * T / rows)


def forward_by_hand(z, t):
    n = z.shape[0]
    lp, lq = lq_of(t), lq_of(z)
    d = lp - lq
    p = lp.exp_()
    return torch.dot(d.view(-1), p.view(-1)) * (T * T / n), lq.exp_().sub_(p).mul_(T / n)


def forward_by_hand_softmax(z, t):
    n = z.shape[0]
    p, q = q_of(t), q_of(z)
    loss = torch.dot((t - z).view(-1), p.view(-1)) / T + (torch.logsumexp(z / T, -1) - torch.logsumexp(t / T, -1)).sum()
    return loss * (T * T / n), q.sub_(p).mul_(T / n)


def sparse_by_hand(z, ids, p):
    n = z.shape[0]
    lq = lq_of(z)
    loss = (torch.xlogy(p, p) - p * lq.gather(-1, ids)).sum() * (T * T / n)
    return loss, lq.exp_().mul_(p.sum(-1, keepdim=True)).scatter_add_(-1, ids, -p).mul_(T / n)


# Each: loss of (student, teacher) with autograd.

DENSE = {
    "forward_kl": {
        "kl_div": lambda z, t, n: F.kl_div(lq_of(z), q_of(t), reduction="batchmean") * (T * T),
        "kl_div of logs": lambda z, t, n: F.kl_div(lq_of(z), lq_of(t), reduction="batchmean", log_target=True) * (T * T),
        "cross_entropy": lambda z, t, n: F.cross_entropy(z / T, q_of(t)) * (T * T),
    },
    "soft_cross_entropy": {
        "cross_entropy": lambda z, t, n: F.cross_entropy(z / T, q_of(t)) * (T * T),
        "sum": lambda z, t, n: -summed(q_of(t) * lq_of(z), n),
    },
    "reverse_kl": {
        "kl_div of logs": lambda z, t, n: F.kl_div(lq_of(t), lq_of(z), reduction="batchmean", log_target=True) * (T * T),
        "sum": lambda z, t, n: (lambda lq: summed(lq.exp() * (lq - lq_of(t)), n))(lq_of(z)),
    },
    "symmetric_kl": {
        "product": lambda z, t, n: (lambda lq, lp: 0.5 * summed((lq.exp() - lp.exp()) * (lq - lp), n))(lq_of(z), lq_of(t)),
        "softmax and logits": lambda z, t, n: 0.5 / T * summed((q_of(z) - q_of(t)) * (z - t), n),
    },
    "jensen_shannon": {
        "log of the mean": lambda z, t, n: (
            lambda lq, lp: (lambda q, p: (lambda lm: summed(p * (lp - lm) * BETA + q * (lq - lm) * (1 - BETA), n))((BETA * p + (1 - BETA) * q).log()))(lq.exp(), lp.exp())
        )(lq_of(z), lq_of(t)),
        "logaddexp": lambda z, t, n: (
            lambda lq, lp: (
                lambda lm: BETA * F.kl_div(lm, lp, reduction="batchmean", log_target=True) * (T * T)
                + (1 - BETA) * F.kl_div(lm, lq, reduction="batchmean", log_target=True) * (T * T)
            )(torch.logaddexp(lq, lp) - float(np.log(2)))
        )(lq_of(z), lq_of(t)),
        "entropies": lambda z, t, n: (lambda q, p: (lambda m: summed((p * p.log()).mul_(BETA) + (1 - BETA) * (q * q.log()) - m * m.log(), n))(BETA * p + (1 - BETA) * q))(
            q_of(z), q_of(t)
        ),
    },
    "skew_forward_kl": {
        "logs": lambda z, t, n: (lambda q, lp: (lambda p: summed(p * (lp - (ALPHA * p + (1 - ALPHA) * q).log()), n))(lp.exp()))(q_of(z), lq_of(t)),
        "kl_div": lambda z, t, n: (lambda q, p: F.kl_div((ALPHA * p + (1 - ALPHA) * q).log(), p, reduction="batchmean") * (T * T))(q_of(z), q_of(t)),
    },
    "skew_reverse_kl": {
        "logs": lambda z, t, n: (lambda lq, p: (lambda q: summed(q * (lq - (ALPHA * q + (1 - ALPHA) * p).log()), n))(lq.exp()))(lq_of(z), q_of(t)),
        "softmax": lambda z, t, n: (lambda q, p: summed(q * (q / (ALPHA * q + (1 - ALPHA) * p)).log(), n))(q_of(z), q_of(t)),
    },
    "total_variation": {
        "abs": lambda z, t, n: 0.5 * summed((q_of(z) - q_of(t)).abs(), n),
        "l1_loss": lambda z, t, n: F.l1_loss(q_of(z), q_of(t), reduction="sum") * (0.5 * T * T / n),
    },
    "squared_hellinger": {
        "affinity": lambda z, t, n: T * T - summed((q_of(z) * q_of(t)).sqrt(), n),
        "half logs": lambda z, t, n: T * T - summed((0.5 * (lq_of(z) + lq_of(t))).exp(), n),
        "roots": lambda z, t, n: 0.5 * summed((q_of(z).sqrt() - q_of(t).sqrt()).square(), n),
    },
}
BY_HAND = {"forward_kl": {"by hand": forward_by_hand, "by hand, softmax": forward_by_hand_softmax}}


def variants(task, data):
    sets, n = data["sets"], data["rows"]

    def autograd(f):
        def run(i):
            z, t = sets[i]
            z.grad = None
            f(z, t).backward()

        def check():
            run(0)
            return sets[0][0].grad.double().abs().sum().item()

        return run, check

    def plain(f, check):
        def run(i):
            with torch.no_grad():
                return f(*sets[i])

        return run, lambda: check(run(0))

    if task.startswith("dense "):
        name = task[6:]
        out = {key: autograd(lambda z, t, f=f: f(z, t, n)) for key, f in DENSE.get(name, {}).items()}
        for key, f in BY_HAND.get(name, {}).items():
            out[key] = plain(f, lambda result: result[1].double().abs().sum().item())
        return out
    if task == "sparse renormalize":
        ids, p = data["ids"], data["probs"]
        return {
            "gather": autograd(lambda z, t: (torch.xlogy(p, p) - p * lq_of(z).gather(-1, ids)).sum() * (T * T / n)),
            "by hand": plain(lambda z, t: sparse_by_hand(z, ids, p), lambda result: result[1].double().abs().sum().item()),
        }
    if task == "cross-entropy":
        return {"cross_entropy": autograd(lambda z, t: F.cross_entropy(z, data["labels"]))}
    if task == "softmax":
        return {"softmax": plain(lambda z, t: q_of(t), lambda y: y.double().square().sum().item())}
    if task == "top-k":
        return {"topk": plain(lambda z, t: torch.topk(t, data["k"]), lambda best: best[1].double().sum().item())}
    return {}


def measure(run, sets, seconds):
    run(0)
    samples = []
    end = time.perf_counter() + seconds
    i = 1
    while len(samples) < 2 or (time.perf_counter() < end and len(samples) < 5000):
        begin = time.perf_counter()
        run(i % sets)
        samples.append(1e3 * (time.perf_counter() - begin))
        i += 1
    middle = statistics.median(samples)
    return {"ms": middle, "spread": (max(samples) - min(samples)) / middle, "samples": len(samples)}


def main():
    key, data = None, None
    print("@" + json.dumps({"ready": f"PyTorch {torch.__version__.split('a')[0]} ({os.environ.get('ATEN_CPU_CAPABILITY', 'default')})"}), flush=True)
    for line in sys.stdin:
        try:
            request = json.loads(line)
            if key != (request["rows"], request["cols"]):
                key, data = (request["rows"], request["cols"]), None
                data = load(*key)
            out = {}
            for name, (run, check) in variants(request["task"], data).items():
                only = request.get("only")
                if only is not None and name not in only:
                    continue
                out[name] = measure(run, len(data["sets"]), request["seconds"])
                if only is None:
                    out[name]["check"] = check()
            for z, _ in data["sets"]:
                z.grad = None
            reply = {"variants": out}
        except Exception as error:  # One task that fails must not end the peer.
            reply = {"error": str(error).split("\n")[0]}
        print("@" + json.dumps(reply), flush=True)


main()
