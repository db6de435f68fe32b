"""Decides which matrices of a quantized graph stay in float32."""
