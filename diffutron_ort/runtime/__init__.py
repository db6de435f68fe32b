"""Run graphs in ONNX Runtime: their contract, the checks before and after, providers and threads."""
