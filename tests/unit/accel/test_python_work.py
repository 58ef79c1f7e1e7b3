"""How much work the identifier sees in Python programs: layers, networks, parts of arrays, and loops."""

from __future__ import annotations

import pytest

from edgeagent.accel.modes import Findings, decide
from edgeagent.accel.python_scan import scan_python
from edgeagent.accel.python_values import Const, join

HEAD = """
import functools
import jax
import numpy as np
import scipy.signal as sg
import torch
import torch.nn.functional as F
from tensorflow import keras
from tensorflow.keras import layers as L
from torch import nn

"""


def _scan(body: str) -> Findings:
    return scan_python((HEAD + body).encode())


# A program and what its largest part takes by hand; all the rest is at most as much again.
WORK = {
    "conv with a stride": ("nn.Conv2d(3, 64, 7, 2, 3)(torch.ones(1, 3, 224, 224))", 2 * 112**2 * 64 * 3 * 49),
    "conv that keeps": (
        "nn.Conv2d(8, 8, 3, padding='same')(torch.ones(1, 8, 99, 99))",
        2 * 99**2 * 8 * 8 * 9,
    ),
    "conv in groups": (
        "nn.Conv2d(64, 64, 3, groups=64)(torch.ones(1, 64, 34, 34))",
        32 * 64 * 34 * 34 * 4,  # bound by memory: making the input is more
    ),
    "conv transposed": (
        "nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1)(torch.ones(1, 64, 99, 99))",
        2 * 99**2 * 64 * 32 * 16,
    ),
    "conv lazily": ("nn.LazyConv1d(32, 9)(torch.ones(4, 64, 1008))", 2 * 4 * 1000 * 64 * 32 * 9),
    "linear lazily": ("nn.LazyLinear(512)(torch.ones(256, 1024))", 2 * 256 * 1024 * 512),
    "recurrent": ("nn.LSTM(512, 512, num_layers=2)(torch.ones(50, 8, 512))", 2 * 400 * 4 * 512 * 1024 * 2),
    "recurrent both ways": (
        "nn.GRU(512, 512, bidirectional=True)(torch.ones(50, 8, 512))",
        2 * 400 * 3 * 512 * 1024 * 2,
    ),
    "state of a recurrent layer": (
        "y, (h, c) = nn.LSTM(256, 1024)(torch.ones(9, 64, 256))\nnn.Linear(1024, 4096)(y)",
        2 * 9 * 64 * 4 * 1024 * 1280 + 2 * 9 * 64 * 1024 * 4096,
    ),
    "attention": (
        "x = torch.ones(2, 256, 512)\nnn.MultiheadAttention(512, 8)(x, x, x)",
        8 * 512 * 512**2 + 4 * 512 * 256 * 512,
    ),
    "encoder": (
        "e = nn.TransformerEncoder(nn.TransformerEncoderLayer(512, 8), 6)\ne(torch.ones(2, 256, 512))",
        6 * (8 * 512 * 512**2 + 4 * 512 * 256 * 512 + 4 * 512 * 512 * 2048),
    ),
    "embedding, then linear": (
        "x = nn.Embedding(100, 512)(torch.zeros(4, 128))\nnn.Linear(512, 2048)(x)",
        2 * 512 * 512 * 2048,
    ),
    "pool, then linear": (
        "x = nn.MaxPool2d(2)(torch.ones(256, 16, 8, 8))\nnn.Linear(256, 4096)(nn.Flatten()(x))",
        2 * 256 * 256 * 4096,
    ),
    "adaptive pool, flattened": (
        "x = nn.AdaptiveAvgPool2d(1)(torch.ones(256, 512, 7, 7))\nnn.Linear(512, 8192)(torch.flatten(x, 1))",
        2 * 256 * 512 * 8192,
    ),
    "upsampled": (
        "x = nn.Upsample(scale_factor=4)(torch.ones(1, 16, 32, 32))\nnn.Conv2d(16, 64, 3, padding=1)(x)",
        2 * 128**2 * 16 * 64 * 9,
    ),
    "a list of layers": (
        (
            "ls = nn.ModuleList([nn.Linear(512, 512) for _ in range(100)])\nx = torch.ones(64, 512)\n"
            "for l in ls:\n  x = torch.relu(l(x))"
        ),
        100 * 2 * 64 * 512 * 512,
    ),
    "a list that grows": (
        (
            "ls = []\nfor i in range(12):\n  ls.append(nn.Linear(512, 512))\n  ls += [nn.ReLU()]\n"
            "nn.Sequential(*ls)(torch.ones(256, 512))"
        ),
        12 * 2 * 256 * 512 * 512,
    ),
    "sizes in pairs": (
        (
            "w = [1024, 2048, 4096]\n"
            "m = nn.Sequential(*[nn.Linear(a, b) for a, b in zip(w[:-1], w[1:])])\nm(torch.ones(64, 1024))"
        ),
        2 * 64 * (1024 * 2048 + 2048 * 4096),
    ),
    "a chain that is named": (
        (
            "from collections import OrderedDict\nm = nn.Sequential(OrderedDict([('a', nn.Linear(2048, 2048))]))\n"
            "m.add_module('b', nn.Linear(2048, 2048))\nm(torch.ones(64, 2048))"
        ),
        2 * 64 * 2048 * 2048 * 2,
    ),
    "keras, one after the other": (
        (
            "m = keras.Sequential([keras.Input((32, 32, 3)), L.Conv2D(64, 3, padding='same', strides=2),"
            " L.MaxPooling2D(), L.Flatten(), L.Dense(4096)])\nm.predict(np.zeros((64, 32, 32, 3)))"
        ),
        64 * (2 * 256 * 3 * 64 * 9 + 2 * 4096 * 4096),
    ),
    "keras, layers added": (
        (
            "m = keras.models.Sequential()\nm.add(L.Dense(4096, input_shape=(4096,)))\nm.add(L.Dense(4096))\n"
            "m.predict(np.zeros((64, 4096)))"
        ),
        2 * 2 * 64 * 4096**2,
    ),
    "keras, as a graph": (
        (
            "i = keras.Input(shape=(64, 64, 16))\na = L.Conv2D(64, 3, padding='same')(i)\n"
            "b = L.Conv2D(64, 3, padding='same')(a)\nc = L.Add()([a, b])\nd = L.Concatenate()([c, a])\n"
            "o = L.GlobalAveragePooling2D()(d)\nm = keras.Model(i, L.Dense(10)(o))\n"
            "m.predict(np.zeros((32, 64, 64, 16)))"
        ),
        32 * 2 * 64**2 * 9 * (16 * 64 + 64 * 64),
    ),
    "keras, separable": (
        "L.SeparableConv2D(256, 3, padding='same')(np.zeros((8, 64, 64, 128)))",
        2 * 8 * 64**2 * (128 * 9 + 128 * 256),
    ),
    "keras, recurrent": (
        "L.LSTM(512, return_sequences=True)(np.zeros((32, 50, 256)))",
        2 * 1600 * 4 * 512 * 768,
    ),
    "keras, up": (
        "x = L.UpSampling2D()(np.zeros((4, 64, 64, 16)))\nL.Conv2DTranspose(64, 3, padding='same')(x)",
        2 * 4 * 128**2 * 16 * 64 * 9,
    ),
    "keras, reshaped": (
        "x = L.Reshape((64, 1024))(np.zeros((8, 65536)))\nL.Dense(1024)(x)",
        2 * 512 * 1024 * 1024,
    ),
    "keras, trained": (
        "m = keras.Sequential([L.Dense(1024)])\nm.fit(x=np.zeros((256, 1024)), epochs=5)",
        15 * 2 * 256 * 1024**2,
    ),
    "functions of networks": (
        "x = F.conv2d(torch.ones(1, 16, 130, 130), torch.ones(64, 16, 3, 3), stride=2)\nF.max_pool2d(x, 2)",
        2 * 64**2 * 64 * 16 * 9,
    ),
    "interpolated": (
        (
            "x = F.interpolate(torch.ones(1, 8, 32, 32), scale_factor=4)\n"
            "F.conv2d(x, torch.ones(64, 8, 5, 5), padding=2)"
        ),
        2 * 128**2 * 64 * 8 * 25,
    ),
    "pooled to a size": (
        "x = F.adaptive_avg_pool2d(torch.ones(64, 512, 14, 14), 2)\nnn.Linear(2048, 8192)(x.flatten(1))",
        2 * 64 * 2048 * 8192,
    ),
    "attention as a function": (
        "q = torch.ones(8, 8, 1024, 64)\nF.scaled_dot_product_attention(q, q, q)",
        4 * 64 * 1024 * 1024 * 64,
    ),
    "a filter": ("sg.convolve2d(np.ones((512, 512)), np.ones((15, 15)))", 2 * 512**2 * 225),
    "a filter by transform": ("sg.fftconvolve(np.ones(1 << 20), np.ones(99999))", 15 * (1 << 20) * 20),
    "distances": ("torch.cdist(torch.ones(4096, 64), torch.ones(4096, 64))", 3 * 4096**2 * 64),
    "correlation": ("np.corrcoef(np.ones((512, 4096)))", 2 * 512**2 * 4096),
    "parts of arrays": (
        "a = np.ones((2, 2048, 4096))\nb = a[0, :, :2048]\nc = a[-1, ..., ::2]\nb @ c",
        2 * 2048 * 2048 * 2048,
    ),
    "a new index": (
        "p = np.ones((2048, 3))\n((p[None, :, :] - p[:, None, :]) ** 2).sum(axis=-1)",
        32 * 8 * 3 * 2048**2 * 3,
    ),
    "squeezed and not": (
        "a = torch.ones(1024, 512).unsqueeze(0).repeat(8, 1, 1)\n(a @ a.mT).squeeze()",
        2 * 8 * 1024 * 512 * 1024,
    ),
    "put together": (
        "a = np.ones((512, 2048))\nnp.concatenate([a, a], axis=0) @ np.stack([a[0]] * 1024, axis=1)",
        2 * 1024 * 2048 * 1024,
    ),
    "in parts": (
        (
            "q, k, v = np.ones((1024, 3072)).reshape(1024, 3072).chunk(3, dim=-1)\n"
            "a, b = np.split(q, 2, axis=1)\na @ np.ones((512, 4096))"
        ),
        2 * 1024 * 512 * 4096,
    ),
    "one by one": ("for a in torch.unbind(torch.ones(20, 512, 512)):\n  a @ a", 20 * 2 * 512**3),
    "kept and taken back": (
        (
            "kept = []\nfor i in range(3):\n  kept.append(np.ones((256, 2048)))\n"
            "for i in range(3):\n  a = kept.pop() @ np.ones((2048, 2048))"
        ),
        3 * 2 * 256 * 2048 * 2048,
    ),
    "counted down": (
        "a = np.ones((512, 512))\nn = 40\nwhile n > 0:\n  a = a @ a\n  n -= 1",
        40 * 2 * 512**3,
    ),
    "counted up": ("a = np.ones((512, 512))\nn = 0\nwhile n < 40:\n  a = a @ a\n  n += 2", 20 * 2 * 512**3),
    "numbered": (
        "a = np.ones((512, 512))\nfor i, row in enumerate(np.ones((40, 3))):\n  a @ a",
        40 * 2 * 512**3,
    ),
    "jax loops": (
        "def f(i, a):\n  return a @ a\njax.lax.fori_loop(0, 50, f, np.ones((512, 512)))",
        50 * 2 * 512**3,
    ),
    "jax scans": (
        "def f(a, x):\n  return a @ a, None\njax.lax.scan(f, np.ones((512, 512)), None, length=50)",
        50 * 2 * 512**3,
    ),
    "for each row": (
        "f = jax.vmap(lambda r: np.outer(r, r) @ r)\nf(np.ones((512, 1024)))",
        512 * 32 * 8 * 1024**2,
    ),
    "gradients": (
        "g = jax.jit(jax.grad(lambda w: np.sum(w @ w)))\ng(np.ones((512, 512)))",
        3 * 2 * 512**3,
    ),
    "part of the arguments": (
        (
            "def f(a, b):\n  return a @ b\ng = functools.partial(f, np.ones((512, 512)))\n"
            "g(np.ones((512, 4096)))"
        ),
        2 * 512**2 * 4096,
    ),
    "mapped": (
        "a = np.ones((512, 512))\nlist(map(lambda i: a @ a, range(60)))",
        60 * 2 * 512**3,
    ),
    "in another thread": (
        (
            "import asyncio\nasync def handle(e):\n  f = lambda n: np.ones((n, n)) @ np.ones((n, n))\n"
            "  return await asyncio.to_thread(f, 1024)"
        ),
        2 * 1024**3,
    ),
    "fields of a dataclass": (
        (
            "from dataclasses import dataclass\n@dataclass\nclass C:\n  rows: int\n  n: int = 4\n"
            "c = C(1024, n=2048)\nnp.ones((c.rows, c.n)) @ np.ones((c.n, c.n))"
        ),
        2 * 1024 * 2048**2,
    ),
    "rest of the arguments": (
        "def f(*sizes, **more):\n  return np.ones(sizes) @ np.ones((more['k'], 512))\nf(512, 1024, k=1024)",
        2 * 512 * 1024 * 512,
    ),
}


