"""The words around the tables."""

TEXT = """## What texts cost nano (`benchmarks/perplexity.py`)

{where}

**Differences** are to the first row of the same method, over the tokens that both models can write, with the standard
error over texts. `elbo` has 16 samples a window, and draws the same masks in all rows. **Never written** are tokens
outside the output vocabulary, which was made from other manual pages and these sentences; the figures leave them out.
`int8` of nano has one activation scale a token, so `int8-batch` is the same. **fast** is the preset.

The first paragraphs of manual pages from Debian's package manpages-tr 2.0.6-2 (GPL, or the licence of what is
translated), up to 700 characters a page:

{pages}

nano knows thirteen kinds of exercises and nothing of such texts. It is further from them than a uniform choice among
its 2,023 pieces (7.6 nats a token) would be, since it is sure of what it knows. So these figures say nothing about what
a model that was trained on Turkish makes of it. What they show is the use of pairs: the error of a difference is a
small part of the error of either figure.

Sentences of the kind that nano was trained on, all that its generator can draw:

{sentences}

nano has seen all of these in training, so this is what a variant costs where the model knows the text. `elbo` and
`policy` count how unlikely it is that the model comes up with this sentence among all others, `pll` only how well each
token follows from the rest. **fast** makes one pass of each sentence: from masks alone nano is sure of other tokens
than these, so the preset commits all at once, each without the others. The likelihood under a policy tells what the
sampler would do, and this sentence it would not write.

The right answers to held-out questions, in the chat template:

{answers}

Here nano is asked what it was taught. What int8 costs cannot be told from zero, nor what **fast** costs, with a third
of the passes. An output vocabulary that was made from other texts lacks tokens of some answers: these it can never
give.

How much the estimate of `elbo` changes with the seed (**spread**: the standard deviation over {seeds} seeds, int8),
beside the errors that are told of it:

{spread_sentences}

{spread_pages}

With 16 samples, the default of `perplexity`, the figure of so few texts changes with the masks about as much as with
the texts, and both fall as there are more texts. The error told from the masks alone is too large with few samples,
since it counts the differences between strata as well; that over documents is about right, and contains it. Of {seeds}
seeds, a spread is known to within a third.
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
