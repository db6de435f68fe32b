"""The denoiser and the loop around it as ONNX graphs."""