@pytest.mark.parametrize("name", WORK)
def test_work_by_hand(name: str) -> None:
    body, wanted = WORK[name]
    found = _scan(body)
    assert not any("sizes that are not" in one.evidence for one in found.advice), found.advice
    assert found.work_flops is not None
    assert wanted <= found.work_flops <= 2.2 * wanted, (wanted, found.work)


@pytest.mark.parametrize(
    "body",
    [
        "nn.PixelShuffle(2)(torch.ones(1, 4, 9, 9))",
        "torch.jit.load('a')(torch.ones(3))",
        "nn.Linear(3, 3)(object())",
        "keras.layers.Nonsense(3)(np.ones(3))",
        "np.ones((3, 3))[open('x'):]",
        "sg.convolve(np.ones(3), open('x'))",
        "F.interpolate(torch.ones(1, 1, 2, 2))",
        "np.concatenate(open('x'))",
        "F.conv2d(torch.ones(1, 1, 9, 9), open('x'))",
        "L.Add()(np.ones(3))",
        "nn.LSTM(3, 3)(torch.ones(3))",
        "nn.Conv2d(3, 3, 3, stride=0)(torch.ones(1, 3, 9, 9))",
        "L.Conv2D(3, 3, strides=0, padding='same')(np.ones((1, 9, 9, 3)))",
        "F.max_pool2d(torch.ones(1, 3, 9, 9), 0)",
        "np.split(np.ones((0, 3)), 2)",
        "'{\u00b2}'.format(1)",
        f"np.ones({'1' * 400})",
        f"print(f'{{0x{'f' * 5000}}}')",
    ],
)
def test_what_cannot_be_told_is_not_guessed(body: str) -> None:
    found = _scan(f"torch.zeros(1)\n{body}")
    assert decide(found).mode == "cpu_preferred"
    assert found.work_flops is None or found.work_flops < 1e6


