"""What travels between the grader and a student's process: everything that checks use, whole; nonsense is refused."""

import json
import struct

import numpy as np
import pytest
import torch
from torch import nn

from rnncourse.exercises.checking import difference
from rnncourse.grading import wire
from rnncourse.recurrence import VanillaRNN


def there_and_back(value, handle=None):
    data = wire.pack(value, handle)
    text, blob = struct.unpack(">QQ", data[:16])
    assert len(data) == 16 + text + blob
    return wire.unpack(data[16 : 16 + text], data[16 + text :], lambda node: node)


VALUES = [
    None,
    True,
    0,
    -7,
    2**80,
    1.5,
    float("inf"),
    "für",
    ...,
    1 + 2j,
    [1, [2]],
    (1, (2,)),
    {"a": 1, 2: (3,)},
    [],
    {},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_plain_values_travel(value):
    assert there_and_back(value) == value and type(there_and_back(value)) is type(value)


@pytest.mark.parametrize("dtype", wire.DTYPES.values(), ids=str)
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3, 4)])
def test_tensors_travel(dtype, shape):
    tensor = (10 * torch.rand(shape)).to(dtype)
    back = there_and_back(tensor)
    assert back.dtype == dtype and back.shape == tensor.shape and torch.equal(back, tensor)


def test_views_gradients_arrays_and_generators_travel():
    matrix = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(there_and_back(matrix.T), matrix.T)
    assert there_and_back(matrix.clone().requires_grad_()).requires_grad
    assert torch.isnan(there_and_back(torch.tensor(float("nan"))))
    array = np.arange(6).reshape(2, 3)[:, ::2]
    assert (there_and_back(array) == array).all() and there_and_back(array).dtype == array.dtype
    assert there_and_back(np.int64(3)) == 3 and there_and_back(np.bool_(True)) == np.True_
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(torch.rand(3, generator=there_and_back(generator)), torch.rand(3, generator=generator))


@pytest.mark.parametrize("seeds", [None, [0, 1]])
def test_models_travel(seeds):
    model = VanillaRNN(3, 4, 2, "relu", seeds=seeds, dtype=torch.float64).eval()
    x = torch.randn(5, 6, 3, dtype=torch.float64)
    back = there_and_back(model)
    assert not difference(back(x)[0], model(x)[0], 0.0) and not back.training and back.nonlinearity == "relu"


def test_other_objects_stay_behind_their_handles():
    assert there_and_back([nn.Linear(1, 1)], lambda thing: {"handle": 3})[0] == {"handle": 3}
    with pytest.raises(TypeError, match="Linear"):
        wire.pack(nn.Linear(1, 1))


deep, own = [], []
for _ in range(100_000):
    deep = [deep]
own.append(own)


@pytest.mark.parametrize("value", [deep, own, torch.zeros(9_000_000, dtype=torch.float64), "x" * (5 << 20)], ids=len)
def test_what_is_too_much_is_not_sent(value):
    with pytest.raises(wire.Nonsense):
        wire.pack(value)


NONSENSE = [
    {"tensor": ["float64", [2], 0]},
    {"tensor": ["float64", [-1], 0], "requires_grad": False},
    {"tensor": ["float64", [10**9, 10**9], 0], "requires_grad": False},
    {"tensor": ["float64", [1], -8], "requires_grad": False},
    {"tensor": ["float64", [True], 0], "requires_grad": False},
    {"tensor": ["object", [1], 0], "requires_grad": False},
    {"tensor": 3},
    {"array": ["bfloat16", [1], 0]},
    {"dict": [[[1], 2]]},
    {"dict": 7},
    {"int": "zz"},
    {"complex": ["a"]},
    {"generator": ["uint8", [3], 0]},
    {"model": [10**9, 1, 1], "options": ["tanh", "bptt", None, True], "weights": []},
    {"model": [1, 1, 1], "options": ["os.system", "bptt", None, True], "weights": [["float64", [1], 0]] * 5},
    {"model": [1, 1, 1], "options": ["tanh", "bptt", list(range(99)), True], "weights": [["float64", [1], 0]] * 5},
]


@pytest.mark.parametrize("node", NONSENSE, ids=str)
def test_nonsense_is_refused(node):
    with pytest.raises(wire.Nonsense):
        wire.unpack(json.dumps(node), b"x" * 24)


@pytest.mark.parametrize("text", [b"", b"\xff", b"{", b"[" * 10**6, b"1" * 10**5], ids=len)
def test_what_is_no_json_is_refused(text):
    with pytest.raises(wire.Nonsense):
        wire.unpack(text, b"")


def test_booleans_are_only_true_or_false():
    tensor = wire.unpack(json.dumps({"tensor": ["bool", [3], 0], "requires_grad": False}), b"\x00\x01\x07")
    assert tensor.tolist() == [False, True, True] and int(tensor.sum()) == 2


def test_a_tensor_that_begins_behind_the_bytes_is_refused():
    with pytest.raises(wire.Nonsense):
        wire.unpack('{"tensor": ["float64", [1], 24], "requires_grad": false}', b"x" * 24)
