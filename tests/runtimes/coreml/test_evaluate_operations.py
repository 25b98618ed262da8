"""Each operation of the reference evaluator against ONNX Runtime, or against plain loops where it has no such."""

import itertools
import math

import numpy as np
import pytest
from support.coreml_programs import builder, ct, evaluated, in_onnx

mb = builder()


def rng(seed=0):
    return np.random.default_rng(seed)


def close(found, expected, tolerance=2e-6):
    assert len(found) == len(expected)
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.shape == np.shape(other), index
        if np.issubdtype(one.dtype, np.floating):
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance, err_msg=str(index))
        else:
            np.testing.assert_array_equal(one, other, err_msg=str(index))


def test_elementwise_of_one(tmp_path):
    x = np.concatenate([rng().uniform(-0.99, 0.99, 97), [0.0, -0.5, 0.5]]).astype(np.float32).reshape(4, 25)
    same = ["acos", "asin", "atan", "atanh", "cos", "cosh", "sin", "sinh", "tan", "tanh", "exp", "erf", "abs", "ceil",
            "floor", "round", "sign", "sigmoid", "relu", "softplus", "softsign"]  # fmt: skip
    found = evaluated(tmp_path, {"x": x}, lambda x: [getattr(mb, name)(x=x) for name in same])
    close(found, [in_onnx(name.capitalize(), [x])[0] for name in same])


def test_elementwise_of_one_by_definition(tmp_path):
    x = rng().uniform(0.05, 9, (3, 7)).astype(np.float32)
    found = evaluated(
        tmp_path,
        {"x": x},
        lambda x: [
            mb.sqrt(x=x), mb.rsqrt(x=x, epsilon=1e-3), mb.inverse(x=x, epsilon=1e-3), mb.log(x=x, epsilon=1e-3),
            mb.square(x=x), mb.exp2(x=x), mb.relu6(x=x), mb.clip(x=x, alpha=1.0, beta=4.0),
            mb.threshold(x=x, alpha=3.0),
            mb.identity(x=x),
        ],
    )  # fmt: skip
    each = [
        math.sqrt, lambda v: 1 / math.sqrt(v + 1e-3), lambda v: 1 / (v + 1e-3), lambda v: math.log(v + 1e-3),
        lambda v: v * v, lambda v: 2**v, lambda v: min(v, 6), lambda v: min(max(v, 1), 4), lambda v: max(v, 3),
        lambda v: v,
    ]  # fmt: skip
    close(found, [np.vectorize(one, [np.float64])(x.astype(np.float64)) for one in each], 3e-6)


def test_activations(tmp_path):
    x = rng().normal(0, 3, (2, 5, 3, 4)).astype(np.float32)
    slopes, tops = rng(1).uniform(0.1, 1, 5).astype(np.float32), rng(2).uniform(0.5, 2, 5).astype(np.float32)
    found = evaluated(
        tmp_path,
        {"x": x},
        lambda x: [
            mb.leaky_relu(x=x, alpha=0.1), mb.elu(x=x, alpha=0.7), mb.gelu(x=x, mode="EXACT"),
            mb.gelu(x=x, mode="TANH_APPROXIMATION"), mb.sigmoid_hard(x=x, alpha=0.3, beta=0.4),
            mb.thresholded_relu(x=x, alpha=0.8), mb.prelu(x=x, alpha=slopes), mb.softmax(x=x, axis=1),
            mb.softmax(x=x, axis=-1), mb.silu(x=x), mb.gelu(x=x, mode="SIGMOID_APPROXIMATION"),
            mb.clamped_relu(x=x, alpha=0.2, beta=1.5), mb.linear_activation(x=x, alpha=2.0, beta=0.5),
            mb.scaled_tanh(x=x, alpha=1.5, beta=0.5), mb.softplus_parametric(x=x, alpha=slopes, beta=tops),
        ],
    )  # fmt: skip
    wide, by_channel = x.astype(np.float64), (1, 5, 1, 1)
    close(
        found,
        [
            in_onnx("LeakyRelu", [x], alpha=0.1)[0],
            in_onnx("Elu", [x], alpha=0.7)[0],
            in_onnx("Gelu", [x], opset=20)[0],
            in_onnx("Gelu", [x], opset=20, approximate="tanh")[0],
            in_onnx("HardSigmoid", [x], alpha=0.3, beta=0.4)[0],
            in_onnx("ThresholdedRelu", [x], alpha=0.8)[0],
            in_onnx("PRelu", [x, slopes.reshape(5, 1, 1)])[0],
            in_onnx("Softmax", [x], axis=1)[0],
            in_onnx("Softmax", [x], axis=-1)[0],
            wide / (1 + np.exp(-wide)),
            wide / (1 + np.exp(-1.702 * wide)),
            np.minimum(np.where(wide > 0, wide, 0.2 * wide), 1.5),
            2 * wide + 0.5,
            1.5 * np.tanh(0.5 * wide),
            slopes.reshape(by_channel) * np.log1p(np.exp(tops.reshape(by_channel) * wide)),
        ],
        4e-6,
    )


