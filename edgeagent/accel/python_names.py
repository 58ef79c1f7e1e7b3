"""What Python's array libraries are called, which names of theirs ask for a device, and what handlers are called."""

from __future__ import annotations

__all__ = [
    "ENTRY_NAMES",
    "GPU_PROVIDERS",
    "array_library",
    "asks_for_gpu",
    "is_gpu_name",
    "is_question",
    "words",
]


def words(text: str) -> frozenset[str]:
    """A set of names, written as one reads them."""
    return frozenset(text.split())


# Libraries whose work a GPU could do: their own backends have one, or the same calls exist for one.
_LIBRARIES = words(
    "numpy cupy cupyx scipy torch torchvision torchaudio pytorch_lightning lightning tensorflow keras"
    " tf_keras jax jaxlib flax haiku optax onnxruntime transformers diffusers sentence_transformers"
    " accelerate timm ultralytics fastai mxnet paddle tinygrad mlx triton pycuda pyopencl cudf cuml"
    " cugraph numba.cuda cv2.cuda cv2.dnn dask.array xarray array_api_compat array_api_strict xgboost lightgbm"
    " tensorrt openvino tflite_runtime ai_edge_litert llama_cpp vllm ctranslate2 spacy_transformers"
    " opt_einsum arrayfire pytensor theano"
)

# Functions that the platform or a server calls.
ENTRY_NAMES = words(
    "handle handler main run predict infer inference invoke process execute call entry entrypoint"
    " lambda_handler serve function func apply forward generate classify detect transform on_request"
    " do_POST do_GET __call__"
)

GPU_PROVIDERS = words(
    "CUDAExecutionProvider TensorrtExecutionProvider ROCMExecutionProvider MIGraphXExecutionProvider"
    " DmlExecutionProvider NvTensorRTRTXExecutionProvider"
)

_GPU_PREFIXES = ("cuda", "gpu", "/gpu", "/device:gpu", "device:gpu", "mps", "xpu", "hip", "rocm", "metal")

# Everything called below these is a device's; but for the questions.
_DEVICE_ROOTS = (
    "torch.cuda.",
    "cupy.cuda.",
    "numba.cuda.",
    "pycuda.",
    "torch.mps.",
    "torch.xpu.",
    "cv2.cuda.",
)
_QUESTIONS = words(
    "is_available device_count is_initialized get_device_name get_device_properties"
    " get_device_capability get_arch_list current_device memory_allocated memory_reserved"
    " max_memory_allocated max_memory_reserved memory_summary memory_stats mem_get_info empty_cache"
    " manual_seed manual_seed_all ipc_collect getDeviceCount get_local_runtime_version"
    " getCudaEnabledDeviceCount detect is_supported_version jit reduce amp GradScaler autocast"
    " is_bf16_supported reset_peak_memory_stats grid gridsize syncthreads"
)
_DEVICE_CALLS = words(
    "mxnet.gpu pycuda.autoinit jax.devices jax.local_devices torch.device torch.set_default_device"
    " tensorflow.device paddle.set_device paddle.device.set_device torch.set_default_tensor_type"
    " keras.device torch.autocast jax.default_device jax.config.update"
    " tensorflow.config.set_visible_devices tensorflow.distribute.OneDeviceStrategy"
)


def array_library(path: str) -> str | None:
    """The library that a dotted name belongs to, if its work could be a GPU's."""
    parts = path.split(".")
    for name in (parts[0], ".".join(parts[:2])):
        if name in _LIBRARIES:
            return name
    return None


def is_gpu_name(text: str) -> bool:
    """``cuda:0``, ``GPU``, ``/device:GPU:0`` and the like."""
    return text.lower().startswith(_GPU_PREFIXES)


def is_question(path: str) -> bool:
    """Whether a call only asks whether there is a device."""
    return any(part in _QUESTIONS for part in path.split(".")[1:])


def asks_for_gpu(path: str) -> bool | None:
    """True: by its name alone; None: where an argument names a GPU; False: no."""
    if path in ("mxnet.gpu", "pycuda.autoinit"):
        return True
    if path in _DEVICE_CALLS:
        return None
    return path.startswith(_DEVICE_ROOTS) and not is_question(path)
