"""Models for other programs: ONNX files, checked before they are kept."""
