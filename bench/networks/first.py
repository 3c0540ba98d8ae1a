"""Time to the first result and most memory: a new process loads the networks from a file, runs them on one image and ends.

    python first.py RELIEVO IMAGE [--rounds 5] [--threads 2]

The four networks of the size of the weights in the program, on one image of 64x64 pixels: `RELIEVO reconstruct --framed
--refine 0 --format json IMAGE`, which also reads the image, renders and writes the record, beside a Python process for each of
the other programs of bench.py that reads the file that it runs (PyTorch: torch.save; MNN: the converted graph). Prints the
medians over the rounds, the programs in turn, of the wall time and of the process's largest resident memory.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import bench

# What a process of each program runs; `path` is the file without its suffix.
PROGRAMS = {
    "Python and NumPy alone": "import numpy",
    "PyTorch": """
import sys, torch
sys.path[:0] = PATHS
torch.set_num_threads(THREADS)
module = torch.load(path + ".whole", weights_only=False)
with torch.no_grad(): module(torch.zeros(1, 3, 64, 64))
""",
    "ONNX Runtime": """
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = THREADS
session = onnxruntime.InferenceSession(path + ".onnx", options, providers=["CPUExecutionProvider"])
session.run(None, {"x": numpy.zeros((1, 3, 64, 64), "f")})
""",
    "OpenVINO, f32": """
import numpy, openvino
settings = {"INFERENCE_NUM_THREADS": THREADS, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
compiled = openvino.Core().compile_model(path + ".onnx", "CPU", settings)
compiled.create_infer_request().infer({"x": numpy.zeros((1, 3, 64, 64), "f")})
""",
    "MNN": """
import MNN, numpy
manager = MNN.nn.create_runtime_manager(({"backend": 0, "numThread": THREADS, "precision": "high"},))
outputs = ["depth", "albedo", "light", "view"]
module = MNN.nn.load_module_from_file(path + ".mnn", ["x"], outputs, runtime_manager=manager)
for y in module.forward([MNN.expr.const(numpy.zeros((1, 3, 64, 64), "f"), [1, 3, 64, 64], MNN.expr.NCHW)]): y.read()
""",
}


def run(command):
    """Wall time in seconds and largest resident memory in bytes of a process."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    return (seconds, usage.ru_maxrss * 1024) if child.returncode == 0 else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("relievo", help="the program")
    parser.add_argument("image", help="an image of one face, cropped")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--threads", type=int, default=2, help="default 2")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        case = bench.Case("shipped", 1, folder)
        path = case.path.with_suffix("")
        bench.torch.save(case.module, path.with_suffix(".whole"))
        try:
            bench.mnn(case, options.threads)
        except Exception as error:  # as in bench.py
            print(f"MNN is left out: {error!r}".splitlines()[0][:200])
        head = f"THREADS, path, PATHS = {options.threads}, {str(path)!r}, {sys.path[:3]!r}\n"
        output = ["-o", str(folder / "results")]
        arguments = ["--framed", "--refine", "0", "--format", "json", "-m", "faces", options.image]
        commands = {"relievo": [options.relievo, "reconstruct", *arguments, *output]}
        commands |= {name: [sys.executable, "-W", "ignore", "-c", head + code] for name, code in PROGRAMS.items()}
        results = {name: [] for name in commands}
        os.environ["RAYON_NUM_THREADS"] = str(options.threads)
        for _ in range(options.rounds + 1):
            for name, command in commands.items():
                results[name].append(run(command))
        for name, all_runs in results.items():
            runs = all_runs[1:]  # the first fills the cache of files
            if None in runs:
                print(f"{name} is left out: its process failed")
                continue
            seconds, memory = (statistics.median(values) for values in zip(*runs, strict=True))
            print(f"{name:24s} {1e3 * seconds:8.0f} ms {memory / 2**20:8.0f} MiB")


if __name__ == "__main__":
    main()
