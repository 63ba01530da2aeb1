"""Small ONNX programs, made without torch: the mean colour of an image decides."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from labelr.model.info import ModelInfo

NAMES = ("images", "probabilities")


def weights(num_labels: int) -> NDArray[np.float32]:
    return np.linspace(-0.02, 0.02, 3 * num_labels, dtype=np.float32).reshape(3, num_labels)


def make_proto(info: ModelInfo, *, size: int = 0, names: tuple[str, str] = NAMES) -> Any:
    """The program for a model's labels and image size, or another one."""
    edge, num_labels = size or info.preprocessing.image_size, len(info.labels)
    nodes = [
        helper.make_node("Cast", [names[0]], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], [names[1]]),
    ]
    constants = [
        numpy_helper.from_array(np.array([2, 3]), "axes"),
        numpy_helper.from_array(weights(num_labels), "weights"),
    ]
    takes = helper.make_tensor_value_info(names[0], TensorProto.UINT8, ["batch", 3, edge, edge])
    gives = helper.make_tensor_value_info(names[1], TensorProto.FLOAT, ["batch", num_labels])
    graph = helper.make_graph(nodes, "main", [takes], [gives], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def make_program(info: ModelInfo) -> bytes:
    return bytes(make_proto(info).SerializeToString())


def predict(info: ModelInfo, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What the program gives for pixels ``(N, S, S, 3)``."""
    logits = pixels.astype(np.float64).mean(axis=(1, 2)) @ weights(len(info.labels)).astype(np.float64)
    return np.asarray(1 / (1 + np.exp(-logits)))
