"""The program of an ONNX file: from the pixels of images to calibrated probabilities, as `labelr tag` computes them."""

import logging
import warnings
from typing import Any

import torch
from torch import Tensor, nn

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
    level = logging.root.manager.disable
    try:
        logging.disable(logging.WARNING)  # the exporter tells of its own steps
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = torch.onnx.export(
                Pipeline(model), (images,), dynamo=True, opset_version=OPSET, external_data=False, verbose=False,
                input_names=[INPUT], output_names=[OUTPUT], dynamic_shapes=({0: torch.export.Dim("batch")},),
            )  # fmt: skip
    except Exception as error:  # the exporter raises nearly anything
        raise LabelrError(
            f"torch cannot export the network of {model.name}: {first_line(error)}", "export another model"
        ) from error
    finally:
        logging.disable(level)
    return serialize(exported.model_proto if exported is not None else None)


def serialize(program: Any) -> bytes:
    """The content of an ``onnx.ModelProto``, without what exporters note of this machine, such as paths of files."""
    program.ir_version = IR_VERSION  # what is newer in the format are those notes
    graph = program.graph
    for part in (program, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    del graph.value_info[:]
    content: bytes = program.SerializeToString(deterministic=True)
    return content
