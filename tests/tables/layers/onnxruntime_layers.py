"""The operators RNN, GRU and LSTM of ONNX, as ONNX Runtime computes them on a CPU, and its Attention."""

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper
from serve import HEADS, Attention, Recurrent, serve

OPSET, IR = 23, 10


def computed(node, inputs, outputs):
    values = [helper.make_tensor_value_info(name, _type(one), one.shape) for name, one in inputs.items()]
    results = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}{axis}" for axis in range(rank)])
        for name, rank in outputs.items()
    ]
    graph = helper.make_graph([node], "layer", values, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(list(outputs), inputs)


def _type(one):
    return {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32, "bool": TensorProto.BOOL}[str(one.dtype)]


def recurrent(operator, kind, **attributes):
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[kind]

    def shapes(inputs, hidden):
        return {"W": (1, gates * hidden, inputs), "R": (1, gates * hidden, hidden), "B": (1, 2 * gates * hidden)}

    def run(parameters, x, states, lengths):
        given = {"X": np.float32(x).transpose(1, 0, 2)} | {name: np.float32(one) for name, one in parameters.items()}
        names = ["X", "W", "R", "B", "", "", ""]
        if lengths is not None:
            given["sequence_lens"] = np.int32(lengths)
            names[4] = "sequence_lens"
        outputs = {"Y": 4, "Y_h": 3} | ({"Y_c": 3} if kind == "lstm" else {})
        for place, name, one in zip((5, 6), ("initial_h", "initial_c"), states or (), strict=False):
            given[name] = np.float32(one)[None]
            names[place] = name
        while not names[-1]:
            names.pop()
        hidden = parameters["R"].shape[2]
        node = helper.make_node(operator, names, list(outputs), hidden_size=hidden, **attributes)
        every, *after = computed(node, given, outputs)
        return every[:, 0].transpose(1, 0, 2), [one[0] for one in after]

    return Recurrent(kind, None, run, "sequence_lens", shapes=shapes)


def attention(parameters, query, key, value, mask):
    given = {name: np.float32(one) for name, one in (("Q", query), ("K", key), ("V", value))}
    if mask is not None:
        given["attn_mask"] = mask[:, None]
    node = helper.make_node("Attention", list(given), ["Y"], q_num_heads=HEADS, kv_num_heads=HEADS)
    return computed(node, given, {"Y": 3})[0]


serve(
    {
        "RNN": recurrent("RNN", "rnn"),
        "GRU": recurrent("GRU", "gru"),
        "GRU, linear_before_reset=1": recurrent("GRU", "gru", linear_before_reset=1),
        "LSTM": recurrent("LSTM", "lstm"),
        "Attention": Attention(lambda *_: {}, attention, None, "attn_mask", laws=False),
    },
    ("onnxruntime", "onnx", "numpy"),
    "float32",
)
