"""What ONNX files say of themselves, and files that are damaged, of others, or hostile."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from programs import make_program, make_proto

from labelr.errors import LabelrError
from labelr.model.engine import FORMAT, OnnxInfo, with_metadata
from labelr.model.info import ModelInfo
from labelr.model.predict import Model


@pytest.fixture(scope="session")
def info(trained: Model) -> ModelInfo:
    return trained.info


@pytest.fixture(scope="session")
def content(info: ModelInfo) -> bytes:
    return with_metadata(make_program(info), info, "fp32")


def read(content: bytes, folder: Path) -> OnnxInfo:
    path = folder / "model.onnx"
    path.write_bytes(content)
    return OnnxInfo.read(path)[0]


def with_value(program: bytes, value: object) -> bytes:
    """A program with another value of its property."""
    proto = onnx.ModelProto.FromString(program)
    proto.metadata_props.add(key="labelr", value=json.dumps(value))
    return bytes(proto.SerializeToString())


def own_value(content: bytes) -> dict[str, Any]:
    (entry,) = onnx.ModelProto.FromString(content).metadata_props
    value: dict[str, Any] = json.loads(entry.value)
    return value


def test_a_file_says_which_model_it_is(content: bytes, info: ModelInfo, tmp_path: Path) -> None:
    found = read(content, tmp_path)
    assert found.precision == "fp32"
    assert found.model.labels == info.labels
    assert found.model.thresholds == info.thresholds
    assert found.model.preprocessing == info.preprocessing
    assert found.model.digest == info.digest


def test_a_file_is_valid_for_the_package_onnx(content: bytes) -> None:
    onnx.checker.check_model(onnx.ModelProto.FromString(content), full_check=True)


def test_a_file_names_no_folders_of_its_machine(content: bytes, info: ModelInfo, tmp_path: Path) -> None:
    assert info.data
    assert info.config
    assert read(content, tmp_path).model == replace(info, data=(), config={})


@pytest.mark.parametrize("position", [0, 7, 60, 200])
def test_a_changed_byte_is_found(content: bytes, tmp_path: Path, position: int) -> None:
    changed = bytearray(content)
    changed[position] ^= 1
    with pytest.raises(LabelrError, match="is damaged"):
        read(bytes(changed), tmp_path)


def test_mutations_raise_nothing_but_labelr_errors(content: bytes, info: ModelInfo, tmp_path: Path) -> None:
    rng, end = np.random.default_rng(0), len(make_program(info))
    for _ in range(500):
        changed = bytearray(content)
        for position in rng.integers(0, end, rng.integers(1, 4)):
            changed[position] = rng.integers(256)
        if rng.random() < 0.3:
            del changed[rng.integers(len(changed)) :]
        if bytes(changed) != content:
            with pytest.raises(LabelrError):
                read(bytes(changed), tmp_path)


@pytest.mark.parametrize("content", [b"", b"no program", b"\x3a\xff\xff\xff\xff\x0f", b"\xff" * 100, b"\x0b\x0c"])
def test_what_is_no_onnx_file_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(LabelrError, match="is damaged"):
        read(content, tmp_path)


def test_a_file_of_another_program_is_refused(info: ModelInfo, tmp_path: Path) -> None:
    with pytest.raises(LabelrError, match="was not written by `labelr export`"):
        read(make_program(info), tmp_path)


def test_a_file_with_two_properties_is_refused(content: bytes, tmp_path: Path) -> None:
    proto = onnx.ModelProto.FromString(content)
    proto.metadata_props.extend(list(proto.metadata_props))
    with pytest.raises(LabelrError, match="was not written by `labelr export`"):
        read(proto.SerializeToString(), tmp_path)


def test_a_newer_format_is_refused(content: bytes, info: ModelInfo, tmp_path: Path) -> None:
    value = own_value(content) | {"format": FORMAT + 1}
    with pytest.raises(LabelrError, match=f"has format {FORMAT + 1}, and this labelr reads up to {FORMAT}"):
        read(with_value(make_program(info), value), tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"precision": "fp4"}, "precision"),
        ({"sha256": "0"}, "sha256"),
        ({"sha256": "0" * 64}, "its digest is not the one in its metadata"),
        ({"more": 1}, "unknown key 'more'"),
    ],
)
def test_invalid_metadata_is_refused(
    content: bytes, info: ModelInfo, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(LabelrError, match=reason):
        read(with_value(make_program(info), own_value(content) | change), tmp_path)


def test_a_threshold_too_few_is_refused(content: bytes, info: ModelInfo, tmp_path: Path) -> None:
    value = own_value(content)
    value["model"]["thresholds"].pop()
    with pytest.raises(LabelrError, match="invalid number of thresholds"):
        read(with_value(make_program(info), value), tmp_path)


def external() -> TensorProto:
    """A tensor whose values are in any file of the machine."""
    tensor = TensorProto(name="t", dims=[4], data_type=TensorProto.UINT8, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../../../../../etc/passwd")
    return tensor


def in_initializer(proto: Any) -> None:
    proto.graph.initializer.append(external())


def in_constant(proto: Any) -> None:
    proto.graph.node.append(helper.make_node("Constant", [], ["c"], value=external()))


def in_branch(proto: Any) -> None:
    branch = helper.make_graph([], "branch", [], [], [external()])
    proto.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=branch, else_branch=branch))


def in_function(proto: Any) -> None:
    node = helper.make_node("Constant", [], ["c"], value=external())
    proto.functions.append(helper.make_function("own", "f", [], ["c"], [node], []))


def in_sparse(proto: Any) -> None:
    proto.graph.sparse_initializer.add().values.CopyFrom(external())


def in_training(proto: Any) -> None:
    proto.training_info.add().initialization.initializer.append(external())


def without_location(proto: Any) -> None:
    proto.graph.initializer.append(TensorProto(name="t", data_location=TensorProto.EXTERNAL))


@pytest.mark.parametrize(
    "add", [in_initializer, in_constant, in_branch, in_function, in_sparse, in_training, without_location]
)
def test_weights_in_other_files_are_refused(info: ModelInfo, tmp_path: Path, add: Any) -> None:
    proto = make_proto(info)
    add(proto)
    with pytest.raises(LabelrError, match="its weights are in other files, which labelr does not read"):
        read(with_metadata(proto.SerializeToString(), info, "fp32"), tmp_path)


@pytest.mark.slow
def test_very_many_fields_are_refused(info: ModelInfo, tmp_path: Path) -> None:
    with pytest.raises(LabelrError, match="more than 1,000,000 fields"):
        read(with_metadata(b"\x08\x01" * 1_000_001, info, "fp32"), tmp_path)
