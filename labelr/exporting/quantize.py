"""Static quantisation: the numbers of an ONNX program in 8 bits, in ranges that real images reach."""

import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelr import files
from labelr.errors import LabelrError, first_line
from labelr.exporting.graph import serialize
from labelr.model.engine import INPUT


class _Reader:
    """Gives the calibrator of ONNX Runtime what the program takes, a batch at a time."""

    def __init__(self, batches: Iterable[NDArray[np.uint8]]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = iter(batches)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next batch; None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: np.ascontiguousarray(batch.transpose(0, 3, 1, 2))}


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

    level = logging.root.manager.disable
    with tempfile.TemporaryDirectory(prefix="labelr-") as name, files.writing(Path(name)):
        given, prepared, quantized = (Path(name) / f"{what}.onnx" for what in ("fp32", "prepared", "int8"))
        given.write_bytes(program)
        try:
            logging.disable(logging.WARNING)  # it writes to the root logger
            quantization.quant_pre_process(given, prepared, skip_symbolic_shape=True)
            with np.errstate(all="ignore"):  # it also computes scales of infinite ranges that it does not use
                quantization.quantize_static(
                    prepared, quantized, _Reader(batches), per_channel=True,
                    activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
                    reduce_range=True, nodes_to_exclude=_after_last_layer(onnx.load(prepared).graph),
                )  # fmt: skip
            return serialize(onnx.load(quantized))
        except (OSError, LabelrError):
            raise
        except Exception as error:  # it raises nearly anything
            raise LabelrError(f"the network cannot be quantised: {first_line(error)}", "leave out `--int8`") from error
        finally:
            logging.disable(level)


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
