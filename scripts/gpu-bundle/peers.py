"""What PyTorch, and Liger-Kernel where it is installed, take for the bench's tasks on this device; the last line is JSON."""
import argparse
import json
import statistics
import sys
import time


def skip(reason):
    print(json.dumps({"status": "skipped", "reason": reason}))
    sys.exit(0)


parser = argparse.ArgumentParser()
parser.add_argument("--seconds", type=float, default=1.0)
parser.add_argument("--device", default="cuda")
options = parser.parse_args()

try:
    import torch
    import torch.nn.functional as F
except ImportError as error:
    skip("PyTorch cannot be imported: %s" % error)
if options.device == "cuda" and not torch.cuda.is_available():
    skip("PyTorch sees no CUDA device")

IS_CUDA = options.device == "cuda"
# As src/bench/losses.ts has them.
SHAPES = [(4096, cols) for cols in (1000, 32000, 50257, 128256, 151936, 262144)] if IS_CUDA else [(8, 1000)]
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
ROTATE_BYTES = 1e9 if IS_CUDA else 1e6
T = 2.0
K = 64


def wait():
    if IS_CUDA:
        torch.cuda.synchronize()


def timed(build, bytes_per_set):
    sets = [build() for _ in range(min(256, max(1, int(ROTATE_BYTES / bytes_per_set) + 1)))]
    for call in sets[:3]:
        call()
    wait()
    samples = []
    end = time.perf_counter() + options.seconds
    while len(samples) < 5 or (time.perf_counter() < end and len(samples) < 2000):
        call = sets[len(samples) % len(sets)]
        begin = time.perf_counter()
        call()
        wait()
        samples.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(samples)


def logits(rows, cols, dtype):
    return (3 * torch.randn(rows, cols, device=options.device)).to(dtype)


def with_gradient(rows, cols, dtype, loss):
    student = logits(rows, cols, dtype).requires_grad_(True)
    teacher = logits(rows, cols, dtype)

    def call():
        student.grad = None
        loss(student, teacher).backward()

    return call


def kl_div(student, teacher):
    return F.kl_div(F.log_softmax(student / T, -1), F.log_softmax(teacher / T, -1), log_target=True, reduction="batchmean") * T * T


def cross_entropy(student, teacher):
    return F.cross_entropy(student / T, F.softmax(teacher / T, -1)) * T * T


def sparse_call(rows, cols, dtype):
    student = logits(rows, cols, dtype).requires_grad_(True)
    values, indices = torch.topk(F.log_softmax(logits(rows, cols, dtype).float() / T, -1), K)
    tail = torch.log(-torch.expm1(torch.logsumexp(values, -1)))

    def call():
        student.grad = None
        q = F.log_softmax(student / T, -1).gather(-1, indices)
        q_tail = torch.log1p(-q.exp().sum(-1).clamp(max=1 - 1e-6))
        row = (values.exp() * (values - q)).sum(-1) + tail.exp() * (tail - q_tail)
        (row.mean() * T * T).backward()

    return call


peers = {"eager kl_div": kl_div, "eager cross_entropy": cross_entropy}
if IS_CUDA:
    try:
        peers["compiled kl_div"] = torch.compile(kl_div)
    except Exception as error:
        print("torch.compile: %s" % error, file=sys.stderr)
try:
    from liger_kernel.transformers import LigerKLDIVLoss

    liger = LigerKLDIVLoss(reduction="batchmean", log_target=True)
    peers["Liger kl_div"] = lambda student, teacher: liger(F.log_softmax(student / T, -1), F.log_softmax(teacher / T, -1)) * T * T
except ImportError:
    pass

timings = []


def record(op, peer, rows, cols, dtype, bytes_moved, build):
    line = {"op": op, "peer": peer, "rows": rows, "cols": cols, "dtype": dtype}
    try:
        ms = timed(build, bytes_moved)
    except Exception as error:
        timings.append({**line, "error": str(error)[:500]})
        return
    finally:
        if IS_CUDA:
            torch.cuda.empty_cache()
    timings.append({**line, "median": ms, "gigabytesPerSecond": bytes_moved / ms / 1e6})


for rows, cols in SHAPES:
    for dtype_name, dtype in DTYPES.items():
        size, width = rows * cols, dtype.itemsize
        for name, loss in peers.items():
            record("dense KD, loss and gradient", name, rows, cols, dtype_name, 3 * width * size, lambda: with_gradient(rows, cols, dtype, loss))
        if K < cols:
            sparse_bytes = 2 * width * size + 8 * rows * K
            record("sparse KD, loss and gradient", "eager", rows, cols, dtype_name, sparse_bytes, lambda: sparse_call(rows, cols, dtype))

            def top_k():
                x = logits(rows, cols, dtype)
                return lambda: torch.topk(x, K)

            record("top k", "torch.topk", rows, cols, dtype_name, width * size, top_k)

        def softmax():
            x = logits(rows, cols, dtype)
            return lambda: torch.softmax(x / T, -1)

        record("softmax", "eager", rows, cols, dtype_name, 2 * width * size, softmax)

name = torch.cuda.get_device_name(0) if IS_CUDA else "cpu"
print(json.dumps({"status": "ran", "torch": torch.__version__, "device": name, "timings": timings}))
