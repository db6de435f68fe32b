"""The perplexity of documents, and how sure it is."""
