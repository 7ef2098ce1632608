"""What travels between the grader and the process that runs a student's code: JSON and the raw bytes of tensors.

Never pickle: reading a pickle runs code, and what arrives here was sent by a stranger. Everything that is read is measured
first; nonsense raises ``Nonsense``.
"""

import json
import math
import select
import struct
import time
from operator import attrgetter

import numpy as np
import torch

LIMIT = 64 * 2**20  # bytes of one message
TEXT = 4 * 2**20  # of them JSON, which grows when read
DTYPES = {str(t).removeprefix("torch."): t for t in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}
DTYPES |= {str(t).removeprefix("torch."): t for t in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)}
DTYPES |= {str(t).removeprefix("torch."): t for t in (torch.uint16, torch.uint32, torch.uint64)}
DTYPES |= {str(t).removeprefix("torch."): t for t in (torch.bool, torch.complex64, torch.complex128)}
PLAIN = (str, bool, float, type(None))
WEIGHTS = ("W_xh.weight", "W_xh.bias", "W_hh.weight", "W_hy.weight", "W_hy.bias")


class Nonsense(Exception):
    """A message that can't be read: too large, too deep, or not what it says it is."""


def pack(value, handle=None):
    """``value`` as bytes. ``handle(object)`` gives a dict for what can't travel; without it such an object is a TypeError."""
    blob = bytearray()
    try:
        text = json.dumps(_encode(value, blob, handle)).encode()
    except (RecursionError, ValueError):  # a ValueError: it contains itself
        raise Nonsense("nested too deeply") from None
    if len(text) > TEXT or len(text) + len(blob) > LIMIT:
        raise Nonsense(f"larger than {LIMIT >> 20} MB")
    return struct.pack(">QQ", len(text), len(blob)) + text + blob


def unpack(text, blob, handle=None):
    """The value of a message. ``handle(dict)`` makes the stand-in for an object that stayed on the other side."""
    try:
        return _decode(json.loads(text), memoryview(blob), handle)
    except Nonsense:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RuntimeError) as error:
        raise Nonsense(f"unreadable: {type(error).__name__}") from None  # RecursionError is a RuntimeError


def receive(connection, deadline=math.inf):
    """The next message's (text, blob). ``EOFError`` if the other side is gone, ``TimeoutError`` at ``deadline`` (monotonic)."""
    text, size = struct.unpack(">QQ", _read(connection, 16, deadline))
    if text > TEXT or text + size > LIMIT:
        raise Nonsense(f"larger than {LIMIT >> 20} MB")
    return bytes(_read(connection, text, deadline)), _read(connection, size, deadline)


def _read(connection, size, deadline):
    data, have = bytearray(size), 0
    while have < size:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([connection], [], [], None if left == math.inf else left)[0]:
            raise TimeoutError
        count = connection.recv_into(memoryview(data)[have:])
        if not count:
            raise EOFError
        have += count
    return data


def _encode(value, blob, handle):
    def inner(v):
        return _encode(v, blob, handle)

    if isinstance(value, PLAIN) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    kind = type(value).__name__
    if isinstance(value, int) and value.bit_length() < 2**16:
        return {"int": hex(value)}
    if isinstance(value, list):
        return [inner(v) for v in value]
    if isinstance(value, tuple):
        return {"tuple": [inner(v) for v in value]}
    if isinstance(value, dict):
        return {"dict": [[inner(k), inner(v)] for k, v in value.items()]}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, torch.Tensor) and str(value.dtype).removeprefix("torch.") in DTYPES:
        return {"tensor": _raw(value, blob), "requires_grad": value.requires_grad}
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufc":
        return {"array": _raw(torch.as_tensor(np.ascontiguousarray(value).reshape(value.shape)), blob)}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, torch.Generator):
        return {"generator": _raw(value.get_state(), blob)}
    if kind == "VanillaRNN" and type(value).__module__ == "rnncourse.recurrence":
        sizes = [value.input_size, value.hidden_size, value.output_size]
        options = [value.nonlinearity, value.engine, value.seeds, value.training]
        return {"model": sizes, "options": options, "weights": [_raw(attrgetter(w)(value), blob) for w in WEIGHTS]}
    if handle is None:
        raise TypeError(f"no way to send a {kind}")
    return handle(value)


def _raw(tensor, blob):
    tensor = tensor.detach().cpu().to_dense() if tensor.layout != torch.strided else tensor.detach().cpu()
    if tensor.numel() * tensor.element_size() > LIMIT:
        raise Nonsense(f"larger than {LIMIT >> 20} MB")
    start, flat = len(blob), tensor.resolve_conj().resolve_neg().contiguous().reshape(-1)
    blob += flat.view(torch.uint8).numpy().tobytes()
    return [str(tensor.dtype).removeprefix("torch."), list(tensor.shape), start]


def _decode(node, blob, handle):
    def inner(n):
        return _decode(n, blob, handle)

    if isinstance(node, str):
        return node.encode("utf-8", "replace").decode()  # JSON can hold half a character, which can't be written
    if isinstance(node, (*PLAIN, int)):
        return node
    if isinstance(node, list):
        return [inner(n) for n in node]
    if "int" in node:
        return int(node["int"], 16)
    if "tuple" in node:
        return tuple(inner(n) for n in node["tuple"])
    if "dict" in node:
        return {inner(k): inner(v) for k, v in node["dict"]}
    if "complex" in node:
        return complex(*map(float, node["complex"]))
    if "tensor" in node:
        tensor = _tensor(node["tensor"], blob)
        return tensor.requires_grad_() if node["requires_grad"] and tensor.dtype.is_floating_point else tensor
    if "array" in node:
        return _tensor(node["array"], blob).numpy()[()]
    if "ellipsis" in node:
        return Ellipsis
    if "generator" in node:
        generator = torch.Generator()
        generator.set_state(_tensor(node["generator"], blob))
        return generator
    if "model" in node:
        return _model(node, blob)
    if handle is None:
        raise Nonsense("an object where data was expected")
    return handle(node)


def _tensor(description, blob):
    name, shape, start = description
    dtype = DTYPES[name]
    if len(shape) > 16 or not all(type(n) is int and 0 <= n <= LIMIT for n in [*shape, start]):
        raise Nonsense("a tensor of an impossible shape")
    size = math.prod(shape) * dtype.itemsize
    if start + size > len(blob):
        raise Nonsense("a tensor that is longer than its bytes")
    data = bytearray(blob[start : start + size])
    if not data:
        return torch.empty(shape, dtype=dtype)
    if dtype is torch.bool:
        return (torch.frombuffer(data, dtype=torch.uint8) != 0).reshape(shape)
    return torch.frombuffer(data, dtype=dtype).reshape(shape)


def _model(node, blob):
    from rnncourse.recurrence import VanillaRNN

    if not all(type(n) is int and 0 < n <= 4096 for n in node["model"]):
        raise Nonsense("a model of an impossible size")
    nonlinearity, engine, seeds, training = node["options"]
    weights = dict(zip(WEIGHTS, (_tensor(w, blob) for w in node["weights"]), strict=True))
    if seeds is not None and len(seeds) != len(weights["W_hh.weight"]):
        raise Nonsense("a model that is not as many as it says")
    model = VanillaRNN(*node["model"], nonlinearity, engine=engine, seeds=seeds, dtype=weights["W_hh.weight"].dtype)
    model.load_state_dict(weights)
    return model.train(bool(training))