def test_elementwise_of_two_with_all_ways_of_spreading(tmp_path):
    x = rng().uniform(0.2, 3, (2, 1, 4)).astype(np.float32)
    y = rng(1).uniform(0.2, 3, (3, 1)).astype(np.float32)
    same = {"add": "Add", "sub": "Sub", "mul": "Mul", "real_div": "Div", "pow": "Pow", "maximum": "Max",
    "minimum": "Min",
            "equal": "Equal", "less": "Less", "less_equal": "LessOrEqual", "greater": "Greater",
            "greater_equal": "GreaterOrEqual"}  # fmt: skip
    found = evaluated(
        tmp_path,
        {"x": x, "y": y},
        lambda x, y: [
            *(mb.cast(x=one, dtype="fp32") if one.dtype.__name__ == "bool" else one
              for one in (getattr(mb, name)(x=x, y=y) for name in same)),
            mb.floor_div(x=x, y=y), mb.mod(x=x, y=y), mb.cast(x=mb.not_equal(x=x, y=y), dtype="fp32"),
        ],
    )  # fmt: skip
    expected = [in_onnx(name, [x, y])[0].astype(np.float32) for name in same.values()]
    wide = np.broadcast_arrays(x.astype(np.float64), y)
    expected += [np.floor(wide[0] / wide[1]), in_onnx("Mod", [x, y], fmod=1)[0], (wide[0] != wide[1])]
    close([one.astype(np.float32) for one in found], [one.astype(np.float32) for one in expected], 4e-6)


def test_logic_whole_numbers_and_types(tmp_path):
    x = np.array([[-7, 7, 5], [0, -3, 2]], np.int32)
    y = np.array([2, -2, 3], np.int32)
    found = evaluated(
        tmp_path,
        {"x": x, "y": y},
        lambda x, y: [
            mb.real_div(x=x, y=y), mb.cast(x=mb.cast(x=x, dtype="fp32"), dtype="int32"),
            mb.select(cond=mb.greater(x=x, y=0), a=x, b=y),
            *(mb.cast(x=one(x=mb.greater(x=x, y=0), y=mb.greater(x=y, y=0)), dtype="int32")
              for one in (mb.logical_and, mb.logical_or, mb.logical_xor)),
            mb.cast(x=mb.logical_not(x=mb.greater(x=x, y=0)), dtype="int32"), mb.cast(x=2.9, dtype="int32"),
            mb.cast(x=-2.9, dtype="int32"), mb.shape(x=x),
        ],
    )  # fmt: skip
    up, right = x > 0, np.broadcast_to(y > 0, x.shape)
    close(
        found,
        [
            in_onnx("Div", [x, y])[0], x, np.where(up, x, y),
            up & right, up | right, up ^ right, ~up, [2], [-2], [2, 3],
        ],
    )  # fmt: skip


def random_convolution(random, rank):
    groups = int(random.choice([1, 1, 2, 4]))
    inner, outer = int(random.integers(1, 4)), int(random.integers(1, 4))
    if random.random() < 0.3:  # each channel by itself
        groups, inner = int(random.integers(2, 6)), 1
    kernel = [int(random.integers(1, 4)) for _ in range(rank)]
    strides = [int(random.integers(1, 3)) for _ in range(rank)]
    dilations = [int(random.integers(1, 3)) for _ in range(rank)]
    pads = [int(random.integers(0, 3)) for _ in range(2 * rank)]
    sizes = [(k - 1) * d + 1 + int(random.integers(0, 6)) for k, d in zip(kernel, dilations, strict=True)]
    x = random.normal(size=(int(random.integers(1, 3)), inner * groups, *sizes)).astype(np.float32)
    weight = random.normal(size=(outer * groups, inner, *kernel)).astype(np.float32)
    bias = random.normal(size=outer * groups).astype(np.float32) if random.random() < 0.5 else None
    return x, weight, bias, strides, dilations, pads, groups


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolutions_of_random_shapes(tmp_path, rank):
    random = rng(rank)
    cases = [random_convolution(random, rank) for _ in range(12)]

    def build(**inputs):
        made = []
        for value, (_, weight, bias, strides, dilations, pads, groups) in zip(inputs.values(), cases, strict=True):
            more = {} if bias is None else {"bias": bias}
            made.append(mb.conv(x=value, weight=weight, strides=strides, dilations=dilations, pad_type="custom",
                                pad=pads, groups=groups, **more))  # fmt: skip
        return made

    found = evaluated(tmp_path, {f"x{index}": case[0] for index, case in enumerate(cases)}, build)
    for one, (x, weight, bias, strides, dilations, pads, groups) in zip(found, cases, strict=True):
        order = [*pads[::2], *pads[1::2]]
        (expected,) = in_onnx("Conv", [x, weight, bias], strides=strides, dilations=dilations, pads=order, group=groups)
        np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["same", "same_lower", "valid"])
