"""Times the four networks of inference in other programs on a CPU: what the rows `forward-1` and `forward-16` of
`relievo bench --only inference` are compared with.

    python bench.py [--threads 2] [--seconds 8] [--json FILE] [--peers PROGRAM]

The networks of bench/pytorch/nets.py, depth, albedo, light and view, with random weights, at the paper's size and at that of
the weights in the program, become one ONNX graph with four results for 1 and for 16 images. PyTorch runs them in both of its
layouts, of which the faster counts; ONNX Runtime and OpenVINO read the graph; MNN and ncnn read what their own converters
make of it; rten and tract do in `--peers`, the program that `cargo build --release` makes of bench/networks/peers. A program
that is not installed, or cannot run the graph, is left out, with a line that says so. Results must be those of PyTorch, within
3e-3 (OpenVINO's default precision and MNN's are not held to that). Medians of the repetitions that fit into the seconds
given, at least three, after one that does not count.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import tomllib

# Libraries read these when they are loaded.
for name in [name for name in os.environ if name.startswith(("OPENBLAS_", "NVPL_", "MKL_", "OMP_", "KMP_", "GOMP_"))]:
    del os.environ[name]

import numpy  # noqa: E402
import torch  # noqa: E402

BENCH = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(BENCH), str(BENCH / "pytorch")]

import nets  # noqa: E402
from timing import measure  # noqa: E402

SIZES = {"paper": {"nf": 64, "z": 256, "encoder": 32}, "shipped": {"nf": 16, "z": 64, "encoder": 16}}
COUNTS = [1, 16]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


class Inference(torch.nn.Module):
    """Images [B,3,64,64] to depth, albedo, light and view."""

    def __init__(self, size):
        super().__init__()
        self.networks = nets.Networks(confidence=False, **size)

    def forward(self, x):
        networks = self.networks
        return networks.depth(x), networks.albedo(x), networks.light(x), networks.view(x)


class Case:
    """A size and a number of images: the module, its input and result, and its graph in a file."""

    def __init__(self, name, count, folder):
        torch.manual_seed(0)
        self.name, self.count = name, count
        self.module = Inference(SIZES[name]).eval()
        self.image = torch.rand(count, 3, 64, 64) * 2 - 1
        with torch.no_grad():
            self.right = [y.numpy() for y in self.module(self.image)]
        self.path = folder / f"{name}_{count}.onnx"
        names = {"input_names": ["x"], "output_names": ["depth", "albedo", "light", "view"]}
        torch.onnx.export(self.module, (self.image,), self.path, dynamo=False, opset_version=17, **names)

    def check(self, results):
        for got, right in zip(results, self.right, strict=True):
            off = numpy.abs(numpy.asarray(got).reshape(right.shape) - right).max()
            if off > 3e-3:
                raise ValueError(f"a result is off by {off}")


def pytorch(case, threads):
    torch.set_num_threads(threads)
    works = {}
    for layout in LAYOUTS:
        module, image = case.module.to(memory_format=layout), case.image.to(memory_format=layout)

        def work(module=module, image=image):
            with torch.no_grad():
                module(image)

        works[f"PyTorch {torch.__version__.split('+')[0]}, {layout}".replace("torch.", "")] = work
    return works


def onnx_runtime(case, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(case.path, options, providers=["CPUExecutionProvider"])
    image = case.image.numpy()
    case.check(session.run(None, {"x": image}))
    return {f"ONNX Runtime {onnxruntime.__version__}": lambda: session.run(None, {"x": image})}


def openvino(case, threads):
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    version, image, works = openvino.__version__.split("-")[0], case.image.numpy(), {}
    for name, precision in [("f32", {"INFERENCE_PRECISION_HINT": "f32"}), ("default", {})]:
        compiled = core.compile_model(core.read_model(case.path), "CPU", {**settings, **precision})
        used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        request = compiled.create_infer_request()
        if name == "f32":
            case.check([request.infer({"x": image})[output] for output in compiled.outputs])
        elif used == "f32":
            continue
        works[f"OpenVINO {version}, {used}"] = lambda request=request: request.infer({"x": image})
    return works


def mnn(case, threads):
    import MNN

    path = case.path.with_suffix(".mnn")
    # The converter itself: MNN's own script around it installs a package and sends statistics.
    convert = [sys.executable, "-c", "import MNN, _tools, sys; _tools.mnnconvert(sys.argv)"]
    arguments = ["-f", "ONNX", "--modelFile", str(case.path), "--MNNModel", str(path), "--bizCode", "MNN"]
    subprocess.run(convert + arguments, check=True, capture_output=True)
    image, works = case.image.numpy(), {}
    for precision in ["high", "low"]:
        manager = MNN.nn.create_runtime_manager(({"backend": 0, "numThread": threads, "precision": precision},))
        outputs = ["depth", "albedo", "light", "view"]
        module = MNN.nn.load_module_from_file(str(path), ["x"], outputs, runtime_manager=manager)

        def work(module=module):
            x = MNN.expr.const(image, list(image.shape), MNN.expr.NCHW)
            return [numpy.array(MNN.expr.convert(y, MNN.expr.NCHW).read()) for y in module.forward([x])]

        if precision == "high":
            case.check(work())
        works[f"MNN {MNN.version()}, precision {precision}"] = work
    return works


def ncnn(case, threads):
    import ncnn
    import pnnx

    if case.count != 1:
        return {}
    path = case.path.with_suffix(".pt")
    torch.jit.trace(case.module, case.image).save(str(path))
    # It makes files of the same name, in which only letters, digits and underscores are kept.
    run = [pnnx.EXEC_PATH, path.name, f"inputshape=[{case.count},3,64,64]", "fp16=0"]
    subprocess.run(run, check=True, capture_output=True, cwd=path.parent)
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.load_param(str(path.with_suffix(".ncnn.param")))
    net.load_model(str(path.with_suffix(".ncnn.bin")))
    image = case.image[0].numpy()

    def work():
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(image))
        return [numpy.array(extractor.extract(f"out{number}")[1]) for number in range(4)]

    case.check(work())
    return {f"ncnn {ncnn.__version__}": work}


def rust(program, case, threads, seconds):
    """Medians of rten and tract, which `program` measures, checks and prints as JSON."""
    right = case.path.with_suffix(".right")
    numpy.concatenate([case.image.numpy().ravel(), *(y.ravel() for y in case.right)]).astype("<f4").tofile(right)
    run = [program, case.path, right, str(case.count), str(threads), str(seconds)]
    medians = json.loads(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
    lock = tomllib.loads((pathlib.Path(__file__).parent / "peers/Cargo.lock").read_text())
    versions = {package["name"]: package["version"] for package in lock["package"]}
    packages = {"rten": "rten", "tract": "tract-onnx"}
    return {f"{name} {versions[packages[name]]}": median for name, median in medians.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="default 2")
    parser.add_argument("--seconds", type=float, default=8, help="per measurement (default 8)")
    parser.add_argument("--json", help="also write the numbers to this file")
    parser.add_argument("--peers", help="the program of bench/networks/peers")
    options = parser.parse_args()
    result, missing = {}, set()

    def note(case, name, median):
        label = f"{case.name}-{case.count}"
        print(f"{label:12s} {name:44s} {1e3 * median:8.2f} ms", flush=True)
        result.setdefault(name, {})[label] = median

    with tempfile.TemporaryDirectory() as folder:
        for name in SIZES:
            for count in COUNTS:
                case = Case(name, count, pathlib.Path(folder))
                for prepare in [pytorch, onnx_runtime, openvino, mnn, ncnn]:
                    if prepare in missing:
                        continue
                    try:
                        for what, work in prepare(case, options.threads).items():
                            note(case, what, measure(work, options.seconds)[0])
                    except Exception as error:  # programs fail in as many ways as there are programs
                        missing.add(prepare)
                        print(f"{prepare.__name__} is left out: {error!r}".splitlines()[0][:200])
                if options.peers:
                    for what, median in rust(options.peers, case, options.threads, options.seconds).items():
                        if isinstance(median, str):
                            print(f"{what} is left out: {median}")
                        else:
                            note(case, what, median)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
