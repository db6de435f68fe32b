"""Builds the denoiser, and the sampler around it, as ONNX graphs."""
