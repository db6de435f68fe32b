"""Graphs in ONNX Runtime: what goes in and comes out, and where it runs."""
