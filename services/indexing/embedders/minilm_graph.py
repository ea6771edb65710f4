"""MiniLM-L6-v2 as an ONNX graph with 8-bit weights, made from the published weights.

The architecture is BERT (arXiv 1810.04805) with six layers, then mean pooling over the tokens and L2 normalisation.
Weight matrices are int8; the runtime quantises activations on the fly. Two of its operators do that:

- `DynamicQuantizeMatMul`, one scale per output channel and one for all activations: the fastest. Its weights use 7 of
  the 8 bits, because processors without VNNI add two products in 16 bits, where full-range weights overflow; so every
  processor computes the same integers.
- `MatMulNBits`, a scale per block of 128 weights and activations, for the second feed-forward matrix only: its inputs
  have outliers next to which everything else would be rounded away.

Mean cosine with the float32 model over 125 passages, and milliseconds per passage: the first operator everywhere 0.991
and 16.1, as here 0.996 and 18.4, the second everywhere 0.999 and 26.2, float32 42.

The graph takes one text at a time, without padding. The range of activations is found per run, so in a batch a text's
vector would depend on its neighbours; and with a processor's caches, batches of one are as fast as any.
The graph depends only on the weights and this module: every machine produces the same bytes.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from services.indexing.embedders.minilm_weights import Weights

LAYERS, HEADS, WIDTH = 6, 12, 384

_WEIGHT_RANGE = 64
_BLOCK, _BLOCK_RANGE, _BLOCK_ZERO = 128, 127, 128
_EPSILON = 1e-12
_RUNTIME = "com.microsoft"
# Below this size a weight stays in the graph, where the runtime looks for constants to fold.
_LARGE_BYTES = 64 * 1024
_PAGE_BYTES = 4096
_INT8_ACTIVATIONS = 4


def build_graph(weights: Weights) -> ModelProto:
    """Input `input_ids`, int64 (1, sequence); output `embedding`, float32 (1, WIDTH)."""
    graph = _Graph(weights)
    hidden = _embeddings(graph)
    for layer in range(LAYERS):
        hidden = _layer(graph, hidden, f"encoder.layer.{layer}.")
    mean = graph.op("ReduceMean", hidden, graph.constant([1], np.int64), keepdims=0)
    graph.nodes.append(helper.make_node("LpNormalization", [mean], ["embedding"], axis=-1, p=2))
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            "all-MiniLM-L6-v2",
            [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "sequence"])],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, WIDTH])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid(_RUNTIME, 1)],
        ir_version=10,
    )


def take_weights(model: ModelProto, file_name: str) -> bytes:
    """Move the large weights out of `model`, into the content of a file of that name next to the model's.

    The runtime maps that file, but copies weights held in the model: this saves 20 MB per process, and processes on one
    machine share them.
    """
    content = bytearray()
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) < _LARGE_BYTES:
            continue
        content += b"\0" * (-len(content) % _PAGE_BYTES)
        set_external_data(tensor, file_name, offset=len(content), length=len(tensor.raw_data))
        content += tensor.raw_data
        tensor.ClearField("raw_data")
    return bytes(content)


class _Graph:
    """Nodes and constants under construction. A node is named after its only output."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: object) -> str:
        output = f"{kind}_{len(self.nodes)}"
        node = helper.make_node(kind, inputs, [output], name=output, domain=domain)
        node.attribute.extend(helper.make_attribute(name, value) for name, value in sorted(attributes.items()))
        self.nodes.append(node)
        return output

    def constant(self, value: ArrayLike, dtype: type[np.generic] = np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        # `order` and not `ascontiguousarray`, which makes scalars into vectors.
        self.constants.append(numpy_helper.from_array(np.array(value, dtype=dtype, order="C"), name))
        return name

    def layer_norm(self, value: str, name: str) -> str:
        scale, shift = (self.constant(self.weights[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self.op("LayerNormalization", value, scale, shift, axis=-1, epsilon=_EPSILON)

    def dense(self, value: str, *names: str) -> str:
        """value @ W + b with int8 W; several layers on the same value are computed as one, side by side."""
        weight = np.concatenate([self.weights[f"{name}.weight"] for name in names]).T
        shift = np.concatenate([self.weights[f"{name}.bias"] for name in names])
        integers, scales = _quantise(weight, axis=0)
        return self.op(
            "DynamicQuantizeMatMul",
            value,
            self.constant(integers, np.int8),
            self.constant(scales),
            self.constant(np.zeros(len(scales)), np.int8),
            self.constant(shift),
            domain=_RUNTIME,
        )

    def dense_in_blocks(self, value: str, name: str) -> str:
        """value @ W + b with int8 W, scaled block by block."""
        weight = self.weights[f"{name}.weight"]
        outputs, inputs = weight.shape
        blocks = weight.reshape(outputs, inputs // _BLOCK, _BLOCK)
        scales = np.abs(blocks).max(axis=2) / np.float32(_BLOCK_RANGE)
        integers = np.rint(blocks / scales[..., None]) + _BLOCK_ZERO
        return self.op(
            "MatMulNBits",
            value,
            self.constant(integers, np.uint8),
            self.constant(scales.reshape(-1)),
            "",
            "",
            self.constant(self.weights[f"{name}.bias"]),
            domain=_RUNTIME,
            K=inputs,
            N=outputs,
            bits=8,
            block_size=_BLOCK,
            accuracy_level=_INT8_ACTIVATIONS,
        )


def _quantise(values: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    scales = np.maximum(np.abs(values).max(axis=axis), np.finfo(np.float32).tiny) / np.float32(_WEIGHT_RANGE)
    integers = np.rint(values / np.expand_dims(scales, axis)).astype(np.int8)
    return integers, scales


def _embeddings(graph: _Graph) -> str:
    """Word, position and (always the first) segment embeddings; words as int8 with a scale per word."""
    words, scales = _quantise(graph.weights["embeddings.word_embeddings.weight"], axis=1)
    integers = graph.op("Cast", graph.op("Gather", graph.constant(words, np.int8), "input_ids"), to=TensorProto.FLOAT)
    scale = graph.op("Gather", graph.constant(scales[:, None]), "input_ids")
    word = graph.op("Mul", integers, scale)
    segment = graph.weights["embeddings.token_type_embeddings.weight"][0]
    positions = graph.constant(graph.weights["embeddings.position_embeddings.weight"] + segment)
    length = graph.op("Shape", "input_ids", start=1, end=2)
    position = graph.op("Slice", positions, graph.constant([0], np.int64), length, graph.constant([0], np.int64))
    return graph.layer_norm(graph.op("Add", word, position), "embeddings.LayerNorm")


def _layer(graph: _Graph, hidden: str, name: str) -> str:
    attended = graph.dense(_attention(graph, hidden, f"{name}attention.self."), f"{name}attention.output.dense")
    attended = graph.layer_norm(graph.op("Add", attended, hidden), f"{name}attention.output.LayerNorm")
    inner = graph.op("Gelu", graph.dense(attended, f"{name}intermediate.dense"))
    outer = graph.op("Add", graph.dense_in_blocks(inner, f"{name}output.dense"), attended)
    return graph.layer_norm(outer, f"{name}output.LayerNorm")


def _attention(graph: _Graph, hidden: str, name: str) -> str:
    joined = graph.dense(hidden, f"{name}query", f"{name}key", f"{name}value")
    split = graph.op("Reshape", joined, graph.constant([0, 0, 3, HEADS, WIDTH // HEADS], np.int64))

    def part(number: int, order: list[int]) -> str:
        taken = graph.op("Gather", split, graph.constant(number, np.int64), axis=2)
        return graph.op("Transpose", taken, perm=order)

    query, key, value = part(0, [0, 2, 1, 3]), part(1, [0, 2, 3, 1]), part(2, [0, 2, 1, 3])
    scores = graph.op("Mul", graph.op("MatMul", query, key), graph.constant((WIDTH // HEADS) ** -0.5))
    shares = graph.op("Softmax", scores, axis=-1)
    mixed = graph.op("Transpose", graph.op("MatMul", shares, value), perm=[0, 2, 1, 3])
    return graph.op("Reshape", mixed, graph.constant([0, 0, WIDTH], np.int64))