@pytest.mark.parametrize(
    "body",
    [
        "if e:\n    a = x.to('cuda:0')\n  else:\n    a = x.to('cuda:1')",
        "if e:\n    return x.cuda()\n  return x.to('cuda')",
        "if e:\n    raise ValueError\n  else:\n    x.cuda()",
        "y = x.to('cuda:0') if e else x.to('cuda:1')",
        "match e:\n    case 1:\n      x.cuda()\n    case _:\n      x.cuda()",
        "try:\n    x.cuda()\n  except Exception as error:\n    return {'error': str(error)}",
        "if not torch.cuda.is_available():\n    import sys\n    sys.exit(1)\n  x.cuda()",
        "y = None\n  if y is None:\n    x.cuda()",
        "if 'a' in ('a', 'b'):\n    x.cuda()",
        "import cv2\n  cv2.dnn.readNet('m').setPreferableTarget(cv2.dnn.DNN_TARGET_CUDA)",
        "from openvino import Core\n  Core().compile_model('m.xml', 'GPU')",
    ],
)
def test_a_device_on_every_path(body: str) -> None:
    found = _scan(f"def handle(e):\n  x = torch.zeros(3)\n  {body}\n")
    assert found.device, found.advice


@pytest.mark.parametrize(
    "body",
    [
        "if e:\n    x.cuda()",
        "if e:\n    x.cuda()\n  else:\n    x.cpu()",
        "if e:\n    return x.cuda()\n  return x.sum()",
        "match e:\n    case 1:\n      x.cuda()\n    case 2:\n      x.cuda()",
        "try:\n    x.cuda()\n  except Exception as error:\n    return {'error': str(error), 'y': slow(x)}",
        "try:\n    x.cuda()\n  except Exception as error:\n    return slow(error)",
        "try:\n    x.cuda()\n  except Exception:\n    return None",
        "if STATE is None:\n    x.cuda()",
        "if 'c' in ('a', 'b'):\n    x.cuda()",
    ],
)
def test_a_device_on_some_paths(body: str) -> None:
    head = "STATE = None\ndef slow(x):\n  return 1\n"
    assert not _scan(f"{head}def handle(e):\n  x = torch.zeros(3)\n  {body}\n").device


