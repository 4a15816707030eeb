"""Attention: near the definition on every instruction set, and equal for any number of threads.

That of integers is the same bit for bit on every instruction set, too.
"""

import numpy as np
import pytest

from onnx_ops.attention import KEY_TOP, QUERY_TOP, attention

EPS = 2.0**-24
NAMES = ("query", "key", "value")


def drawn(images, queries, keys, channels):
    draw = np.random.default_rng([images, queries, keys, channels])
    sizes = dict(zip(NAMES, (queries, keys, keys), strict=True))
    return {k: draw.standard_normal((images, s, channels), np.float32) for k, s in sizes.items()}


def bound(feed, heads):
    """Scores are sums of d products; an error of them is one of the weights' logarithm."""
    q, k = (np.abs(feed[x]).astype(np.float64) for x in NAMES[:2])
    d = q.shape[2] // heads
    largest = max(
        np.einsum("ntd,nsd->nts", q[:, :, i : i + d], k[:, :, i : i + d]).max()
        for i in range(0, q.shape[2], d)
    )
    keys = k.shape[1]
    return (2 * (d + 4) * largest / np.sqrt(d) + 2 * keys + 16) * EPS * np.abs(feed["value"]).max()


def far_from_ties(images, queries, keys, heads, depth):
    """Values within 0.3 steps of a code, so that floats do not err by a code."""
    draw = np.random.default_rng([images, queries, keys, depth])

    def rows(tokens, top, axis):
        codes = draw.integers(-top, top, (images, tokens, heads, depth)) * 1.0
        codes += draw.uniform(-0.3, 0.3, codes.shape)
        index = draw.integers(0, codes.shape[axis], 1)
        edge = np.take(codes, index, axis)
        np.put_along_axis(codes, np.broadcast_to(index, edge.shape), np.sign(edge) * top, axis)
        return codes * 2.0 ** draw.integers(-6, -2, edge.shape)

    query, value = rows(queries, QUERY_TOP, 3), rows(keys, KEY_TOP, 1)
    half = rows((keys + 1) // 2, KEY_TOP, 3)
    key = np.stack([half, -half], 2).reshape(images, -1, heads, depth)[:, :keys]
    if keys % 2:
        key[:, -1] = 0  # whose mean is 0
    tensors = {"query": query, "key": key, "value": value}
    return {k: v.reshape(images, -1, heads * depth).astype(np.float32) for k, v in tensors.items()}


def shares(feed, heads, queries):
    """How many times the largest share all of a query's keys have, at least."""
    q, k = (feed[x].reshape(*feed[x].shape[:2], heads, -1).astype(np.float64) for x in NAMES[:2])
    scores = np.einsum("nthd,nshd->nhts", q, k) / np.sqrt(q.shape[3])
    return np.exp(scores - scores.max(-1, keepdims=True)).sum(-1).min()


SIZES = pytest.mark.parametrize(
    ("images", "queries", "keys", "heads", "depth"),
    [
        (1, 1, 1, 1, 1),
        (2, 5, 7, 3, 8),
        (1, 50, 77, 2, 40),  # a last block of either
        (1, 97, 257, 1, 33),
        (2, 49, 130, 2, 129),  # deep: blocks of 64 keys
        (1, 3, 600, 2, 20),
    ],
    ids=str,
)


@SIZES
def test_near_the_definition(images, queries, keys, heads, depth, ops, each_isa):
    feed, proto = drawn(images, queries, keys, heads * depth), ops.attention_model(heads)
    expected = attention(*(v.astype(np.float64) for v in feed.values()), num_heads=heads)
    for _ in each_isa():
        y = ops.run(proto, feed)
        np.testing.assert_array_equal(ops.run(proto, feed, threads=3), y)
        assert np.abs(y - expected).max() <= bound(feed, heads)
    body = ops.run(proto, feed, native=False)
    assert np.abs(body - expected).max() <= bound(feed, heads)


@SIZES
def test_integers_near_the_definition(images, queries, keys, heads, depth, ops, each_isa):
    feed = far_from_ties(images, queries, keys, heads, depth)
    proto = ops.attention_model(heads, quantized=True)
    exact = {name: x.astype(np.float64) for name, x in feed.items()}
    expected = attention(**exact, num_heads=heads, quantized=True)
    body = ops.run(proto, feed, native=False)
    assert np.abs(body - expected).max() <= bound(feed, heads)
    # a share errs by half of 1 / 16383 of the largest one, and by 3e-6 of itself
    rounding = keys * (0.5 / 16383 + 3e-6) / shares(feed, heads, queries)
    most = bound(feed, heads) + 2 * rounding * np.abs(feed["value"]).max()
    results = []
    for _ in each_isa():
        y = ops.run(proto, feed)
        np.testing.assert_array_equal(ops.run(proto, feed, threads=3), y)
        assert np.abs(y - expected).max() <= most
        results.append(y)
    for y in results[1:]:
        np.testing.assert_array_equal(y, results[0])


QUANTIZED = pytest.mark.parametrize("quantized", [False, True])


@QUANTIZED
def test_scores_that_grow_and_scores_far_apart(quantized, ops, each_isa):
    """Later blocks of keys have the larger scores; all weight falls on single keys."""
    keys = 600
    feed = drawn(1, 48, keys, 16)
    feed["query"] = np.ones_like(feed["query"])
    feed["key"] = np.full_like(feed["key"], 1) * np.arange(keys, dtype=np.float32)[:, None]
    exact = {name: x.astype(np.float64) for name, x in feed.items()}
    last = attention(**exact, num_heads=1, quantized=quantized)[0, -1]
    for _ in each_isa():
        y = ops.run(ops.attention_model(1, quantized=quantized), feed)
        np.testing.assert_allclose(y[0], np.tile(last, (48, 1)), atol=1e-3)


@QUANTIZED
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_row(quantized, value, ops, each_isa):
    feed = drawn(1, 60, 20, 16)
    feed["query"][0, 50, 3] = value
    for _ in each_isa():
        y = ops.run(ops.attention_model(2, quantized=quantized), feed)[0]
        assert np.isnan(y[50, :8]).all() or not quantized
        assert np.isnan(y).any(-1).nonzero()[0].tolist() == [50]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_keys_and_values_that_are_not_finite(value, ops, each_isa):
    """A key is in every query's mean of its head, a value in every sum of its channel."""
    for name, columns in (("key", slice(8, 16)), ("value", 11)):
        feed, wrong = drawn(1, 60, 20, 16), np.zeros((60, 16), bool)
        feed[name][0, 7, 11] = value
        wrong[:, columns] = True
        for _ in each_isa():
            y = ops.run(ops.attention_model(2, quantized=True), feed)[0]
            np.testing.assert_array_equal(np.isnan(y), wrong)


def test_queries_and_keys_of_zeros_take_the_mean(ops, each_isa):
    feed = drawn(1, 5, 70, 16)
    feed["query"] *= 0
    exact = {name: x.astype(np.float64) for name, x in feed.items()}
    mean = attention(**exact, num_heads=2, quantized=True)
    for _ in each_isa():
        y = ops.run(ops.attention_model(2, quantized=True), feed)
        np.testing.assert_allclose(y, mean, atol=70 * EPS * np.abs(feed["value"]).max())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"query": np.ones((1, 4, 25), np.float32)}, "C a multiple of 3"),
        ({"key": np.ones((1, 0, 24), np.float32)}, "S at least 1"),
        ({"value": np.ones((1, 6, 24), np.float32)}, r"value must be \(1,5,24\), got \(1,6,24\)"),
        ({"key": np.ones((2, 5, 24), np.float32)}, r"key must be \(1,5,24\), got \(2,5,24\)"),
    ],
    ids=["channels", "no keys", "value", "key"],
)
def test_shapes_that_do_not_fit(changed, message, ops):
    feed = drawn(1, 4, 5, 24) | changed
    with pytest.raises(Exception, match=message):
        ops.session(ops.attention_model(3)).run(None, feed)


def test_no_queries(ops):
    assert ops.run(ops.attention_model(3), drawn(1, 0, 5, 24)).shape == (1, 0, 24)


def test_heads_below_one(ops):
    with pytest.raises(Exception, match="num_heads must be at least 1, got 0"):
        ops.session(ops.attention_model(0))
