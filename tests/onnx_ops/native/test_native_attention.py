"""Attention: near the definition on every instruction set, and equal for any number of threads."""

import numpy as np
import pytest

from onnx_ops.attention import attention

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


@pytest.mark.parametrize(
    ("images", "queries", "keys", "heads", "depth"),
    [
        (1, 1, 1, 1, 1),
        (2, 5, 7, 3, 8),
        (1, 50, 77, 2, 40),  # a last block of either
        (1, 97, 257, 1, 33),
        (2, 49, 130, 2, 129),  # deep: blocks of 64 keys
    ],
    ids=str,
)
def test_near_the_definition(images, queries, keys, heads, depth, ops, each_isa):
    feed, proto = drawn(images, queries, keys, heads * depth), ops.attention_model(heads)
    expected = attention(*(v.astype(np.float64) for v in feed.values()), num_heads=heads)
    for _ in each_isa():
        y = ops.run(proto, feed)
        np.testing.assert_array_equal(ops.run(proto, feed, threads=3), y)
        assert np.abs(y - expected).max() <= bound(feed, heads)
    body = ops.run(proto, feed, native=False)
    assert np.abs(body - expected).max() <= bound(feed, heads)


def test_scores_that_grow_and_scores_far_apart(ops, each_isa):
    """Later blocks of keys have the larger scores; all weight falls on single keys."""
    keys = 600
    feed = drawn(1, 48, keys, 16)
    feed["query"] = np.ones_like(feed["query"])
    feed["key"] = np.full_like(feed["key"], 1) * np.arange(keys, dtype=np.float32)[:, None]
    for _ in each_isa():
        y = ops.run(ops.attention_model(1), feed)
        last = feed["value"][0, -1] * (1 - np.exp(-4)) + feed["value"][0, -2] * np.exp(-4)
        np.testing.assert_allclose(y[0], np.tile(last, (48, 1)), atol=2e-3)


def test_what_is_not_a_number_stays_in_its_row(ops, each_isa):
    feed = drawn(1, 60, 20, 16)
    feed["query"][0, 50, 3] = np.nan
    for _ in each_isa():
        rows = np.isnan(ops.run(ops.attention_model(2), feed)[0]).any(-1)
        assert rows.nonzero()[0].tolist() == [50]


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
