"""The sampler as one ONNX graph around a denoiser: `diffutron_ort.sampler.engine` for hosts without Python.

It covers one sequence, commits in order of confidence, the linear schedule, and no guidance. It generates the same
tokens as the engine: the same sums in the same order, in float64 where the engine uses float64. It is written in
onnxscript, whose functions become nodes of an ONNX graph. Arithmetic modulo 2**32 is done in int64, for which every
build of ONNX Runtime has kernels.
"""

# ruff: noqa: ARG001, F821  # placeholders ignore their arguments; axes are named by strings, as usual in onnxscript

from typing import no_type_check

import onnx
from onnxscript import BOOL, DOUBLE, FLOAT, INT64, graph, script
from onnxscript import opset23 as op
from onnxscript.values import Opset

from diffutron_ort_export.checkpoint.tokenizer import SPECIAL_IDS

PAD, EOS, MASK = SPECIAL_IDS["pad"], SPECIAL_IDS["eos"], SPECIAL_IDS["mask"]

OWN_STOPS = onnx.helper.make_tensor("own_stops", onnx.TensorProto.INT64, [2, 1], [PAD, EOS])

BITS, GOLDEN = 0xFFFFFFFF, 0x9E3779B9
FIRST, SECOND = 0x7FEB352D, 0x846CA68B - 2**32
"""The factors of `random.uniform_hash`, the second minus 2**32, so that no product leaves int64."""

PLACEHOLDERS = Opset("diffutron_ort", 1)
"""The domain of the placeholders that `splice` replaces."""


@script(PLACEHOLDERS, default_opset=op)
def denoise(input_ids, position_ids, rows, seen_ids, repetition_penalty, temperature, want_logits):
    """Run a pass; inputs and outputs are those of the denoiser with the same names."""
    nothing = op.Identity(temperature)
    return op.Identity(rows), nothing, nothing, nothing, nothing


@script(PLACEHOLDERS, default_opset=op)
def widen(logits):
    """Scatter logits [r, columns] to [r, vocab], -inf for a piece that cannot be predicted."""
    return op.Identity(logits)


@script(default_opset=op)
def plan(max_new_tokens, steps, block_length):
    """Return, for each step, its block, its number in the block, and how many tokens it commits; int64 [3, steps].

    As in `schedule.commit_counts`, a float32 ratio is multiplied in float64 and rounded half to even. Steps that would
    commit nothing are left out.
    """
    blocks = (max_new_tokens + block_length - 1) / block_length
    each = (steps + blocks - 1) / blocks
    begins = op.Range(0, blocks, 1) * block_length
    masks = op.Min(max_new_tokens - begins, block_length)  # [blocks]
    left = op.Cast(each - op.Range(0, each, 1), to=DOUBLE.dtype)  # [each], steps still to come
    total = op.Cast(each, to=DOUBLE.dtype)
    now = 1.0 - op.Cast(left / total, to=FLOAT.dtype)
    then = 1.0 - op.Cast((left - 1.0) / total, to=FLOAT.dtype)
    probability = 1.0 - op.Cast((1.0 - then) / (1.0 - now), to=DOUBLE.dtype)

    @graph()
    def commit(masks_before, share):
        expected = op.Round(op.Cast(masks_before, to=DOUBLE.dtype) * share)
        count = op.Min(op.Cast(expected, to=INT64.dtype), masks_before)
        masks_after = masks_before - count
        return masks_after, count

    _, by_step = op.Scan(masks, probability, body=commit, num_scan_inputs=1)
    counts = op.Transpose(by_step, perm=[1, 0])  # [blocks, each]
    some = counts > 0
    number = op.CumSum(op.Cast(some, to=INT64.dtype), 1) - 1
    places = op.Transpose(op.NonZero(some), perm=[1, 0])
    return op.Gather(op.NonZero(some), 0), op.GatherND(number, places), op.GatherND(counts, places)


@script(default_opset=op)
def mix(x):
    """Mix the bits of numbers below 2**32."""
    x = op.BitwiseXor(x, x / 65536) * FIRST
    x = op.BitwiseAnd(x, BITS)
    x = op.BitwiseXor(x, x / 32768) * SECOND
    x = op.BitwiseAnd(x, BITS)
    return op.BitwiseXor(x, x / 65536)


@script(default_opset=op)
def absorb(h, word):
    """Return the hash h extended by a word."""
    return op.BitwiseAnd(mix(op.BitwiseXor(h, word)) + GOLDEN, BITS)


@script(default_opset=op)
def uniform(seed, block, step, positions):
    """Draw numbers in [0, 1), double [n], for the tokens at `positions` [n], as `random.uniform` does."""
    low = op.BitwiseAnd(seed, BITS)
    high = op.BitwiseAnd((seed - low) / 4294967296, BITS)
    h = absorb(absorb(GOLDEN, low), high)
    h = absorb(absorb(absorb(h, 0), block), step)
    return op.Cast(absorb(h, positions) / 256, to=DOUBLE.dtype) / 16777216.0