def test_convolutions_that_pad_themselves(tmp_path, kind):
    x = rng().normal(size=(1, 2, 7, 10)).astype(np.float32)
    weight = rng(1).normal(size=(3, 2, 2, 3)).astype(np.float32)
    found = evaluated(tmp_path, {"x": x}, lambda x: mb.conv(x=x, weight=weight, strides=[2, 3], pad_type=kind))
    mode = {"same": "SAME_UPPER", "same_lower": "SAME_LOWER", "valid": "VALID"}[kind]
    close(found, in_onnx("Conv", [x, weight], strides=[2, 3], auto_pad=mode), 1e-5)


@pytest.mark.parametrize("rank", [1, 2])
def test_transposed_convolutions_of_random_shapes(tmp_path, rank):
    random, cases = rng(10 + rank), []
    while len(cases) < 10:
        groups = int(random.choice([1, 2]))
        x = random.normal(size=(2, 2 * groups, *random.integers(2, 6, rank))).astype(np.float32)
        weight = random.normal(size=(2 * groups, 3, *random.integers(1, 4, rank))).astype(np.float32)
        strides, dilations = random.integers(1, 4, rank).tolist(), random.integers(1, 3, rank).tolist()
        pads = random.integers(0, 2, 2 * rank).tolist()
        sizes = [(n - 1) * s + (k - 1) * d + 1 - a - b for n, s, k, d, a, b in zip(
            x.shape[2:], strides, weight.shape[2:], dilations, pads[::2], pads[1::2], strict=True)]  # fmt: skip
        if min(sizes) > 0:
            cases.append(
                (x, weight, random.normal(size=3 * groups).astype(np.float32), strides, dilations, pads, groups)
            )

    def build(**inputs):
        return [
            mb.conv_transpose(x=value, weight=weight, bias=bias, strides=strides, dilations=dilations,
                              pad_type="custom", pad=pads, groups=groups)
            for value, (_, weight, bias, strides, dilations, pads, groups) in zip(inputs.values(), cases, strict=True)
        ]  # fmt: skip

    found = evaluated(tmp_path, {f"x{index}": case[0] for index, case in enumerate(cases)}, build)
    for one, (x, weight, bias, strides, dilations, pads, groups) in zip(found, cases, strict=True):
        order = [*pads[::2], *pads[1::2]]
        (expected,) = in_onnx(
            "ConvTranspose", [x, weight, bias], strides=strides, dilations=dilations, pads=order, group=groups
        )
        np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-5)


def test_pools(tmp_path):
    x = rng().normal(size=(2, 3, 9, 11)).astype(np.float32)
    cases = [
        ("max_pool", "MaxPool", {"pad_type": "custom", "pad": [1, 0, 2, 1]}, {"pads": [1, 2, 0, 1]}),
        ("max_pool", "MaxPool", {"pad_type": "custom", "pad": [2, 2, 2, 2], "ceil_mode": True},
         {"pads": [2, 2, 2, 2], "ceil_mode": 1}),
        ("avg_pool", "AveragePool", {"pad_type": "custom", "pad": [1, 1, 0, 2]},
         {"pads": [1, 0, 1, 2], "count_include_pad": 1}),
        ("avg_pool", "AveragePool",
         {"pad_type": "custom", "pad": [1, 1, 0, 2], "exclude_padding_from_average": True}, {"pads": [1, 0, 1, 2]}),
        ("avg_pool", "AveragePool", {"pad_type": "same", "exclude_padding_from_average": True},
         {"auto_pad": "SAME_UPPER"}),
        ("max_pool", "MaxPool", {"pad_type": "valid"}, {"auto_pad": "VALID"}),
        ("l2_pool", "LpPool", {"pad_type": "valid"}, {"auto_pad": "VALID", "p": 2}),
    ]  # fmt: skip
    found = evaluated(
        tmp_path,
        {"x": x},
        lambda x: [getattr(mb, name)(x=x, kernel_sizes=[3, 4], strides=[2, 3], **more) for name, _, more, _ in cases],
    )
    expected = [in_onnx(name, [x], kernel_shape=[3, 4], strides=[2, 3], **more)[0] for _, name, _, more in cases]
    close(found, expected, 1e-5)


def test_products(tmp_path):
    x, y = rng().normal(size=(2, 3, 4, 5)).astype(np.float32), rng(1).normal(size=(3, 5, 6)).astype(np.float32)
    weight, bias = rng(2).normal(size=(7, 5)).astype(np.float32), rng(3).normal(size=7).astype(np.float32)
    found = evaluated(
        tmp_path,
        {"x": x, "y": y},
        lambda x, y: [
            mb.matmul(x=x, y=y), mb.matmul(x=x, y=x, transpose_y=True), mb.matmul(x=x, y=x, transpose_x=True),
            mb.linear(x=x, weight=weight, bias=bias),
            mb.einsum(values=[x, mb.transpose(x=x, perm=[0, 3, 2, 1])],
                      equation="nchw,nwhr->nchr"),
        ],
    )  # fmt: skip
    wide = x.astype(np.float64)
    close(
        found,
        [
            wide @ y, np.einsum("bnij,bnkj->bnik", wide, wide), np.einsum("bnji,bnjk->bnik", wide, wide),
            np.einsum("bnij,kj->bnik", wide, weight) + bias,
            sum(wide[..., None, w] * wide[:, None, :, :, w].transpose(0, 1, 3, 2) for w in range(5)),
        ],
        1e-5,
    )  # fmt: skip


