"""The program of an ONNX file: from the pixels of images to calibrated probabilities, in float32 or in int8."""

import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labelr import files
from labelr.errors import LabelrError, first_line
from labelr.model.calibration import UNCALIBRATED
from labelr.model.engine import INPUT, OUTPUT
from labelr.model.network import fold_batchnorm
from labelr.model.predict import Model

OPSET, IR_VERSION = 18, 8
"""Versions of 2022, which nearly every program reads that runs ONNX files."""


class Pipeline(nn.Module):
    """All that a model computes, in float32: normalisation, the folded network, the mean of the views, calibration."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = fold_batchnorm(model.module).to("cpu", torch.float32)
        self.flip_averaging, self.calibration = model.info.preprocessing.flip_averaging, model.info.calibration
        for name in ("mean", "std"):  # not those that `normalise` caches, in place of which the exporter has others
            values = torch.tensor(getattr(model.info.preprocessing, name))
            self.register_buffer(name, 255 * values.view(1, 3, 1, 1))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:  # uint8 (N, 3, S, S) -> (N, L)
        """The calibrated probabilities of images."""
        views = (images.float() - self.mean) / self.std
        if self.flip_averaging:
            views = torch.cat([views, views.flip(3)])  # one pass, which halves the program
        probs: Tensor = self.network(views).sigmoid()
        if self.flip_averaging:
            probs = torch.unflatten(probs, 0, (2, -1)).mean(0)
        if self.calibration != UNCALIBRATED:
            probs = torch.sigmoid(torch.logit(probs) / self.calibration.temperature + self.calibration.bias)
        return probs


def build_program(model: Model) -> bytes:
    """The program of a model, which takes any number of images, as the content of a file without metadata.

    Raises:
        LabelrError: If the exporter of torch cannot translate the network.
    """
    size = model.info.preprocessing.image_size
    images = torch.zeros((3, 3, size, size), dtype=torch.uint8)  # of a batch of 1, the exporter would make a constant
    try:
        with _without_logs(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = torch.onnx.export(
                Pipeline(model), (images,), dynamo=True, opset_version=OPSET, external_data=False, verbose=False,
                input_names=[INPUT], output_names=[OUTPUT], dynamic_shapes=({0: torch.export.Dim("batch")},),
            )  # fmt: skip
    except Exception as error:  # the exporter raises nearly anything
        raise LabelrError(
            f"torch cannot export the network of {model.name}: {first_line(error)}", "export another model"
        ) from error
    return _serialize(exported.model_proto if exported is not None else None)


@contextmanager
def _without_logs() -> Iterator[None]:
    """Silences what exporters tell of their own steps, some of it to the root logger."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


def _serialize(program: Any) -> bytes:
    """The content of an ``onnx.ModelProto``, without what exporters note of this machine, such as paths of files."""
    program.ir_version = IR_VERSION  # what is newer in the format are those notes
    graph = program.graph
    for part in (program, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    del graph.value_info[:]
    content: bytes = program.SerializeToString(deterministic=True)
    return content


def quantize(program: bytes, batches: Iterable[NDArray[np.uint8]]) -> bytes:
    """A program with weights and activations in int8, a scale for each output channel.

    What follows the last layer stays in float32: of a probability of 1, calibration computes the logit, which is
    infinite, and a range that holds it has no scale. Weights have 7 bits: without VNNI, x86-64 adds two products of 8
    bits in 16, which overflow, so that the same file would score less there than where it was made.

    Args:
        program: In fp32.
        batches: Of pixels ``(B, S, S, 3)``; the ranges of activations are those that they reach.

    Raises:
        LabelrError: If ONNX Runtime cannot quantise the network, or the disk is full.
    """
    import onnx
    from onnxruntime import quantization

    inputs = ({INPUT: np.ascontiguousarray(batch.transpose(0, 3, 1, 2))} for batch in batches)
    reader = SimpleNamespace(get_next=lambda: next(inputs, None))
    with tempfile.TemporaryDirectory(prefix="labelr-") as name, files.writing(Path(name)):
        given, prepared, quantized = (Path(name) / f"{what}.onnx" for what in ("fp32", "prepared", "int8"))
        given.write_bytes(program)
        try:
            with _without_logs(), np.errstate(all="ignore"):  # it also computes scales of infinite ranges, unused
                quantization.quant_pre_process(given, prepared, skip_symbolic_shape=True)
                quantization.quantize_static(
                    prepared, quantized, reader, per_channel=True,
                    activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
                    reduce_range=True, nodes_to_exclude=_after_last_layer(onnx.load(prepared).graph),
                )  # fmt: skip
            return _serialize(onnx.load(quantized))
        except (OSError, LabelrError):
            raise
        except Exception as error:  # it raises nearly anything
            raise LabelrError(f"the network cannot be quantised: {first_line(error)}", "leave out `--int8`") from error


def _after_last_layer(graph: Any) -> list[str]:
    """The names of the nodes between the last layer, a matrix product, and the output."""
    sources = {output: node for node in graph.node for output in node.output}
    waiting, found = [graph.output[0].name], set[str]()
    while waiting:
        node = sources.get(waiting.pop())
        if node is not None and node.op_type not in ("Gemm", "MatMul") and node.name not in found:
            found.add(node.name)
            waiting += node.input
    return sorted(found)
