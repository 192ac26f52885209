"""Makes the golden files: what PyTorch says about tiny models, for tests/golden.rs to agree with.

    python3 -m venv venv && venv/bin/pip install torch numpy safetensors
    venv/bin/python crates/model/golden/make.py

Two files are one model. The first holds its spec and the optimiser's settings as metadata, first
parameters, one batch, the logits at the asked places, the loss, every gradient, and ten steps of
AdamW on that batch with a learning rate that warms up and decays. With a penalty on attention, `sharpen`
says which, and it is part of the losses and gradients. The second, called *_sgd, holds
what ten steps of SGD make of the same beginning.

The models are written with PyTorch's own operations (scaled_dot_product_attention, layer_norm,
gelu, nn.LSTM, optim.AdamW, optim.SGD), not with a transcription of ours. Everything is computed in double
precision from parameters that single precision holds exactly, so that what a test measures is the
rounding of the code under test alone, and then stored in single precision.

Weights are stored [d_in, d_out], our convention; nn.LSTM's are transposed on the way.
"""

import json
import math
import pathlib
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

N_STEPS = 10
WARMUP_STEPS = 3
HERE = pathlib.Path(__file__).parent


def transformer_spec(**changes):
    spec = {
        "name": "transformer",
        "n_layers": 2,
        "d_model": 12,
        "n_heads": 3,
        "d_mlp": 20,
        "n_ctx": 11,
        "d_vocab": 7,
        "positions": "learned",
        "pos_scale": "rsqrt_d_model",
        "tie_unembed": False,
        "attn_bias": False,
        "unembed_bias": True,
        "gelu": "erf",
        "layer_norm_epsilon": 1e-5,
        "init": "x-transformers",
    }
    return spec | changes


def associative_spec(**changes):
    spec = {
        "name": "associative",
        "d_model": 12,
        "d_mlp": 20,
        "n_ctx": 11,
        "d_vocab": 7,
        "first_mlp": "none",
        "mlp": "linear",
        "places": "table",
        "score_scale": "rsqrt_d_model",
        "init": "published",
    }
    return spec | changes


def birth_spec(**changes):
    base = {"pos_scale": "unit", "unembed_bias": False, "init": "pytorch", "mlp": "relu", "mlp_bias": False}
    return transformer_spec(**(base | changes))