def test_a_shape_that_is_only_said() -> None:
    body = "def handle(e):\n  x = np.frombuffer(e, np.float32).reshape(4096, 4096)\n  return x @ x"
    assert decide(_scan(body)).mode == "gpu_preferred"


def test_a_call_does_not_pay_for_the_start() -> None:
    start = "w = np.ones((4096, 4096))\nw = w @ w\n"
    assert decide(_scan(start)).mode == "gpu_preferred"
    assert decide(_scan(start + "def handle(e):\n  return np.zeros(3) + e\n")).mode == "cpu_preferred"


def test_numbers_beyond_all_bounds() -> None:
    found = _scan("x = [1]\n" + "x = x * 10**9\n" * 40 + "a = np.array(x)\na @ a\n")
    assert not found.whole
    assert found.capable


@pytest.mark.parametrize(
    "body",
    [
        "x = [nn.ReLU()]\n" + "x = x * 10**9\n" * 5000,
        "x = [nn.ReLU()]\n" + "x.extend(x)\n" * 5000,
        "x = [1]\n" + "x = [*x, *x]\n" * 5000,
        "m = nn.ReLU()\n" + "m = nn.Sequential(m, m)\n" * 60 + "m(np.ones(3))\n",
        "f = len\n" + "f = functools.partial(f, 1)\n" * 3000 + "f(1)\n",
        "i = keras.Input((8,))\nx = i\n" + "x = L.add([L.Dense(8)(x), x])\n" * 3000,
        "a = [[[nn.ReLU() for x in range(4000)] for y in range(4000)] for z in range(4000)]\n",
        "".join(" " * n + f"for i{n} in range(60):\n" for n in range(15)) + " " * 15 + "np.ones(3)\n",
    ],
)
def test_programs_that_grow_are_bounded(body: str) -> None:
    assert decide(_scan(body)).mode in ("cpu_preferred", "gpu_preferred")


