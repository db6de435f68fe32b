"""The model as lm-evaluation-harness sees it, and the tasks of CETVEL and TurBLiMP; needs the extra `[eval]`."""