SPECS = {
    # The two published variants, tiny.
    "x_transformers": transformer_spec(),
    "gpt2": transformer_spec(
        pos_scale="unit", tie_unembed=True, attn_bias=True, unembed_bias=False, gelu="tanh", init="gpt2"
    ),
    # The other half of the switches, and a last block that is the first.
    "one_layer": transformer_spec(
        n_layers=1, n_heads=2, positions="none", tie_unembed=True, attn_bias=True, pos_scale="unit"
    ),
    "lstm": {"name": "lstm", "n_layers": 2, "d_model": 10, "d_vocab": 7},
    # The simplified model of "Birth of a Transformer", and the other half of its switches.
    "associative": associative_spec(),
    "associative_relu": associative_spec(
        d_model=6, first_mlp="linear", mlp="relu", places="sinusoidal", score_scale="unit"
    ),
    # The full model of "Birth of a Transformer" with its parallel MLP, and the same with each other norm.
    "birth_full": birth_spec(parallel_mlp=True),
    "birth_post": birth_spec(norm="post", positions="sinusoidal", mlp_bias=True, mlp_from_layer=1),
    "birth_bare": birth_spec(norm="none", mlp="linear", d_mlp=0, pos_scale="rsqrt_d_model"),
    # What Liu et al. vary: relative positions, alone or beside absolute ones, gates, the temperature.
    "rotary": transformer_spec(positions="none", relative={"rotary": {"n_rotated": 2}}),
    "t5": transformer_spec(positions="none", relative={"t5": {"n_buckets": 5, "max_distance": 8}}),
    "alibi": transformer_spec(relative="alibi"),
    "geglu": transformer_spec(mlp="geglu"),
    "swiglu": transformer_spec(mlp="swiglu", positions="sinusoidal", pos_scale="learned"),
    "temperature": transformer_spec(
        temperature=0.4, relative={"t5": {"n_buckets": 4, "max_distance": 6}}, attn_bias=True
    ),
    # Penalties on attention, the last one beside the other parts.
    "sharpen_entropy": transformer_spec(),
    "sharpen_neg_l2": transformer_spec(),
    "sharpen_neg_linf": transformer_spec(
        temperature=2.0, relative={"rotary": {"n_rotated": 4}}, mlp="geglu", gelu="tanh"
    ),
    # The simplified model with memories in two factors, normalised, and with thresholds.
    "associative_factored": associative_spec(
        factored=["k1", "k2", "out2", "mlp"], d_inner=5, normalised=["k2", "out2"], norm_length="sqrt_d_model"
    ),
    "associative_normalised": associative_spec(
        d_model=6, first_mlp="relu", mlp="relu", mlp_bias=True, normalised=["k1", "mlp"], factored=["k2"], d_inner=9
    ),
    # Values with a matrix of their own, blocks without W_V and without W_O, in the middle and at the end.
    "own_v": transformer_spec(n_layers=3, attn_bias=True, own_v=True, identity_v=[1], identity_out=[0, 2]),
    "identity": birth_spec(parallel_mlp=True, identity_v=[0, 1], identity_out=[1]),
    # The positions of proposition 4, one layer of one head.
    "linear_positions": transformer_spec(n_layers=1, n_heads=1, positions="linear", pos_scale="unit", n_ctx=6),
    # A penalty on all rows of the first layer and the asked ones of the last.
    "sharpen_asked": transformer_spec(relative={"t5": {"n_buckets": 4, "max_distance": 6}}),
}

# Measure, weight and layers of the penalties.
SHARPEN = {
    "sharpen_entropy": {"form": "entropy", "weight": 0.3, "layers": [0, 1]},
    "sharpen_neg_l2": {"form": "neg_l2", "weight": 3.0, "layers": [0]},
    "sharpen_neg_linf": {"form": "neg_linf", "weight": 1.0, "layers": [0, 1]},
    "sharpen_asked": {"form": "entropy", "weight": 0.5, "layers": [0, 1], "asked_rows": True},
}

# SGD as it is commonly used, and its other switches.
SGD = {"momentum": 0.9, "dampening": 0.0, "nesterov": False, "weight_decay": 1e-4}
SGD_OF = {
    "x_transformers": SGD,
    "gpt2": SGD | {"nesterov": True},
    "one_layer": SGD | {"dampening": 0.3},
    "lstm": SGD,
    "associative": SGD,
    "associative_relu": SGD,
    "associative_factored": SGD,
    "associative_normalised": SGD,
    "own_v": SGD,
    "identity": SGD,
    "linear_positions": SGD,
    "sharpen_asked": SGD,
    "birth_full": SGD,
    "birth_post": SGD,
    "birth_bare": SGD,
    "rotary": SGD,
    "t5": SGD,
    "alibi": SGD,
    "geglu": SGD,
    "swiglu": SGD,
    "temperature": SGD,
    "sharpen_entropy": SGD,
    "sharpen_neg_l2": SGD,
    "sharpen_neg_linf": SGD,
}


def draw(generator, *shape, scale):
    """Normal numbers that single precision holds exactly, as double-precision leaves."""
    drawn = torch.randn(*shape, generator=generator, dtype=torch.float64) * scale
    return drawn.float().double()


def sinusoids(n_pos, d):
    """Sines at even and cosines at odd places, as in the first transformer."""
    angles = torch.arange(n_pos).double()[:, None] / 10000 ** (torch.arange(0, d, 2).double() / d)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :d]


