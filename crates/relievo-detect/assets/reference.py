"""Runs the network on an image made by a formula, by other means than relievo: what the test in
crates/relievo-detect/src/network.rs holds the engine to.

    pip install numpy onnx onnxruntime
    python reference.py centerface-f16.safetensors

The graph is built here from the table of blocks in the MobileNetV2 paper, over the embedded weights in f32.
"""

import json
import struct
import sys

import numpy
from onnx import TensorProto, helper, numpy_helper

HEIGHT, WIDTH = 64, 96
# Channels in, channels out, expansion, stride.
BLOCKS = [
    (32, 16, 1, 1), (16, 24, 6, 2), (24, 24, 6, 1), (24, 32, 6, 2), (32, 32, 6, 1), (32, 32, 6, 1), (32, 64, 6, 2),
    (64, 64, 6, 1), (64, 64, 6, 1), (64, 64, 6, 1), (64, 96, 6, 1), (96, 96, 6, 1), (96, 96, 6, 1), (96, 160, 6, 2),
    (160, 160, 6, 1), (160, 160, 6, 1), (160, 320, 6, 1),
]  # fmt: skip


def read(path):
    raw = open(path, "rb").read()
    start = 8 + struct.unpack_from("<Q", raw)[0]
    entries = json.loads(raw[8:start])
    entries.pop("__metadata__", None)
    tensors = {}
    for name, entry in entries.items():
        begin, end = (start + offset for offset in entry["data_offsets"])
        half = numpy.frombuffer(raw[begin:end], numpy.float16)
        tensors[name] = half.astype(numpy.float32).reshape(entry["shape"])
    return tensors


class Graph:
    def __init__(self, weights):
        self.weights, self.nodes, self.constants = weights, [], []

    def node(self, kind, inputs, **attributes):
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, values):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(numpy.ascontiguousarray(values), name))
        return name

    def convolution(self, x, name, stride=1, padding=0, relu=True, kind="Conv", depthwise=False):
        weight, groups = self.weights[f"{name}.weight"], 1
        if depthwise:
            weight, groups = weight.transpose(2, 0, 1)[:, None], weight.shape[2]
        else:
            weight = weight.transpose(0, 3, 1, 2)
        inputs = [x, self.constant(weight), self.constant(self.weights[f"{name}.bias"])]
        y = self.node(kind, inputs, strides=[stride] * 2, pads=[padding] * 4, group=groups)
        return self.node("Relu", [y]) if relu else y


def network(graph):
    x, kept = graph.convolution("x", "stem", 2, 1), {}
    for number, (inputs, outputs, expansion, stride) in enumerate(BLOCKS):
        name = f"block.{number}"
        y = graph.convolution(x, f"{name}.expand") if expansion > 1 else x
        y = graph.convolution(y, f"{name}.depthwise", stride, 1, depthwise=True)
        y = graph.convolution(y, f"{name}.project", relu=False)
        x = kept[number] = graph.node("Add", [x, y]) if stride == 1 and inputs == outputs else y
    x = graph.convolution(x, "top")
    for level, block in enumerate((12, 5, 2)):
        up = graph.convolution(x, f"up.{level}", 2, kind="ConvTranspose")
        x = graph.node("Add", [up, graph.convolution(kept[block], f"lateral.{level}")])
    return graph.convolution(graph.convolution(x, "neck", 1, 1), "heads", relu=False)


def model(weights, height, width):
    """The ONNX model for one image."""
    graph = Graph(weights)
    output = network(graph)
    shape = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, height, width])
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    whole = helper.make_graph(graph.nodes, "centerface", [shape], [result], graph.constants)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    return model


def main(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(model(read(path), HEIGHT, WIDTH).SerializeToString())
    v, u, c = numpy.meshgrid(numpy.arange(HEIGHT), numpy.arange(WIDTH), numpy.arange(3), indexing="ij")
    wave = numpy.sin(0.11 * u + 0.07 * v + 2.1 * c) * numpy.cos(0.05 * u * (c + 1) - 0.03 * v)
    image = (127.5 + 127.5 * wave).astype(numpy.float32)
    y = session.run(None, {"x": image.transpose(2, 0, 1)[None]})[0][0].transpose(1, 2, 0)
    for place in ((0, 0), (7, 11), (15, 23)):
        print(place, *(f"{value:.5f}" for value in y[place]))
    print("means of sizes", *(f"{value:.5f}" for value in numpy.abs(y).mean((0, 1))))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
