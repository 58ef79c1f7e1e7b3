"""Which layer a call of torch's or Keras's makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from edgeagent.accel.python_arrays import each_of, size_of, sizes_of
from edgeagent.accel.python_names import words
from edgeagent.accel.python_values import Array, Const, Layer, Symbol, Table, Value, Window, integer
from edgeagent.accel.python_values import Sequence as Written

__all__ = ["make_layer", "network_of"]

_LIBRARIES = words("torch tensorflow keras tf_keras torchvision flax")
_SAME = words(
    "ReLU LeakyReLU PReLU ELU SELU CELU GELU SiLU Mish Tanh Sigmoid Hardswish Hardsigmoid Hardtanh ReLU6 Softplus"
    " Softsign Softmax LogSoftmax Softmax2d Identity Dropout Dropout1d Dropout2d Dropout3d AlphaDropout BatchNorm1d"
    " BatchNorm2d BatchNorm3d SyncBatchNorm LayerNorm GroupNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d RMSNorm"
    " LocalResponseNorm Activation BatchNormalization LayerNormalization GroupNormalization Normalization Rescaling"
    " SpatialDropout1D SpatialDropout2D GaussianNoise RandomFlip RandomRotation Masking"
)
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1, "SimpleRNN": 1}
_GIVEN = words("ModuleList Parameter DataParallel DistributedDataParallel ModuleDict Buffer")
_RANK_MAX = 3


class _Given(msgspec.Struct):
    """A call's arguments by place or name."""

    args: Sequence[Value]
    keywords: Mapping[str, Value]

    def value(self, place: int, *names: str) -> Value:
        if 0 <= place < len(self.args):
            return self.args[place]
        return next((self.keywords[name] for name in names if name in self.keywords), None)

    def size(self, place: int, *names: str) -> int | None:
        return size_of(self.value(place, *names))

    def each(self, place: int, rank: int, default: int, *names: str) -> tuple[int, ...]:
        """A number for each of ``rank`` indices; what is not known is the default."""
        return each_of(self.value(place, *names), rank, default)

    def truth(self, name: str) -> bool:
        value = self.keywords.get(name)
        return isinstance(value, Const) and bool(value.value)


def make_layer(path: str, args: Sequence[Value], keywords: Mapping[str, Value]) -> Value:
    """``torch.nn.Linear``, ``keras.layers.Dense`` and friends; None: no layer that we know."""
    library, name = path.split(".", 1)[0], path.rsplit(".", 1)[-1]
    if library not in _LIBRARIES or not name[:1].isupper():
        return None
    given = _Given(args, keywords)
    if name in _GIVEN:
        return args[0] if args else Written(())
    if name in _SAME:
        return Layer("same")
    if name in ("Sequential", "Compose"):
        return _chain(args, keywords)
    if name in ("Input", "InputLayer"):
        return _input(given)
    maker = _torch if library in ("torch", "torchvision") else _keras
    return maker(name, given)


def _chain(args: Sequence[Value], keywords: Mapping[str, Value]) -> Layer:
    """Parts one after the other, of a list or a dictionary too."""
    given = args[0] if len(args) == 1 else keywords.get("layers")
    if isinstance(given, Table):
        return Layer("chain", parts=tuple(given.items.values()))
    if isinstance(given, Written):
        # An ordered dictionary is made of names with their parts.
        args = [
            one.items[1] if isinstance(one, Written) and len(one.items) == 2 else one for one in given.items
        ]
    # An input says what is expected, and does nothing.
    return Layer("chain", parts=tuple(one for one in args if not isinstance(one, Symbol)))


def _input(given: _Given) -> Value:
    shape = sizes_of(given.value(0, "shape", "input_shape", "batch_shape"))
    if shape is None:
        return None
    return Symbol(Array((1, *(shape[1:] if "batch_shape" in given.keywords else shape))))


def _rank_of(name: str) -> int:
    """The 2 of ``Conv2d`` and ``MaxPooling2D``."""
    digits = [int(letter) for letter in name if letter.isdigit()]
    return digits[0] if digits and 0 < digits[0] <= _RANK_MAX else 0


def _torch(name: str, given: _Given) -> Value:
    rank = _rank_of(name)
    simple: dict[str, Callable[[], Layer]] = {
        "Linear": lambda: Layer("linear", (given.size(0, "in_features"), given.size(1, "out_features"))),
        "LazyLinear": lambda: Layer("linear", (None, given.size(0, "out_features"))),
        "Flatten": lambda: Layer("flat", (1 if (at := given.size(0, "start_dim")) is None else at,)),
        "Unflatten": lambda: Layer("unknown"),
        "Embedding": lambda: Layer("embedding", (given.size(1, "embedding_dim"),)),
        "MultiheadAttention": lambda: Layer("attention", (given.size(0, "embed_dim"), 1)),
        "TransformerEncoderLayer": lambda: _encoder(given, 2, 1),
        "TransformerDecoderLayer": lambda: _encoder(given, 2, 2),
        "TransformerEncoder": lambda: _stack(given),
        "TransformerDecoder": lambda: _stack(given),
        "Upsample": lambda: Layer("up", (given.size(1, "scale_factor"),)),
        "PixelShuffle": lambda: Layer("unknown"),
    }
    if name in simple:
        return simple[name]()
    if name in _GATES:
        directions = 2 if given.truth("bidirectional") else 1
        return Layer(
            "recurrent",
            (_GATES[name], given.size(1, "hidden_size"), given.size(2, "num_layers") or 1, directions, 0, 1),
        )
    if rank and name.startswith(("Conv", "LazyConv")):
        return _torch_conv(name, rank, given)
    if rank and name.startswith("Adaptive"):
        return Layer("adaptive", given.each(0, rank, 1, "output_size"))
    if rank and name.startswith(("MaxPool", "AvgPool", "LPPool")):
        kernel = given.each(0, rank, 2, "kernel_size")
        stride = given.each(1, rank, 0, "stride")
        stride = tuple(a or b for a, b in zip(stride, kernel, strict=True))
        return Layer("pool", window=Window(kernel, stride, given.each(2, rank, 0, "padding"), (1,) * rank))
    return None


