"""The PyTorch side of the comparison: one workload, in blocks, on request.

Usage: worker.py WORKLOAD FORM N_THREADS DEVICE PRECISION, with FORM `eager` or `compile`; of the workloads that draw `loop` or
`batch`. DEVICE is `cpu` or `cuda:N`, PRECISION `f32` or, of the latter, `tf32` or `bf16` (autocast).

Speaks lines of JSON: first what it is, then, for each line `go` on standard input, the seconds of one
block. Batches are drawn before the clock starts, so drawing costs PyTorch nothing here.

WORKLOAD `ceiling` is no workload: it says once what the device reaches in products of matrices, in each of the precisions
that FORM lists with commas between them, and in copying its memory, and ends.
"""

import json
import resource
import shutil
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

WORKLOAD, FORM, N_THREADS = sys.argv[1], sys.argv[2], int(sys.argv[3])
DEVICE, PRECISION = torch.device(sys.argv[4]), sys.argv[5]
ON_CPU = DEVICE.type == "cpu"
# On a GPU a block has as many steps as take about so long: some take 1 ms and some 100.
BLOCK_SECS, MOST_STEPS = 1.5, 500
torch.set_float32_matmul_precision("highest" if PRECISION == "f32" else "high")
torch.backends.cudnn.allow_tf32 = PRECISION != "f32"
torch.set_num_threads(N_THREADS)
torch.manual_seed(0)
RNG = np.random.default_rng(0)

# layers, width, heads, tokens, examples in a batch, steps in a block
TRANSFORMERS = {
    "fflm-base": (6, 512, 8, 512, 16, 1),
    "fflm-mid": (2, 128, 4, 512, 16, 4),
    "fflm-small": (2, 64, 4, 128, 32, 20),
    "eval-mid": (2, 128, 4, 512, 64, 4),
}


def draw(n, p_ignore, seq_len):
    """Flip-flop strings, `[n, seq_len]`: w 0, r 1, i 2, data 3 and 4."""
    n_ops, p_write = seq_len // 2, (1 - p_ignore) / 2
    u = RNG.random((n, n_ops), dtype=np.float32)
    op = np.where(u < p_write, 0, np.where(u < 2 * p_write, 1, 2))
    op[:, 0], op[:, -1] = 0, 1
    bit = RNG.integers(0, 2, (n, n_ops))
    last_write = np.maximum.accumulate(np.where(op == 0, np.arange(n_ops), 0), axis=1)
    bit = np.where(op == 1, np.take_along_axis(bit, last_write, 1), bit)
    tokens = np.empty((n, seq_len), np.int64)
    tokens[:, 0::2], tokens[:, 1::2] = op, bit + 3
    return torch.from_numpy(tokens)