def test_attention(tmp_path):
    query, key = rng().normal(size=(2, 3, 4, 8)).astype(np.float32), rng(1).normal(size=(2, 3, 5, 8)).astype(np.float32)
    value, mask = rng(2).normal(size=(2, 3, 5, 6)).astype(np.float32), rng(3).random((4, 5)) < 0.7
    mask[:, 0] = True
    bias = rng(4).normal(size=(4, 5)).astype(np.float32)
    found = evaluated(
        tmp_path,
        {"q": query, "k": key, "v": value, "b": bias},
        lambda q, k, v, b: [
            mb.scaled_dot_product_attention(query=q, key=k, value=v),
            mb.scaled_dot_product_attention(query=q, key=k, value=v, attn_mask=mask),
            mb.scaled_dot_product_attention(query=q, key=k, value=v, attn_mask=b),
        ],
    )
    for one, added in zip(found, (np.zeros((4, 5)), np.where(mask, 0, -np.inf), bias), strict=True):
        for batch, head, row in np.ndindex(2, 3, 4):
            scores = [math.exp(float(query[batch, head, row] @ key[batch, head, at]) / math.sqrt(8) + added[row, at])
                      for at in range(5)]  # fmt: skip
            expected = sum(s * value[batch, head, at].astype(np.float64) for at, s in enumerate(scores)) / sum(scores)
            np.testing.assert_allclose(one[batch, head, row], expected, rtol=1e-5, atol=1e-6)


def test_norms(tmp_path):
    x = rng().normal(1, 2, (2, 6, 4, 5)).astype(np.float32)
    by_channel = [rng(seed).uniform(0.5, 2, 6).astype(np.float32) for seed in range(4)]
    gamma, beta, mean, variance = by_channel
    last = [rng(seed).normal(size=(4, 5)).astype(np.float32) for seed in (5, 6)]
    found = evaluated(
        tmp_path,
        {"x": x},
        lambda x: [
            mb.layer_norm(x=x, axes=[-2, -1], gamma=last[0], beta=last[1], epsilon=1e-4),
            mb.instance_norm(x=x, gamma=gamma, beta=beta, epsilon=1e-4),
            mb.batch_norm(x=x, mean=mean, variance=variance, gamma=gamma, beta=beta, epsilon=1e-4),
            mb.local_response_norm(x=x, size=3, alpha=0.1, beta=0.6, k=1.5),
            mb.l2_norm(x=x, epsilon=1e-3),
            mb.layer_norm(x=x, axes=[1]),
        ],
    )
    wide = x.astype(np.float64)
    expected = [
        in_onnx("LayerNormalization", [x, *last], axis=-2, epsilon=1e-4)[0],
        in_onnx("InstanceNormalization", [x, gamma, beta], epsilon=1e-4)[0],
        in_onnx("BatchNormalization", [x, gamma, beta, mean, variance], epsilon=1e-4)[0],
        in_onnx("LRN", [x], size=3, alpha=0.1, beta=0.6, bias=1.5)[0],
        np.stack([one / math.sqrt((one**2).sum() + 1e-3) for one in wide]),
        (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5),
    ]
    close(found, expected, 1e-5)


def test_reductions(tmp_path):
    x = rng().uniform(0.1, 2, (3, 4, 5)).astype(np.float32)
    same = {"sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin", "prod": "ReduceProd",
            "l1_norm": "ReduceL1", "l2_norm": "ReduceL2", "sum_square": "ReduceSumSquare", "log_sum": "ReduceLogSum",
            "log_sum_exp": "ReduceLogSumExp"}  # fmt: skip
    ways = [([1], False), ([0, 2], True), ([-1], True)]
    found = evaluated(
        tmp_path,
        {"x": x},
        lambda x: [
            getattr(mb, f"reduce_{name}")(x=x, axes=axes, keep_dims=keep) for name in same for axes, keep in ways
        ],
    )
    expected = [
        in_onnx(name, [x, np.array(axes, np.int64)], keepdims=int(keep))[0]
        for name in same.values()
        for axes, keep in ways
    ]
    close(found, expected, 1e-5)


