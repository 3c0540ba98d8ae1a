"""How far CenterFace in 8 bits is from f32: by ONNX Runtime's static quantisation, unsigned activations and signed weights
with a scale for each channel, the ranges of activations from other photographs.

    python quantise.py FOLDER

FOLDER has at least 140 JPEG photographs of a face each, which are resized to 192x192: 40 give the ranges, 100 are compared, at
the place where f32 is most certain. Prints how far the certainty and the box (height, width, offset of its middle, in pixels of
the input) are off, with all layers in 8 bits and with the 1x1 convolutions of the blocks alone, which are most of the
arithmetic.
"""

import pathlib
import sys
import tempfile

import numpy
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
from PIL import Image

from bench import ASSETS, reference_module

SIDE = 192
CALIBRATED, COMPARED = 40, 100


def read(path):
    image = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.BICUBIC)
    return numpy.asarray(image).astype(numpy.float32).transpose(2, 0, 1)[None]


class Photographs(CalibrationDataReader):
    def __init__(self, paths):
        self.paths = iter(paths)

    def get_next(self):
        path = next(self.paths, None)
        return None if path is None else {"x": read(path)}


def run(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda image: numpy.moveaxis(session.run(None, {"x": image})[0][0], 0, -1)


def certainty(place):
    return 1 / (1 + numpy.exp(-place[0]))


def box(place):
    return 4 * numpy.array([*numpy.exp(place[1:3]), *place[3:5]])


def main(folder):
    photographs = sorted(pathlib.Path(folder).glob("*.jpg"))
    if len(photographs) < CALIBRATED + COMPARED:
        sys.exit(f"{folder}: {len(photographs)} photographs of at least {CALIBRATED + COMPARED}")
    reference = reference_module()
    graph = reference.model(reference.read(ASSETS / "centerface-f16.safetensors"), SIDE, SIDE)
    shapes = {weight.name: weight.dims for weight in graph.graph.initializer}
    blocks = []
    for number, node in enumerate(graph.graph.node):
        node.name = f"layer-{number}"
        if node.op_type == "Conv":
            outputs, inputs, rows, _ = shapes[node.input[1]]
            # Those beside the blocks have few channels on one side, or more than a pixel.
            if rows == 1 and outputs * inputs >= 16 * 96:
                blocks.append(node.name)
    chosen = [
        ("all layers", None),
        (f"the blocks' {len(blocks)} layers of 1x1", blocks),
        (f"the last {len(blocks) - 20} of them", blocks[20:]),
    ]
    with tempfile.TemporaryDirectory() as work:
        exact = f"{work}/f32.onnx"
        onnx.save(graph, exact)
        right = run(exact)
        for name, nodes in chosen:
            for method in [CalibrationMethod.MinMax, CalibrationMethod.Percentile]:
                path = f"{work}/int8.onnx"
                quantize_static(
                    exact,
                    path,
                    Photographs(photographs[:CALIBRATED]),
                    per_channel=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    calibrate_method=method,
                    nodes_to_quantize=nodes,
                )
                near, off = run(path), []
                for photograph in photographs[CALIBRATED : CALIBRATED + COMPARED]:
                    image = read(photograph)
                    a, b = right(image), near(image)
                    place = numpy.unravel_index(a[..., 0].argmax(), a.shape[:2])
                    pixels = numpy.abs(box(a[place]) - box(b[place])).max()
                    off.append((abs(certainty(a[place]) - certainty(b[place])), pixels))
                score, pixels = numpy.array(off).T
                print(
                    f"{name}, {method.name}: certainty off by {score.mean():.4f}, at most {score.max():.4f}; "
                    f"box by {pixels.mean():.2f} pixels, at most {pixels.max():.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