NAMES = ", ".join(f"a{n}" for n in range(9000))
TABLE = "t = {" + ", ".join(f"'k{n}': 'v{n}'" for n in range(9000)) + "}\n"


@pytest.mark.parametrize(
    "body",
    [
        "t = '''def f():\n" + "  a = 1\n" * 20_000 + "'''\n" + "exec(t)\n" * 9,
        f"def f({NAMES}):\n  pass\n" + "f(1)\n" * 200,
        f"def f():\n  global {NAMES}\n" + "f()\n" * 400,
        f"def f(e):\n  match e:\n    case {NAMES.replace(', ', '.b | ')}.b:\n      pass\n" + "f(open)\n" * 20,
        TABLE + "print(**t)\n" * 200,
        TABLE + "t.items()\n" * 200,
        TABLE + "for k in t:\n  break\n" * 200,
        "a = np.ones(3)\n" + "a = a.unsqueeze(0)\n" * 4000,
        f"{NAMES.replace(', ', ' = ')} = 1\n" + "try:\n  pass\nexcept OSError:\n  pass\n" * 400,
    ],
)
def test_what_takes_long_is_counted(body: str) -> None:
    """One statement that looks at much at once, again and again: the scan gives up before it takes minutes."""
    assert not _scan(body).whole


def test_one_of_very_many() -> None:
    assert join(*map(Const, range(1_000_000))) is None