@script(default_opset=op)
def end(generated, stops):
    """Find the stop sequence that is complete first.

    Args: generated int64 [g]; stops int64 [k, m], sequences padded with -1.
    Returns: its start and its end; g and a number above g if there is none.
    """
    length = op.Size(generated)
    places = op.Range(0, length, 1)
    widest = op.Shape(stops, start=1)
    windows = op.Unsqueeze(places, [1]) + op.Unsqueeze(op.Range(0, op.Squeeze(widest), 1), [0])
    read = op.Gather(op.Concat(generated, op.Expand(-2, widest), axis=0), windows)  # [g, m]
    wanted = op.Unsqueeze(stops, [1])  # [k, 1, m]
    same = op.Or(wanted == op.Unsqueeze(read, [0]), wanted == -1)  # [k, g, m]
    found = op.ReduceMin(op.Cast(same, to=INT64.dtype), [2], keepdims=0) > 0
    sizes = op.ReduceSum(op.Cast(stops >= 0, to=INT64.dtype), [1])  # [k, 1]
    never = length + op.Squeeze(widest) + 1
    complete = op.Where(op.And(found, sizes > 0), places + sizes, never)  # [k, g]
    first = op.ReduceMin(complete, keepdims=0)
    begins = op.ReduceMin(op.Where(op.And(complete == first, first < never), places, length), keepdims=0)
    return begins, first


@script(default_opset=op)
def odds(logits, best, temperature):
    """Return exp((logit - best) / temperature) in float64; logits float32 [n, k], best [n, 1]."""
    below = op.Cast(logits, to=DOUBLE.dtype) - op.Cast(best, to=DOUBLE.dtype)
    return op.Exp(below / op.Cast(temperature, to=DOUBLE.dtype))


@script(default_opset=op)
def draw_beyond(raw, seen_ids, penalty, temperature, top_ids, best, passed, target):
    """Return tokens int64 [r, 1] drawn beyond the candidates, and their logits [r, 1]: `sampling.draw_beyond`.

    raw logits [r, vocab]; seen_ids [1, u]; top_ids [r, k]; best, passed, target [r, 1].
    """
    rows = op.Shape(raw, end=1)
    seen = op.Expand(seen_ids, op.Concat(rows, op.Shape(seen_ids, start=1), axis=0))
    found = op.GatherElements(raw, seen, axis=1)
    logits = op.ScatterElements(raw, seen, op.Where(found > 0.0, found / penalty, found * penalty), axis=1)
    weights = odds(logits, best, temperature)
    none = op.Expand(op.CastLike(0.0, weights), op.Shape(top_ids))
    weights = op.ScatterElements(weights, top_ids, none, axis=1)
    walked = op.Cast(op.CumSum(weights, 1) + passed <= target, to=INT64.dtype)
    place = op.ReduceSum(walked, [1])  # [r, 1]
    ids = op.Unsqueeze(op.Range(0, op.Squeeze(op.Shape(raw, start=1)), 1), [0])
    last = op.ReduceMax(op.Where(weights > 0.0, ids, -1), [1])
    last = op.Where(last < 0, op.Gather(top_ids, [-1], axis=1), last)
    token = op.Where(place < op.Shape(raw, start=1), place, last)
    return token, op.GatherElements(logits, token, axis=1)


@script(default_opset=op)
def draw_tokens(rows, u, penalty, temperature, seen_ids, top_ids, top_logits, rest, rest_tempered, logits):
    """Draw a token for each row, and compute the odds against it, as in `sampling`.

    Args: rows int64 [n]; u double [n]; seen_ids [1, u]; from the pass top_ids, top_logits [n, k]; rest, rest_tempered
    [n]; raw logits [n, columns]. At temperature 0 the uniforms are 0, which selects the best token.
    Returns: tokens int64 [n], odds double [n].
    """
    best = op.Gather(top_logits, [0], axis=1)  # [n, 1]
    walked = op.CumSum(odds(top_logits, best, temperature), 1)  # [n, k]
    target = op.Unsqueeze(u * (1.0 + op.Cast(rest_tempered, to=DOUBLE.dtype)), [1])
    choice = op.ReduceSum(op.Cast(walked <= target, to=INT64.dtype), [1])  # [n, 1]
    candidates = op.Shape(top_ids, start=1)
    beyond = choice >= candidates
    within = op.Min(choice, candidates - 1)
    tokens = op.GatherElements(top_ids, within, axis=1)
    chosen = op.GatherElements(top_logits, within, axis=1)

    @graph()
    def beyond_the_candidates():
        missed = op.Compress(op.Range(0, op.Size(rows), 1), op.Squeeze(beyond, [1]))
        passed = op.Gather(op.Gather(walked, missed), [-1], axis=1)
        fixed_tokens, fixed_logits = draw_beyond(
            widen(op.Gather(logits, missed)),
            seen_ids,
            penalty,
            temperature,
            op.Gather(top_ids, missed),
            op.Gather(best, missed),
            passed,
            op.Gather(target, missed),
        )
        where = op.Unsqueeze(missed, [1])
        new_tokens = op.ScatterElements(tokens, where, fixed_tokens)
        new_logits = op.ScatterElements(chosen, where, fixed_logits)
        return new_tokens, new_logits

    @graph()
    def as_they_are():
        same_tokens = op.Identity(tokens)
        same_logits = op.Identity(chosen)
        return same_tokens, same_logits

    any_beyond = op.ReduceMax(op.Cast(beyond, to=INT64.dtype), keepdims=0) > 0
    all_tokens, all_chosen = op.If(any_beyond, then_branch=beyond_the_candidates, else_branch=as_they_are)
    likelihood = op.Exp(op.Cast(all_chosen, to=DOUBLE.dtype) - op.Cast(best, to=DOUBLE.dtype))
    against = op.Unsqueeze(op.Cast(rest, to=DOUBLE.dtype), [1]) + (1.0 - likelihood)
    return op.Squeeze(all_tokens, [1]), op.Squeeze(against / likelihood, [1])