def test_sums_of_exponentials_of_what_is_hidden(tmp_path):
    x = np.array([[-np.inf, -np.inf], [-np.inf, 2.0]], np.float32)
    rows, all_of_them = evaluated(
        tmp_path,
        {"x": x},
        lambda x: [mb.reduce_log_sum_exp(x=x, axes=[1]), mb.reduce_log_sum_exp(x=x, axes=[0, 1])],
    )
    np.testing.assert_array_equal(rows, [-np.inf, 2])
    assert all_of_them == 2


def test_orders(tmp_path):
    x = rng().integers(0, 5, (3, 4, 5)).astype(np.float32)  # with many equal ones: the first of them comes first
    found = evaluated(
        tmp_path,
        {"x": x},
        lambda x: [
            mb.reduce_argmax(x=x, axis=1, keep_dims=False), mb.reduce_argmin(x=x, axis=2, keep_dims=True),
            *mb.topk(x=x, k=3, axis=1), *mb.topk(x=x, k=2, axis=-1, ascending=True),
            mb.argsort(x=x, axis=2, ascending=True), mb.cumsum(x=x, axis=1),
            mb.cumsum(x=x, axis=2, exclusive=True, reverse=True),
        ],
    )  # fmt: skip
    best = in_onnx("TopK", [x, np.array([3], np.int64)], outputs=2, axis=1)
    least = in_onnx("TopK", [x, np.array([2], np.int64)], outputs=2, axis=-1, largest=0)
    along = [np.array(axis, np.int64) for axis in (1, 2)]
    close(
        found,
        [
            in_onnx("ArgMax", [x], axis=1, keepdims=0)[0], in_onnx("ArgMin", [x], axis=2)[0], *best, *least,
            in_onnx("TopK", [x, np.array([5], np.int64)], outputs=2, axis=2, largest=0)[1],
            in_onnx("CumSum", [x, along[0]])[0], in_onnx("CumSum", [x, along[1]], exclusive=1, reverse=1)[0],
        ],
    )  # fmt: skip


def test_gathering(tmp_path):
    x = rng().normal(size=(4, 5, 6)).astype(np.float32)
    rows = np.array([[3, 0], [1, 1]], np.int32)
    along = rng(1).integers(0, 5, (4, 2, 6)).astype(np.int32)
    points = np.array([[[0, 1], [3, 4]], [[2, 2], [1, 0]]], np.int32)
    found = evaluated(
        tmp_path,
        {"x": x, "rows": rows, "along": along, "points": points},
        lambda x, rows, along, points: [
            mb.gather(x=x, indices=rows, axis=1), mb.gather_along_axis(x=x, indices=along, axis=1),
            mb.gather_nd(x=x, indices=points),
            mb.gather_nd(x=x, indices=np.array([[[1], [0]]] * 4, np.int32), batch_dims=1),
            mb.gather(x=x, indices=np.array([[1, 0]] * 4, np.int32), axis=1, batch_dims=1),
        ],
    )  # fmt: skip
    wide = points.astype(np.int64)
    each = np.array([[[1], [0]]] * 4, np.int64)
    close(
        found,
        [
            in_onnx("Gather", [x, rows], axis=1)[0], in_onnx("GatherElements", [x, along], axis=1)[0],
            in_onnx("GatherND", [x, wide])[0], in_onnx("GatherND", [x, each], batch_dims=1)[0],
            np.stack([one[[1, 0]] for one in x]),
        ],
    )  # fmt: skip


def test_scattering(tmp_path):
    data = rng().normal(size=(4, 5, 3)).astype(np.float32)
    points = np.array([[0, 1], [3, 4], [0, 1]], np.int32)  # one place twice
    updates = rng(1).normal(size=(3, 3)).astype(np.float32)
    along = rng(2).integers(0, 4, (2, 5, 3)).astype(np.int32)
    values = rng(3).normal(size=(2, 5, 3)).astype(np.float32)
    slabs = rng(4).normal(size=(4, 2, 3)).astype(np.float32)
    found = evaluated(
        tmp_path,
        {"data": data, "updates": updates, "values": values, "slabs": slabs},
        lambda data, updates, values, slabs: [
            mb.scatter_nd(data=data, indices=points, updates=updates, mode="add"),
            mb.scatter_nd(data=data, indices=points[:2], updates=mb.slice_by_size(x=updates, begin=[0, 0], size=[2, 3]),
                          mode="update"),
            mb.scatter_along_axis(data=data, indices=along, updates=values, axis=0, mode="add"),
            mb.scatter_along_axis(data=data, indices=along, updates=values, axis=0, mode="max"),
            mb.scatter(data=data, indices=np.array([4, 0], np.int32), updates=slabs, axis=1, mode="update"),
        ],
    )  # fmt: skip
    placed = data.copy()
    placed[:, [4, 0]] = slabs
    close(
        found,
        [
            in_onnx("ScatterND", [data, points.astype(np.int64), updates], reduction="add")[0],
            in_onnx("ScatterND", [data, points[:2].astype(np.int64), updates[:2]])[0],
            in_onnx("ScatterElements", [data, along.astype(np.int64), values], axis=0, reduction="add")[0],
            in_onnx("ScatterElements", [data, along.astype(np.int64), values], axis=0, reduction="max")[0],
            placed,
        ],
        1e-5,
    )