def draw_one_by_one(n, p_ignore, seq_len):
    """Flip-flop strings as published generators make them: one string at a time, one instruction at a time."""
    p_write = (1 - p_ignore) / 2
    tokens = np.empty((n, seq_len), np.int64)
    for row in tokens:
        op = RNG.choice(3, seq_len // 2, p=[p_write, p_write, p_ignore])
        op[0], op[-1] = 0, 1
        bit = RNG.integers(0, 2, seq_len // 2)
        register = 0
        for i in range(seq_len // 2):
            if op[i] == 0:
                register = bit[i]
            elif op[i] == 1:
                bit[i] = register
        row[0::2], row[1::2] = op, bit + 3
    return tokens


class Bigrams:
    """Chains of 65 symbols in which five random triggers keep their output. The laws are random: only speed matters."""

    def __init__(self, n_vocab=65, n_triggers=5):
        self.n_vocab, self.n_triggers = n_vocab, n_triggers
        self.first = RNG.dirichlet(np.ones(n_vocab))
        self.next = RNG.dirichlet(np.full(n_vocab, 0.3), n_vocab)
        self.first_cdf, self.next_cdf = self.first.cumsum(), self.next.cumsum(1)

    def one_by_one(self, n, seq_len):
        """One string at a time, one call of the generator for each token."""
        tokens = np.empty((n, seq_len), np.int64)
        for row in tokens:
            triggers = RNG.choice(self.n_vocab, self.n_triggers, replace=False, p=self.first)
            output = dict(zip(triggers, RNG.integers(0, self.n_vocab, self.n_triggers)))
            row[0] = RNG.choice(self.n_vocab, p=self.first)
            for i in range(1, seq_len):
                known = output.get(row[i - 1])
                row[i] = RNG.choice(self.n_vocab, p=self.next[row[i - 1]]) if known is None else known
        return tokens

    def batch(self, n, seq_len):
        """All strings side by side, place by place."""
        # The largest of log p + Gumbel noise, without replacement.
        noise = np.log(self.first) + RNG.gumbel(size=(n, self.n_vocab))
        triggers = np.argpartition(-noise, self.n_triggers, axis=1)[:, : self.n_triggers]
        output = np.full((n, self.n_vocab), -1)
        np.put_along_axis(output, triggers, RNG.integers(0, self.n_vocab, triggers.shape), 1)
        tokens, rows = np.empty((n, seq_len), np.int64), np.arange(n)
        tokens[:, 0] = np.searchsorted(self.first_cdf, RNG.random(n)).clip(max=self.n_vocab - 1)
        for i in range(1, seq_len):
            before = tokens[:, i - 1]
            chance = (self.next_cdf[before] < RNG.random((n, 1))).sum(1).clip(max=self.n_vocab - 1)
            known = output[rows, before]
            tokens[:, i] = np.where(known < 0, chance, known)
        return tokens


def drawing(draw_block):
    def block(_n_steps):
        yield
        draw_block()

    return block


class Block(nn.Module):
    """A pre-norm block without biases in attention, as x-transformers builds it."""

    def __init__(self, d, n_heads):
        super().__init__()
        self.n_heads = n_heads
        self.ln_1, self.ln_2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.qkv(self.ln_1(x)).view(b, t, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(z.transpose(1, 2).reshape(b, t, d))
        return x + self.down(F.gelu(self.up(self.ln_2(x))))


class Decoder(nn.Module):
    def __init__(self, n_layers, d, n_heads, seq_len):
        super().__init__()
        self.embed, self.pos = nn.Embedding(5, d), nn.Embedding(seq_len, d)
        self.blocks = nn.Sequential(*[Block(d, n_heads) for _ in range(n_layers)])
        self.ln_f, self.unembed = nn.LayerNorm(d), nn.Linear(d, 5)
        self.pos_scale = d**-0.5

    def body(self, x):
        return self.blocks(self.embed(x) + self.pos.weight[: x.shape[1]] * self.pos_scale)

    def tail(self, rows):
        return self.unembed(self.ln_f(rows))


class Lstm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.embed, self.lstm = nn.Embedding(5, d), nn.LSTM(d, d, batch_first=True)
        self.unembed = nn.Linear(d, 5)

    def body(self, x):
        return self.lstm(self.embed(x))[0]

    def tail(self, rows):
        return self.unembed(rows)


class Simplified(nn.Module):
    """The two-layer model of Bietti et al. 2023, section 4.2, with its linear feed-forward."""

    def __init__(self, n_vocab=65, d=128, seq_len=256):
        super().__init__()
        self.embed = nn.Embedding(n_vocab, d).requires_grad_(False)
        self.register_buffer("pos", torch.randn(seq_len, d))
        linear = lambda: nn.Linear(d, d, bias=False)
        frozen = lambda: linear().requires_grad_(False)
        self.k1, self.v1, self.o1 = linear(), frozen(), frozen()
        self.k2, self.v2, self.o2 = linear(), frozen(), linear()
        self.ff = linear()
        self.unembed = nn.Linear(d, n_vocab, bias=False).requires_grad_(False)

    def attend(self, x, k, v, o):
        z = F.scaled_dot_product_attention(x[:, None], k(x)[:, None], v(x)[:, None], is_causal=True)
        return x + o(z[:, 0])

    def body(self, tokens):
        x = self.embed(tokens) + self.pos
        x = self.attend(x, self.k1, self.v1, self.o1)
        x = self.attend(x, self.k2, self.v2, self.o2)
        return self.unembed(x + self.ff(x))

    def tail(self, rows):
        return rows


def reads(tokens):
    """What is fed, which places are asked, and the answers there."""
    fed, asked = tokens[:, :-1].contiguous(), tokens[:, :-1] == 1
    return fed, asked, tokens[:, 1:][asked]


def autocast():
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=PRECISION == "bf16")


def train(model, optimizer, batches):
    body = torch.compile(model.body) if FORM == "compile" else model.body

    def block(n_steps):
        for fed, asked, answers in batches(n_steps):
            yield
            fed, answers = fed.to(DEVICE), answers.to(DEVICE)
            asked = asked.to(DEVICE) if asked is not None else None
            with autocast():
                rows = body(fed)
                rows = rows[asked] if asked is not None else rows.flatten(0, 1)
                loss = F.cross_entropy(model.tail(rows).float(), answers)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            loss.item()

    return block


def evaluate(model, batches):
    body = torch.compile(model.body) if FORM == "compile" else model.body

    @torch.no_grad()
    def one(fed, asked, answers):
        fed, asked, answers = fed.to(DEVICE), asked.to(DEVICE), answers.to(DEVICE)
        return int((model.tail(body(fed)[asked]).argmax(1) != answers).sum())

    def block(n_steps):
        for batch in batches(n_steps):
            yield
            one(*batch)

    return block


def fflm(size, p_ignore, seq_len):
    return lambda n_steps: [reads(draw(size, p_ignore, seq_len)) for _ in range(n_steps)]


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.1, fused=True)


def workload():
    """The model, a function that makes the generator of a block of so many steps, the steps of a block on the CPU, and
    how much of the unit of the comparison a step is."""
    if WORKLOAD in TRANSFORMERS:
        n_layers, d, n_heads, seq_len, size, n_steps = TRANSFORMERS[WORKLOAD]
        model = Decoder(n_layers, d, n_heads, seq_len).to(DEVICE)
        if WORKLOAD == "eval-mid":
            return model, evaluate(model, fflm(size, 0.98, seq_len)), n_steps, size
        return model, train(model, adamw(model), fflm(size, 0.8, seq_len)), n_steps, 1
    if WORKLOAD == "lstm":
        model = Lstm(128).to(DEVICE)
        return model, train(model, adamw(model), fflm(16, 0.8, 512)), 20, 1
    if WORKLOAD == "eval-lstm":
        model = Lstm(128).to(DEVICE)
        return model, evaluate(model, fflm(256, 0.98, 512)), 2, 256
    if WORKLOAD == "birth":
        model = Simplified().to(DEVICE)
        learned = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(learned, lr=0.2, momentum=0.9, weight_decay=1e-4)

        def batches(n_steps):
            strings = [torch.from_numpy(RNG.integers(0, 65, (512, 257))) for _ in range(n_steps)]
            return [(z[:, :-1].contiguous(), None, z[:, 1:].flatten()) for z in strings]

        return model, train(model, optimizer, batches), 1, 1
    if WORKLOAD == "draw-flipflop":
        n, f = (400, draw_one_by_one) if FORM == "loop" else (4096, draw)
        return None, drawing(lambda: f(n, 0.8, 512)), 1, n * 512
    if WORKLOAD == "draw-bigram":
        bigrams = Bigrams()
        n, f = (20, bigrams.one_by_one) if FORM == "loop" else (2048, bigrams.batch)
        return None, drawing(lambda: f(n, 257)), 1, n * 257
    raise SystemExit(f"unknown workload {WORKLOAD}")


def timed(block, n_steps):
    """Seconds of one block; the generator draws its batches before its first `yield`."""
    steps = block(n_steps)
    next(steps)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in steps:
        pass
    if not ON_CPU:
        torch.cuda.synchronize(DEVICE)
    return time.perf_counter() - wall, time.process_time() - cpu


def warmed(block, n_steps):
    """Compiles what is to be compiled; gives the steps of a block."""
    timed(block, n_steps)
    if ON_CPU:
        return n_steps
    wall, n_tried = 0.0, 2
    while wall < BLOCK_SECS / 8 and n_tried < MOST_STEPS:
        n_tried *= 2
        wall, _ = timed(block, n_tried)
    return max(1, min(MOST_STEPS, round(BLOCK_SECS / wall * n_tried)))


def median_secs(do):
    """The median of ten, after three that do not count."""
    def once():
        if ON_CPU:
            from_secs = time.perf_counter()
            do()
            return time.perf_counter() - from_secs
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        do()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    return statistics.median([once() for _ in range(13)][3:])


def driver():
    """The version of NVIDIA's driver, where there is one that tells."""
    if ON_CPU or shutil.which("nvidia-smi") is None:
        return None
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    said = subprocess.run(ask, capture_output=True, text=True, check=False).stdout.split()
    return said[0] if said else None


def ceiling(precisions):
    """What the device reaches: multiplications and additions in a second of a square product, bytes read and written in
    a second of a copy. A CPU gets small sizes: its numbers show that the path works, and nothing else."""
    n, n_bytes = (512, 1 << 24) if ON_CPU else (8192, 2 << 30)
    flops_per_sec = {}
    for precision in precisions:
        torch.set_float32_matmul_precision("highest" if precision == "f32" else "high")
        a, b = (torch.randn(n, n, device=DEVICE) for _ in range(2))
        if precision == "bf16":
            a, b = a.bfloat16(), b.bfloat16()
        c = torch.empty_like(a)
        flops_per_sec[precision] = 2 * n**3 / median_secs(lambda: torch.mm(a, b, out=c))
    source = torch.randint(0, 100, (n_bytes // 4,), dtype=torch.int32, device=DEVICE)
    target = torch.empty_like(source)
    say(
        card="CPU" if ON_CPU else torch.cuda.get_device_name(DEVICE),
        driver=driver(),
        cuda=torch.version.cuda,
        version=torch.__version__,
        n=n,
        flops_per_sec=flops_per_sec,
        copied_bytes=n_bytes,
        bytes_per_sec=2 * n_bytes / median_secs(lambda: target.copy_(source)),
    )


def say(**what):
    print(json.dumps(what), flush=True)


if WORKLOAD == "ceiling":
    ceiling(FORM.split(","))
    sys.exit()
model, block, n_steps, n_per_step = workload()
n_steps = warmed(block, n_steps)
say(
    version=torch.__version__,
    numpy=np.__version__,
    n_params=sum(p.numel() for p in model.parameters()) if model else None,
    n_per_block=n_steps * n_per_step,
)
for line in sys.stdin:
    wall, cpu = timed(block, n_steps)
    say(wall_secs=wall, cpu_secs=cpu)
rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
say(peak_bytes=rss if ON_CPU else torch.cuda.max_memory_allocated(DEVICE))