@script(default_opset=op)
def all_stops(stop_ids):
    """Return the given stop sequences and `<pad>` and `<eos>`, int64 [k + 2, at least 1]."""
    shape = op.Shape(stop_ids)
    missing = op.Max(1 - op.Gather(shape, [1]), [0])
    wide = op.Pad(stop_ids, op.Concat([0, 0, 0], missing, axis=0), -1)
    own = op.Pad(op.Constant(value=OWN_STOPS), op.Concat([0, 0, 0], op.Shape(wide, start=1) - 1, axis=0), -1)
    return op.Concat(wide, own, axis=0)


@script(default_opset=op)
@no_type_check  # names of axes stand in its annotations
def generate(
    prompt_ids: INT64[1, "length"],
    max_new_tokens: INT64,
    steps: INT64,
    block_length: INT64,
    temperature: FLOAT,
    repetition_penalty: FLOAT,
    seed: INT64,
    stop_ids: INT64["stops", "longest"],
):
    """The whole of generation; the README says what each input and output is."""  # written into the graph
    each_block, each_step, each_count = plan(max_new_tokens, steps, block_length)
    new = op.Reshape(max_new_tokens, [1])
    start = op.Size(prompt_ids)
    masked = op.Concat(op.Squeeze(prompt_ids, [0]), op.Expand(MASK, new), axis=0)
    places = op.Range(0, op.Size(masked), 1)
    stops = all_stops(stop_ids)
    mask, eos = op.Constant(value_int=MASK), op.Constant(value_int=EOS)
    drawing = temperature > 0.0
    tempering = op.Where(drawing, temperature, 1.0)

    @graph()
    def step(i: INT64, going: BOOL, before: INT64["total"]):  # type: ignore[name-defined]
        block = op.Gather(each_block, i)
        is_mask = before == mask
        rows = op.Compress(places, op.And(is_mask, places < start + (block + 1) * block_length))
        unsorted = op.Compress(before, op.Not(op.Or(is_mask, before == eos)))
        ascending, _ = op.TopK(unsorted, op.Shape(unsorted), largest=0)
        seen = op.Unsqueeze(ascending, [0])
        top_ids, top_logits, rest, rest_tempered, logits = denoise(
            op.Unsqueeze(before, [0]),
            op.Unsqueeze(places, [0]),
            rows,
            seen,
            op.Reshape(repetition_penalty, [1]),
            op.Reshape(tempering, [1]),
            drawing,
        )
        u = op.Where(drawing, uniform(seed, block, op.Gather(each_step, i), rows), 0.0)
        tokens, against = draw_tokens(
            rows, u, repetition_penalty, tempering, seen, top_ids, top_logits, rest, rest_tempered, logits
        )
        count = op.Min(op.Reshape(op.Gather(each_count, i), [1]), op.Shape(rows))
        _, surest = op.TopK(against, count, largest=0)
        canvas = op.ScatterElements(before, op.Gather(rows, surest), op.Gather(tokens, surest))
        generated = op.Slice(canvas, op.Reshape(start, [1]), op.Shape(canvas))
        _, complete = end(generated, stops)
        settled = op.ReduceMin(op.Where(generated == mask, op.Range(0, max_new_tokens, 1), max_new_tokens), keepdims=0)
        ended = complete <= settled
        goes_on = op.Not(ended)
        taken = i + 1
        return goes_on, canvas, taken

    final, counted = op.Loop(op.Size(each_count), True, masked, body=step)
    answer = op.Slice(final, op.Reshape(start, [1]), op.Shape(final))
    answer_length, _ = end(answer, stops)
    ids = op.Unsqueeze(op.Where(places < start + answer_length, final, PAD), [0])
    steps_taken = op.Size(counted)
    return ids, answer_length, steps_taken
