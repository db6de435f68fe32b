"""The words around the tables."""

TEXT = """## What texts cost nano (`benchmarks/perplexity.py`)

{where}

**Differences** are to the first row of the same method, over the tokens that both models can write, with the standard
error over texts; the masks of `elbo` are the same in all rows, 16 samples a window. **Never written** are tokens
outside the output vocabulary, which is that of the other manual pages and of the sentences; they are left out. `int8`
of nano has one activation scale a token, so `int8-batch` is the same to the bit. **fast** is the preset.

The first paragraphs of manual pages from Debian's package manpages-tr 2.0.6-2 (GPL, or the licence of what is
translated), up to 700 characters a page:

{pages}

nano knows thirteen kinds of exercises and nothing of such texts. It is further from them than a uniform choice among
its 2,023 pieces (7.6 nats a token) would be, since it is sure of what it knows. So these figures say nothing about what
a model that was trained on Turkish makes of it. What they show is the use of pairs: the error of a difference is a small
part of the error of either figure.

Sentences of the kind that nano was trained on, all that its generator can draw:

{sentences}

That is where nano is trained, and what a variant costs there is what it really costs: see the differences of int8.
`elbo` and `policy` count how unlikely it is that the model comes up with this sentence among all others, `pll` only how
well each token follows from the rest.

How much the estimate of `elbo` changes with the seed (int8, {seeds} seeds), beside the errors that are told of it:

{spread_sentences}

{spread_pages}

With 16 samples, the default of `perplexity`, what the masks add is about as large as the error over so few documents;
it falls with the number of documents as that error does. The error told from the masks alone is too large, and that
over documents, which holds it as well, about right.
"""

TIME = """## What scoring takes (`benchmarks/perplexity.py --full`)

{where}

A text of 128 tokens at the real size, medians of {rounds} rounds. **Over its passes** is what `pll` takes over what its
own passes take, and **over plain ones** over what the same passes take without the text's tokens as targets, as the
sampler asks for them; each pass was timed beside the other. The machine was at work for others; the measurement had
real-time priority.

{rows}

The target for int8 is at most 1.2. The logits of the vocabulary never leave the graph: tests/perplexity/test_cost.py
counts what is fetched.
"""