def test_layout(tmp_path):
    x = rng().normal(size=(2, 8, 4, 6)).astype(np.float32)
    parts = [3, 1, 4]
    found = evaluated(
        tmp_path,
        {"x": x},
        lambda x: [
            mb.reshape(x=x, shape=[2, -1, 6]), mb.reshape(x=x, shape=[4, 4, 0, 0]),
            mb.transpose(x=x, perm=[3, 1, 0, 2]),
            mb.expand_dims(x=x, axes=[-1]), mb.squeeze(x=mb.expand_dims(x=x, axes=[1]), axes=[1]),
            mb.concat(values=[x, x], axis=2), mb.concat(values=[x, mb.mul(x=x, y=2.0)], axis=1, interleave=True),
            mb.stack(values=[x, x], axis=1), *mb.split(x=x, split_sizes=parts, axis=1),
            *mb.split(x=x, num_splits=3, axis=-1),
            mb.slice_by_index(x=x, begin=[0, -1, 1, 5], end=[2, 0, 4, 0], stride=[1, -3, 2, -2],
                              end_mask=[False, False, False, True], begin_mask=[True, False, False, False]),
            mb.slice_by_index(x=x, begin=[1, 2, 0, 0], end=[0, 5, 4, 6], squeeze_mask=[True, False, False, False]),
            mb.slice_by_size(x=x, begin=[0, 1, 2, 3], size=[1, -1, 2, 2]), mb.tile(x=x, reps=[1, 2, 1, 3]),
            mb.pad(x=x, pad=[1, 0, 2, 3], mode="constant", constant_val=0.5), mb.pad(x=x, pad=[1, 2], mode="reflect"),
            mb.pad(x=x, pad=[1, 2, 3, 0], mode="replicate"), mb.reverse(x=x, axes=[1, 3]),
            mb.depth_to_space(x=x, block_size=2), mb.space_to_depth(x=x, block_size=2),
            mb.pixel_shuffle(x=x, upscale_factor=2),
            mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)), mb.flatten2d(x=x, axis=2),
            mb.band_part(x=x, lower=1, upper=0),
            mb.sliding_windows(x=x, axis=3, size=3, stride=2), mb.crop(x=x, crop_height=[1, 1], crop_width=[2, 0]),
            mb.slice_update(x=x, update=mb.fill(shape=[1, 2, 4, 6], value=7.0), begin=[1, 3, 0, 0], end=[2, 5, 4, 6]),
        ],
    )  # fmt: skip
    updated = x.copy()
    updated[1:2, 3:5] = 7

    def padded(pads, mode):
        return in_onnx("Pad", [x, np.array(pads, np.int64), *([np.float32(0.5)] if mode == "constant" else [])],
                       mode=mode)[0]  # fmt: skip

    close(
        found,
        [
            x.reshape(2, 32, 6), x.reshape(4, 4, 4, 6), in_onnx("Transpose", [x], perm=[3, 1, 0, 2])[0],
            x[..., None], x, in_onnx("Concat", [x, x], axis=2)[0],
            np.array([[x[n, c // 2] * (1 + c % 2) for c in range(16)] for n in range(2)]),
            np.array([[one, one] for one in x]), *in_onnx("Split", [x, np.array(parts, np.int64)], outputs=3, axis=1),
            *in_onnx("Split", [x], outputs=3, axis=3, num_outputs=3),
            x[0:2, -1:0:-3, 1:4:2, 5::-2], x[1, 2:5], x[0:1, 1:, 2:4, 3:5],
            in_onnx("Tile", [x, np.array([1, 2, 1, 3], np.int64)])[0],
            padded([0, 0, 1, 2, 0, 0, 0, 3], "constant"), padded([0, 0, 0, 1, 0, 0, 0, 2], "reflect"),
            padded([0, 0, 1, 3, 0, 0, 2, 0], "edge"), x[:, ::-1, :, ::-1],
            in_onnx("DepthToSpace", [x], blocksize=2)[0], in_onnx("SpaceToDepth", [x], blocksize=2)[0],
            in_onnx("DepthToSpace", [x], blocksize=2, mode="CRD")[0],
            np.array([[x[n, c // 4, (c % 4) // 2 :: 2, c % 2 :: 2] for c in range(32)] for n in range(2)]),
            x.reshape(16, 24), np.array([[np.triu(np.tril(m), -1) for m in one] for one in x]),
            np.stack([x[..., i : i + 3] for i in (0, 2)], axis=3), x[:, :, 1:3, 2:], updated,
        ],
    )  # fmt: skip


def test_numbers_from_nothing(tmp_path):
    x = np.array([[1, 0, 3]], np.int32)
    found = evaluated(
        tmp_path,
        {"x": x},
        lambda x: [
            mb.one_hot(indices=x, one_hot_vector_size=4, axis=-1, on_value=2, off_value=1),
            mb.range_1d(start=2, end=11, step=3),
            mb.fill(shape=[2, 2], value=1.5), mb.non_zero(x=x), mb.fill_like(ref_tensor=x, value=4),
            mb.reshape_like(x=x, ref_tensors=[mb.fill(shape=[3, 7], value=0.0), x], begins=[0, 0], ends=[1, 1],
                            end_masks=[False, False]),
        ],
    )  # fmt: skip
    hot = [[[2 if place == one else 1 for place in range(4)] for one in row] for row in x]
    close(found, [hot, [2, 5, 8], np.full((2, 2), 1.5), [[0, 0], [0, 2]], [[4, 4, 4]], [[1], [0], [3]]])


def test_blocks_to_the_batch_and_back(tmp_path):
    x = rng().normal(size=(2, 3, 4, 6)).astype(np.float32)
    found = evaluated(
        tmp_path,
        {"x": x},
        lambda x: [
            mb.space_to_batch(x=x, block_shape=[2, 3], paddings=[[0, 0], [0, 0]]),
            mb.batch_to_space(x=mb.space_to_batch(x=x, block_shape=[2, 2], paddings=[[1, 1], [2, 0]]),
                              block_shape=[2, 2], crops=[[1, 1], [2, 0]]),
        ],
    )  # fmt: skip
    places = itertools.product(range(2), range(3), range(2))
    close(found, [np.array([x[n, :, row::2, column::3] for row, column, n in places]), x])


@pytest.mark.parametrize("wanted", [(7, 13), (2, 3), (1, 1), (8, 10)])
def test_resizing(tmp_path, wanted):
    x = rng().normal(size=(1, 2, 4, 5)).astype(np.float32)
    height, width = wanted
    modes = ["STRICT_ALIGN_CORNERS", "DEFAULT", "UNALIGN_CORNERS", "ALIGN_CORNERS", "OFFSET_CORNERS"]
    found = evaluated(
        tmp_path,
        {"x": x},
        lambda x: [
            *(mb.resize_bilinear(x=x, target_size_height=height, target_size_width=width, sampling_mode=mode)
            for mode in modes),
            mb.resize_nearest_neighbor(x=x, target_size_height=height, target_size_width=width),
            mb.resize(x=x, shape=[height, width], resized_dims=np.uint32(2), sampling_mode="UNALIGN_CORNERS"),
            mb.resize(x=x, shape=[height, width], resized_dims=np.uint32(2), interpolation_mode="NEAREST_NEIGHBOR"),
        ],
    )  # fmt: skip

    def resized(mode, way, **more):
        return in_onnx(
            "Resize", [x, None, None, np.array([1, 2, height, width], np.int64)], mode=mode,
            coordinate_transformation_mode=way, **more,
        )[0]  # fmt: skip

    def by_points(points):  # one point after the other, as the documentation has it
        rows, columns = points(4, height), points(5, width)
        made = np.empty((1, 2, height, width))
        for (i, r), (j, c) in itertools.product(enumerate(rows), enumerate(columns)):
            r0, c0 = int(r), int(c)
            r1, c1 = min(r0 + 1, 3), min(c0 + 1, 4)
            top = x[..., r0, c0] * (1 - c + c0) + x[..., r0, c1] * (c - c0)
            bottom = x[..., r1, c0] * (1 - c + c0) + x[..., r1, c1] * (c - c0)
            made[..., i, j] = top * (1 - r + r0) + bottom * (r - r0)
        return made

    def aligned(size, count):
        return [(size - 1) / 2] if count == 1 else [i * (size - 1) / (count - 1) for i in range(count)]

    def offset(size, count):
        delta = max(1, size - 1) / count
        return [min(size - 1, max(0, 0.5 * delta + i * delta)) for i in range(count)]

    halves = resized("linear", "half_pixel")
    nearest = resized("nearest", "asymmetric", nearest_mode="floor")
    expected = [
        resized("linear", "align_corners"), resized("linear", "asymmetric"), halves, by_points(aligned),
        by_points(offset), nearest, halves, nearest,
    ]  # fmt: skip
    close(found, expected, 1e-5)


def test_enlarging(tmp_path):
    x = rng().normal(size=(1, 2, 4, 5)).astype(np.float32)
    found = evaluated(
        tmp_path,
        {"x": x},
        lambda x: [
            mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=3),
            mb.upsample_bilinear(x=x, scale_factor_height=2, scale_factor_width=3, align_corners=True),
            mb.upsample_bilinear(x=x, scale_factor_height=2, scale_factor_width=3, align_corners=False),
        ],
    )
    scales = np.array([1, 1, 2, 3], np.float32)

    def resized(mode, way, **more):
        return in_onnx("Resize", [x, None, scales], mode=mode, coordinate_transformation_mode=way, **more)[0]

    expected = [
        resized("nearest", "asymmetric", nearest_mode="floor"),
        resized("linear", "align_corners"),
        resized("linear", "half_pixel"),
    ]
    close(found, expected, 1e-5)


def test_recurrent(tmp_path):
    steps, batch, inner, width = 5, 2, 3, 4
    random = rng()
    x = random.normal(size=(steps, batch, inner)).astype(np.float32)

    def weights(gates):
        return (random.normal(size=(gates * width, inner)).astype(np.float32),
                random.normal(size=(gates * width, width)).astype(np.float32),
                random.normal(size=gates * width).astype(np.float32))  # fmt: skip

    h0 = random.normal(size=(batch, 2 * width)).astype(np.float32)
    c0 = random.normal(size=(batch, 2 * width)).astype(np.float32)
    there, back, gru, plain = weights(4), weights(4), weights(3), weights(1)
    one_h, one_c = h0[:, :width].copy(), c0[:, :width].copy()
    found = evaluated(
        tmp_path,
        {"x": x},
        lambda x: [
            *mb.lstm(x=x, initial_h=one_h, initial_c=one_c, weight_ih=there[0], weight_hh=there[1], bias=there[2],
                     output_sequence=True),
            *mb.lstm(x=x, initial_h=one_h, initial_c=one_c, weight_ih=there[0], weight_hh=there[1], bias=there[2],
                     direction="reverse", output_sequence=True),
            *mb.lstm(x=x, initial_h=h0, initial_c=c0, weight_ih=there[0], weight_hh=there[1], bias=there[2],
                     weight_ih_back=back[0], weight_hh_back=back[1], bias_back=back[2], direction="bidirectional",
                     output_sequence=True),
            *mb.gru(x=x, initial_h=one_h, weight_ih=gru[0], weight_hh=gru[1], bias=gru[2], output_sequence=True),
            *mb.rnn(x=x, initial_h=one_h, weight_ih=plain[0], weight_hh=plain[1], bias=plain[2], output_sequence=False),
        ],
        target=ct.target.iOS17,
    )  # fmt: skip

    def turned(matrix, order):  # MIL's order of gates into ONNX's
        parts = np.split(matrix, len(order))
        return np.concatenate([parts[one] for one in order])

    def lstm(pairs, h, c, way):
        w, r, b = (np.stack([turned(pair[i], (0, 2, 1, 3)) for pair in pairs]) for i in range(3))
        b = np.concatenate([b, np.zeros_like(b)], axis=1)
        y, last, cell = in_onnx(
            "LSTM", [x, w, r, b, None, np.stack(np.split(h, len(pairs), 1)), np.stack(np.split(c, len(pairs), 1))],
            outputs=3, hidden_size=width, direction=way,
        )  # fmt: skip
        return [
            np.concatenate(list(y.transpose(1, 0, 2, 3)), axis=-1),
            np.concatenate(list(last), -1),
            np.concatenate(list(cell), -1),
        ]

    w, r, b = (turned(one, (2, 0, 1))[None] for one in gru)
    y, last = in_onnx("GRU", [x, w, r, np.concatenate([b, np.zeros_like(b)], 1), None, one_h[None]], outputs=2,
                      hidden_size=width, linear_before_reset=1)  # fmt: skip
    bias = np.concatenate([plain[2], np.zeros_like(plain[2])])[None]
    _, end = in_onnx("RNN", [x, plain[0][None], plain[1][None], bias, None, one_h[None]], outputs=2, hidden_size=width)
    close(
        found,
        [
            *lstm([there], one_h, one_c, "forward"), *lstm([there], one_h, one_c, "reverse"),
            *lstm([there, back], h0, c0, "bidirectional"), y[:, 0], last[0], end, end[0],
        ],
        1e-5,
    )  # fmt: skip


def test_half_precision_is_rounded_after_every_operation(tmp_path):
    x, y = (rng(seed).normal(0, 30, (64, 33)).astype(np.float16) for seed in (0, 1))
    weight = rng(2).normal(size=(16, 33)).astype(np.float16)
    found = evaluated(
        tmp_path,
        {"x": x, "y": y},
        lambda x, y: [
            mb.add(x=mb.mul(x=x, y=y), y=x), mb.exp(x=x), mb.linear(x=x, weight=weight),
            mb.reduce_sum(x=mb.mul(x=x, y=x), axes=[1]),
        ],
        halves=True,
    )  # fmt: skip
    assert [one.dtype for one in found] == [np.float16] * 4
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found[0], x * y + x)  # numpy's half precision rounds each result too
        np.testing.assert_array_equal(found[1], np.exp(x.astype(np.float32)).astype(np.float16))
        exact = (x.astype(np.float64) @ weight.astype(np.float64).T).astype(np.float16)
        squares = (x * x).astype(np.float64).sum(1).astype(np.float16)
    np.testing.assert_allclose(found[2], exact, rtol=2e-3, atol=2e-2)  # sums are float32, rounded once
    np.testing.assert_allclose(found[3], squares, rtol=1e-3)
