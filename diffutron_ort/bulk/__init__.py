"""Answer many records: files of a million lines, by length in batches, in several processes, resumable."""