def _encoder(given: _Given, hidden_at: int, blocks: int) -> Layer:
    hidden = given.size(hidden_at, "dim_feedforward") or 2048
    return Layer("encoder", (given.size(0, "d_model"), hidden, blocks))


def _stack(given: _Given) -> Layer:
    part, count = given.value(0, "encoder_layer", "decoder_layer"), given.size(1, "num_layers")
    return Layer("chain", parts=(part,) * min(count or 1, 256))


def _torch_conv(name: str, rank: int, given: _Given) -> Layer:
    is_lazy, is_transposed = name.startswith("Lazy"), "Transpose" in name
    at = 0 if is_lazy else 1
    padding_names = given.value(at + 3, "padding")
    same = isinstance(padding_names, Const) and padding_names.value == "same"
    later = (at + 5, at + 7) if is_transposed else (at + 5, at + 4)
    window = Window(
        kernel=given.each(at + 1, rank, 1, "kernel_size"),
        stride=given.each(at + 2, rank, 1, "stride"),
        padding=None if same else given.each(at + 3, rank, 0, "padding"),
        dilation=given.each(later[1], rank, 1, "dilation"),
        groups=given.size(later[0], "groups") or 1,
        is_transposed=is_transposed,
    )
    return Layer(
        "conv",
        (None if is_lazy else given.size(0, "in_channels"), given.size(at, "out_channels")),
        window=window,
    )


def _keras(name: str, given: _Given) -> Value:
    rank = _rank_of(name)
    simple: dict[str, Callable[[], Layer]] = {
        "Dense": lambda: Layer("linear", (None, given.size(0, "units", "features"))),
        "EinsumDense": lambda: Layer("unknown"),
        "Flatten": lambda: Layer("flat", (1,)),
        "Reshape": lambda: Layer("shape", sizes_of(given.value(0, "target_shape")) or (None,)),
        "Embedding": lambda: Layer("embedding", (given.size(1, "output_dim", "features"),)),
        "MultiHeadAttention": lambda: Layer("attention", (None, 0)),
        "Add": lambda: Layer("sum"),
        "Average": lambda: Layer("sum"),
        "Multiply": lambda: Layer("sum"),
        "Concatenate": lambda: Layer("join"),
    }
    if name in simple:
        return simple[name]()
    if name in _GATES:
        is_last = 0 if given.truth("return_sequences") else 1
        return Layer("recurrent", (_GATES[name], given.size(0, "units"), 1, 1, is_last, 0))
    if rank and name.startswith("Global"):
        return Layer("global", (1 if given.truth("keepdims") else 0,))
    if rank and name.startswith("UpSampling"):
        return Layer("up", (given.each(0, rank, 2, "size")[0],), window=Window((), (), None, ()))
    if not rank:
        return None
    padding = given.keywords.get("padding")
    if name.startswith(("MaxPool", "AveragePool")):
        kernel = given.each(0, rank, 2, "pool_size")
        stride = tuple(a or b for a, b in zip(given.each(1, rank, 0, "strides"), kernel, strict=True))
        return Layer("pool", window=_keras_window(kernel, stride, padding, given, rank))
    first = 0 if name.startswith("Depthwise") else 1
    if "Conv" not in name:
        return None
    kernel = given.each(first, rank, 1, "kernel_size")
    window = _keras_window(kernel, given.each(first + 1, rank, 1, "strides"), padding, given, rank)
    filters = given.size(0, "filters") if first else None
    window = msgspec.structs.replace(window, is_transposed="Transpose" in name)
    if name.startswith(("Depthwise", "Separable")):
        depth = Layer("conv", (None, None), window=msgspec.structs.replace(window, groups=0))
        point = Layer(
            "conv", (None, filters), window=Window((1,) * rank, (1,) * rank, None, (1,) * rank, 1, True)
        )
        return Layer("chain", parts=(depth, point)) if first else depth
    return Layer("conv", (None, filters), window=window)


def _keras_window(
    kernel: tuple[int, ...], stride: tuple[int, ...], padding: Value, given: _Given, rank: int
) -> Window:
    is_same = isinstance(padding, Const) and str(padding.value).lower() == "same"
    return Window(
        kernel=kernel,
        stride=stride,
        padding=None if is_same else (0,) * rank,
        dilation=given.each(-1, rank, 1, "dilation_rate"),
        groups=integer(given.keywords.get("groups")) or 1,
        is_channels_last=True,
    )


def network_of(args: Sequence[Value], keywords: Mapping[str, Value]) -> Layer | None:
    """``keras.Model(inputs, outputs)``: all layers that the outputs were made by, once each."""
    given = args[1] if len(args) > 1 else keywords.get("outputs")
    ends = [
        one for one in (given.items if isinstance(given, Written) else (given,)) if isinstance(one, Symbol)
    ]
    if not ends:
        return None
    made = frozenset(step for one in ends for step in one.made_by)
    return Layer("fixed", ends[0].array.shape[1:], work_flops=sum(work for _, work in made))
