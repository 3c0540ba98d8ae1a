"""Times CenterFace in ONNX Runtime, OpenVINO and MNN on a CPU: what the rows `detector-*` of `relievo bench` are compared with.

    python bench.py [--threads 2] [--seconds 8] [--json FILE]

The graph is built by crates/relievo-detect/assets/reference.py from the weights in the program, in f32, for one image of each
size. A program that is not installed is left out, with a line that says so. Medians of the repetitions that fit into the
seconds given, at least three, after one that does not count. OpenVINO computes in f32 and, where the processor has more
(bf16), by its default as well: `INFERENCE_PRECISION_HINT`. MNN reads what its own converter makes of the graph.
"""

import argparse
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy
import onnx

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from timing import measure  # noqa: E402

SIZES = [(384, 256), (1280, 800), (1152, 1152), (2048, 1536)]
ASSETS = pathlib.Path(__file__).parents[2] / "crates/relievo-detect/assets"


def reference_module():
    """assets/reference.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("reference", ASSETS / "reference.py")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    return reference


def graphs():
    """Width, height and the serialised graph for each size."""
    reference = reference_module()
    weights = reference.read(ASSETS / "centerface-f16.safetensors")
    for width, height in SIZES:
        yield width, height, reference.model(weights, height, width).SerializeToString()


def onnx_runtime(graph, image, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return {f"ONNX Runtime {onnxruntime.__version__}": lambda: session.run(None, {"x": image})}


def openvino(graph, image, threads):
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    version = openvino.__version__.split("-")[0]
    works = {}
    model = core.read_model(graph, b"")
    for name, precision in [("f32", {"INFERENCE_PRECISION_HINT": "f32"}), ("default", {})]:
        compiled = core.compile_model(model, "CPU", {**settings, **precision})
        used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if name == "f32" or used != "f32":
            request = compiled.create_infer_request()
            works[f"OpenVINO {version}, {used}"] = lambda request=request: request.infer({"x": image})
    return works


def mnn(graph, image, threads):
    import MNN

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "graph.mnn"
        path.with_suffix(".onnx").write_bytes(graph)
        # The converter itself: MNN's own script around it installs a package and sends statistics.
        convert = [sys.executable, "-c", "import MNN, _tools, sys; _tools.mnnconvert(sys.argv)"]
        files = ["--modelFile", str(path.with_suffix(".onnx")), "--MNNModel", str(path)]
        subprocess.run([*convert, "-f", "ONNX", *files, "--bizCode", "MNN"], check=True, capture_output=True)
        manager = MNN.nn.create_runtime_manager(({"backend": 0, "numThread": threads, "precision": "high"},))
        outputs = [output.name for output in onnx.load_from_string(graph).graph.output]
        module = MNN.nn.load_module_from_file(str(path), ["x"], outputs, runtime_manager=manager)

    def work():
        x = MNN.expr.const(image, list(image.shape), MNN.expr.NCHW)
        return [numpy.array(MNN.expr.convert(y, MNN.expr.NCHW).read()) for y in module.forward([x])]

    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for ours, right in zip(work(), session.run(None, {"x": image}), strict=True):
        if numpy.abs(ours.reshape(right.shape) - right).max() > 1e-2:
            raise OSError("results of MNN are not those of ONNX Runtime")
    return {f"MNN {MNN.version()}": work}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="default 2")
    parser.add_argument("--seconds", type=float, default=8, help="per measurement (default 8)")
    parser.add_argument("--json", help="also write the numbers to this file")
    options = parser.parse_args()
    result, missing = {}, set()
    for width, height, graph in graphs():
        image = numpy.random.default_rng(1).uniform(0, 255, (1, 3, height, width)).astype(numpy.float32)
        for program, prepare in [("ONNX Runtime", onnx_runtime), ("OpenVINO", openvino), ("MNN", mnn)]:
            if program in missing:
                continue
            try:
                works = prepare(graph, image, options.threads)
            except (ImportError, OSError) as error:
                missing.add(program)
                print(f"{program} is left out: {error}".splitlines()[0])
                continue
            for name, work in works.items():
                median, count = measure(work, options.seconds)
                print(f"{width}x{height} {name:30s} {1e3 * median:8.1f} ms (of {count})", flush=True)
                result.setdefault(name, {})[f"{width}x{height}"] = median
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