def rotated(x, n_rotated):
    """The first numbers of each head `[batch, head, pos, d_head]` as complex ones, turned."""
    n_pos, half = x.shape[2], n_rotated // 2
    speeds = 10000 ** (-torch.arange(half).double() / half)
    angles = torch.outer(torch.arange(n_pos).double(), speeds)
    turned = torch.complex(x[..., :half], x[..., half:n_rotated]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([turned.real, turned.imag, x[..., n_rotated:]], dim=-1)


def bucket(distance, n_buckets, max_distance):
    """T5's bucket of a key so many tokens back, for a causal model."""
    exact = n_buckets // 2
    if distance < exact:
        return distance
    share = math.log(distance / exact) / math.log(max_distance / exact)
    return min(exact + int(share * (n_buckets - exact)), n_buckets - 1)


def slopes(n_heads):
    """ALiBi's, by the recursion of its authors."""
    if math.log2(n_heads).is_integer():
        start = 2 ** (-(2 ** -(math.log2(n_heads) - 3)))
        return [start ** (i + 1) for i in range(n_heads)]
    below = 2 ** math.floor(math.log2(n_heads))
    return slopes(below) + slopes(2 * below)[0::2][: n_heads - below]


class Transformer:
    """A decoder as a function of named parameters."""

    def __init__(self, spec, generator):
        self.spec = spec
        d, m, v = spec["d_model"], spec["d_mlp"], spec["d_vocab"]
        self.params = {}

        def linear(name, d_in, d_out, bias):
            self.params[f"{name}.weight"] = draw(generator, d_in, d_out, scale=d_in**-0.5)
            if bias:
                self.params[f"{name}.bias"] = draw(generator, d_out, scale=0.3)

        def norm(name):
            self.params[f"{name}.gain"] = 1.0 + draw(generator, d, scale=0.2)
            self.params[f"{name}.gain"] = self.params[f"{name}.gain"].float().double()
            self.params[f"{name}.bias"] = draw(generator, d, scale=0.2)

        self.params["embed.weight"] = draw(generator, v, d, scale=0.7)
        if spec["positions"] == "learned":
            self.params["pos.weight"] = draw(generator, spec["n_ctx"], d, scale=0.9)
        if spec["pos_scale"] == "learned":
            self.params["pos_scale"] = draw(generator, 1, scale=0.7)
        self.relative = spec.get("relative", "none")
        if "t5" in self.relative:
            n_buckets = self.relative["t5"]["n_buckets"]
            self.params["relative.weight"] = draw(generator, n_buckets, spec["n_heads"], scale=0.6)
        self.norm = spec.get("norm", "pre")
        self.mlp = spec.get("mlp", "gelu")
        mlp_bias = spec.get("mlp_bias", True)
        for i in range(spec["n_layers"]):
            if self.norm != "none":
                norm(f"blocks.{i}.ln_1")
            has_v = i not in spec.get("identity_v", [])
            if has_v and not spec.get("own_v", False):
                linear(f"blocks.{i}.attn.qkv", d, 3 * d, spec["attn_bias"])
            else:
                linear(f"blocks.{i}.attn.qk", d, 2 * d, spec["attn_bias"])
                if has_v:
                    linear(f"blocks.{i}.attn.v", d, d, spec["attn_bias"])
            if i not in spec.get("identity_out", []):
                linear(f"blocks.{i}.attn.out", d, d, spec["attn_bias"])
            if i < spec.get("mlp_from_layer", 0):
                continue
            if self.norm != "none":
                norm(f"blocks.{i}.ln_2")
            if self.mlp != "linear":
                linear(f"blocks.{i}.mlp.up", d, 2 * m if self.mlp in ("geglu", "swiglu") else m, mlp_bias)
            linear(f"blocks.{i}.mlp.down", d if self.mlp == "linear" else m, d, mlp_bias)
        if self.norm == "pre":
            norm("ln_f")
        if not spec["tie_unembed"]:
            self.params["unembed.weight"] = draw(generator, d, v, scale=d**-0.5)
        if spec["unembed_bias"]:
            self.params["unembed.bias"] = draw(generator, v, scale=0.3)

    def leaves(self):
        return self.params

    def logits(self, tokens):
        spec, p = self.spec, self.params
        d, n_heads = spec["d_model"], spec["n_heads"]
        n_examples, n_pos = tokens.shape

        def linear(name, x):
            return F.linear(x, p[f"{name}.weight"].T, p.get(f"{name}.bias"))

        def norm(name, x):
            return F.layer_norm(x, (d,), p[f"{name}.gain"], p[f"{name}.bias"], spec["layer_norm_epsilon"])

        def heads(x):
            return x.view(n_examples, n_pos, n_heads, d // n_heads).transpose(1, 2)

        def bias():
            """Added to scores: -inf above the diagonal, and what distances say below, [head, query, key]."""
            distance = torch.arange(n_pos)[:, None] - torch.arange(n_pos)[None, :]
            by_distance = torch.zeros(n_heads, n_pos, dtype=torch.float64)
            if self.relative == "alibi":
                by_distance = -torch.tensor(slopes(n_heads)).double()[:, None] * torch.arange(n_pos)
            elif "t5" in self.relative:
                buckets = [bucket(n, **self.relative["t5"]) for n in range(n_pos)]
                by_distance = F.embedding(torch.tensor(buckets), p["relative.weight"]).T * (d // n_heads) ** 0.5
            return by_distance[:, distance.clamp(min=0)].masked_fill(distance < 0, -math.inf)

        def attention(i, x):
            if f"blocks.{i}.attn.qkv.weight" in p:
                parts = linear(f"blocks.{i}.attn.qkv", x).split(d, dim=-1)
            else:
                value = linear(f"blocks.{i}.attn.v", x) if f"blocks.{i}.attn.v.weight" in p else x
                parts = (*linear(f"blocks.{i}.attn.qk", x).split(d, dim=-1), value)
            q, k, v = (heads(part) for part in parts)
            if "rotary" in self.relative:
                q, k = (rotated(part, self.relative["rotary"]["n_rotated"]) for part in (q, k))
            temperature = spec.get("temperature", 1.0)
            mask = bias() / temperature
            scale = (d // n_heads) ** -0.5 / temperature
            z = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
            self.patterns.append((q @ k.mT * scale + mask).softmax(-1))
            z = z.transpose(1, 2).reshape(n_examples, n_pos, d)
            return linear(f"blocks.{i}.attn.out", z) if f"blocks.{i}.attn.out.weight" in p else z

        def mlp(i, x):
            if self.mlp == "linear":
                return linear(f"blocks.{i}.mlp.down", x)
            up = linear(f"blocks.{i}.mlp.up", x)
            gelu = lambda x: F.gelu(x, approximate="tanh" if spec["gelu"] == "tanh" else "none")
            if self.mlp in ("geglu", "swiglu"):
                value, gate = up.chunk(2, dim=-1)
                up = value * (gelu(gate) if self.mlp == "geglu" else F.silu(gate))
            else:
                up = F.relu(up) if self.mlp == "relu" else gelu(up)
            return linear(f"blocks.{i}.mlp.down", up)

        x = F.embedding(tokens, p["embed.weight"])
        factor = {"rsqrt_d_model": d**-0.5, "unit": 1.0, "learned": p.get("pos_scale")}[spec["pos_scale"]]
        self.patterns = []
        if spec["positions"] == "learned":
            x = x + p["pos.weight"][:n_pos] * factor
        if spec["positions"] == "sinusoidal":
            x = x + sinusoids(n_pos, d) * factor
        if spec["positions"] == "linear":
            line = torch.arange(n_pos).double() / spec["n_ctx"]
            # As the code under test, which rounds it to single precision.
            x = x + F.pad(line.float().double()[:, None], (d - 1, 0)) * factor
        for i in range(spec["n_layers"]):
            has_mlp = i >= spec.get("mlp_from_layer", 0)
            if self.norm == "post":
                x = norm(f"blocks.{i}.ln_1", x + attention(i, x))
                x = norm(f"blocks.{i}.ln_2", x + mlp(i, x)) if has_mlp else x
                continue
            before = lambda which, x: norm(f"blocks.{i}.{which}", x) if self.norm == "pre" else x
            h = x + attention(i, before("ln_1", x))
            # As published, the MLP of a pre-norm block reads the block's input.
            read = x if spec.get("parallel_mlp", False) else h
            x = h + mlp(i, before("ln_2", read)) if has_mlp else h
        x = norm("ln_f", x) if self.norm == "pre" else x
        weight = p["embed.weight"] if spec["tie_unembed"] else p["unembed.weight"].T
        return F.linear(x, weight, p.get("unembed.bias"))

    def penalty(self, form, layers, asked):
        """The mean of a measure over rows and heads, layer by layer, of the last pass.

        Of the last layer those rows of `[batch * pos]` that are asked, if any are named."""

        def mean(layer):
            rows = self.patterns[layer].transpose(1, 2).flatten(0, 1)
            rows = rows[asked] if asked is not None and layer == self.spec["n_layers"] - 1 else rows
            if form == "entropy":
                return -torch.special.xlogy(rows, rows.clamp(min=1e-300)).sum(-1).mean()
            return -rows.norm(2 if form == "neg_l2" else math.inf, dim=-1).mean()

        return torch.stack([mean(layer) for layer in layers]).mean()

    def named(self, tensors):
        return tensors


class Associative:
    """Two layers of one head whose queries are the stream, without norms and biases; every parameter learns."""

    def __init__(self, spec, generator):
        self.spec = spec
        d, m, v = spec["d_model"], spec["d_mlp"], spec["d_vocab"]
        self.params = {"embed.weight": draw(generator, v, d, scale=1.0)}
        if spec["places"] == "table":
            self.params["pos.weight"] = draw(generator, spec["n_ctx"], d, scale=1.0)
        for i, mlp in enumerate([spec["first_mlp"], spec["mlp"]]):
            shapes = {"attn.k": (d, d), "attn.v": (d, d), "attn.out": (d, d)}
            shapes |= {"linear": {"mlp": (d, d)}, "relu": {"mlp.up": (d, m), "mlp.down": (m, d)}, "none": {}}[mlp]
            for part, shape in shapes.items():
                if self.memory(i, part) in spec.get("factored", []):
                    inner = spec["d_inner"]
                    self.params[f"blocks.{i}.{part}.right.weight"] = draw(generator, d, inner, scale=d**-0.5)
                    self.params[f"blocks.{i}.{part}.left.weight"] = draw(generator, inner, d, scale=d**-0.5)
                    continue
                self.params[f"blocks.{i}.{part}.weight"] = draw(generator, *shape, scale=(3 * shape[0]) ** -0.5)
                if part == "mlp.up" and spec.get("mlp_bias", False):
                    self.params[f"blocks.{i}.mlp.up.bias"] = draw(generator, m, scale=0.3)
        self.params["unembed.weight"] = draw(generator, d, v, scale=d**-0.5)

    @staticmethod
    def memory(block, part):
        """The word for a memory, if the part is one."""
        words = {(0, "attn.k"): "k1", (1, "attn.k"): "k2", (1, "attn.out"): "out2", (1, "mlp"): "mlp"}
        return words.get((block, part))

    def leaves(self):
        return self.params

    def logits(self, tokens):
        spec, p = self.spec, self.params
        d, n_pos = spec["d_model"], tokens.shape[1]
        scale = d**-0.5 if spec["score_scale"] == "rsqrt_d_model" else 1.0
        if spec["places"] == "table":
            places = p["pos.weight"]
        else:
            angles = torch.arange(spec["n_ctx"]).double()[:, None] * 10_000.0 ** (-torch.arange(0, d, 2).double() / d)
            # As the code under test, which rounds them to single precision.
            places = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).float().double()
        x = F.embedding(tokens, p["embed.weight"]) + places[:n_pos]
        for i in range(2):
            def linear(part, x):
                if f"blocks.{i}.{part}.weight" in p:
                    return F.linear(x, p[f"blocks.{i}.{part}.weight"].T, p.get(f"blocks.{i}.{part}.bias"))
                read = F.linear(x, p[f"blocks.{i}.{part}.right.weight"].T)
                return F.linear(read, p[f"blocks.{i}.{part}.left.weight"].T) * d / (2 * spec["d_inner"])

            def answered(part, x):
                if self.memory(i, part) not in spec.get("normalised", []):
                    return x
                length = d**0.5 if spec.get("norm_length") == "sqrt_d_model" else 1.0
                return F.normalize(x, dim=-1) * length

            mixed = F.scaled_dot_product_attention(
                x, answered("attn.k", linear("attn.k", x)), linear("attn.v", x), is_causal=True, scale=scale
            )
            x = x + answered("attn.out", linear("attn.out", mixed))
            if f"blocks.{i}.mlp.up.weight" in p:
                x = x + answered("mlp", linear("mlp.down", F.relu(linear("mlp.up", x))))
            elif any(name.startswith(f"blocks.{i}.mlp.") for name in p):
                x = x + answered("mlp", linear("mlp", x))
        return F.linear(x, p["unembed.weight"].T)

    def named(self, tensors):
        return tensors


class Lstm:
    """torch.nn.LSTM between an embedding and a linear map."""

    # Our name for each of nn.LSTM's, and whether the tensor is transposed.
    NAMES = {"w_ih": ("weight_ih", True), "w_hh": ("weight_hh", True), "b_ih": ("bias_ih", False), "b_hh": ("bias_hh", False)}

    def __init__(self, spec, generator):
        self.spec = spec
        d, v, n_layers = spec["d_model"], spec["d_vocab"], spec["n_layers"]
        self.lstm = torch.nn.LSTM(d, d, num_layers=n_layers, batch_first=True, dtype=torch.float64)
        self.embed = draw(generator, v, d, scale=1.0)
        self.unembed = draw(generator, d, v, scale=d**-0.5)
        self.bias = draw(generator, v, scale=0.3)
        for name, param in self.lstm.named_parameters():
            param.data = draw(generator, *param.shape, scale=1.5 * d**-0.5)

    def leaves(self):
        return dict(self.lstm.named_parameters()) | {
            "embed.weight": self.embed, "unembed.weight": self.unembed, "unembed.bias": self.bias,
        }

    def logits(self, tokens):
        h, _ = self.lstm(F.embedding(tokens, self.embed))
        return F.linear(h, self.unembed.T, self.bias)

    def named(self, tensors):
        ours = {name: tensors[name] for name in ("embed.weight", "unembed.weight", "unembed.bias")}
        for layer in range(self.spec["n_layers"]):
            for our, (their, transposed) in self.NAMES.items():
                tensor = tensors[f"{their}_l{layer}"]
                ours[f"layers.{layer}.{our}"] = tensor.T if transposed else tensor
        return ours


def steps(model, leaves, answer, optimizer, learning_rates):
    """The losses before each step and after the last, and the parameters then."""
    losses = []
    for lr in learning_rates:
        optimizer.zero_grad()
        _, loss = answer()
        loss.backward()
        losses.append(loss.item())
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
    losses.append(answer()[1].item())
    assert all(math.isfinite(loss) for loss in losses)
    after = model.named({key: leaf.detach().clone() for key, leaf in leaves.items()})
    named = {f"after.{key}": value for key, value in after.items()}
    return named | {"losses": torch.tensor(losses, dtype=torch.float64)}


def save(name, out, metadata):
    metadata |= {"made_by": f"golden/make.py with torch {torch.__version__.split('+')[0]}"}
    path = HERE / f"{name}.safetensors"
    save_file({key: value.float().contiguous() for key, value in out.items()}, path, metadata)
    losses = out["losses"]
    print(f"{path.name}: {path.stat().st_size} bytes, loss {losses[0]:.4f} to {losses[-1]:.4f}")


def make(name, spec, seed):
    generator = torch.Generator().manual_seed(seed)
    model = {"transformer": Transformer, "lstm": Lstm, "associative": Associative}[spec["name"]](spec, generator)
    leaves = {key: leaf.requires_grad_() for key, leaf in model.leaves().items()}
    before = {key: leaf.detach().clone() for key, leaf in leaves.items()}

    n_examples, n_pos = 4, 9
    tokens = torch.randint(spec["d_vocab"], (n_examples, n_pos), generator=generator)
    # Uneven: an example with one query, one with all, and a query at the first and last place.
    places = [(0, 4), *((1, pos) for pos in range(n_pos)), (2, 0), (2, 8), (3, 2), (3, 3), (3, 7)]
    rows = torch.tensor([example * n_pos + pos for example, pos in places])
    targets = torch.randint(spec["d_vocab"], (len(places),), generator=generator)

    def answer():
        logits = model.logits(tokens).reshape(n_examples * n_pos, -1)[rows]
        loss = F.cross_entropy(logits, targets)
        if name in SHARPEN:
            sharpen = SHARPEN[name]
            asked = rows if sharpen.get("asked_rows") else None
            loss = loss + sharpen["weight"] * model.penalty(sharpen["form"], sharpen["layers"], asked)
        return logits, loss

    factors = [
        step / WARMUP_STEPS if step <= WARMUP_STEPS else (N_STEPS + 1 - step) / (N_STEPS + 1 - WARMUP_STEPS)
        for step in range(1, N_STEPS + 1)
    ]

    out = {"tokens": tokens, "queries": torch.tensor(places), "targets": targets}
    collect = lambda prefix, tensors: out.update({f"{prefix}.{key}": value for key, value in model.named(tensors).items()})
    collect("before", before)
    logits, loss = answer()
    loss.backward()
    out["logits"] = logits.detach()
    collect("grad", {key: leaf.grad.clone() for key, leaf in leaves.items()})

    hyper = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.1}
    learning_rates = [3e-3 * factor for factor in factors]
    adamw = torch.optim.AdamW(
        leaves.values(), lr=1.0, betas=(0.9, 0.999), eps=hyper["epsilon"], weight_decay=hyper["weight_decay"]
    )
    out |= steps(model, leaves, answer, adamw, learning_rates)
    adamw_metadata = json.dumps(hyper | {"learning_rates": learning_rates})
    sharpen = {"sharpen": json.dumps(SHARPEN[name])} if name in SHARPEN else {}
    save(name, out, {"spec": json.dumps(spec), "adamw": adamw_metadata} | sharpen)

    with torch.no_grad():
        for key, leaf in leaves.items():
            leaf.copy_(before[key])
    learning_rates = [0.1 * factor for factor in factors]
    sgd = torch.optim.SGD(leaves.values(), lr=1.0, **SGD_OF[name])
    out = steps(model, leaves, answer, sgd, learning_rates)
    save(f"{name}_sgd", out, {"sgd": json.dumps(SGD_OF[name] | {"learning_rates": learning_rates})})


if __name__ == "__main__":
    # Names on the command line make those alone.
    for seed, (name, spec) in enumerate(SPECS.items()):
        if name in sys.argv[1:] or len(sys.argv) == 1:
            make(name, spec, seed)
