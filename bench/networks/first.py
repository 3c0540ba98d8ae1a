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

import bench

# What a process of each program runs; `path` is the file without its suffix.
PROGRAMS = {
    "Python and NumPy alone": "import numpy",
    "PyTorch": """
import sys, torch
sys.path[:0] = PATHS
torch.set_num_threads(THREADS)
import nets
networks = nets.Networks(confidence=False, **SIZE)
networks.load_state_dict(torch.load(path + ".weights"))
x = torch.zeros(1, 3, 64, 64)
with torch.no_grad(): networks.depth(x), networks.albedo(x), networks.light(x), networks.view(x)
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


# Measures a process and prints its seconds, its largest resident memory in KiB and its exit status. It is small, for a
# process begins with the size of the one that starts it.
MEASURE = """
import os, sys, time
nothing = os.open(os.devnull, os.O_WRONLY)
start = time.perf_counter()
quiet = [(os.POSIX_SPAWN_DUP2, nothing, 1), (os.POSIX_SPAWN_DUP2, nothing, 2)]
_, status, usage = os.wait4(os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet), 0)
print(time.perf_counter() - start, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""


def run(command):
    """Wall time in seconds and largest resident memory in bytes of a process; None if it failed."""
    measure = [sys.executable, "-I", "-S", "-c", MEASURE, *command]
    seconds, memory, code = subprocess.run(measure, check=True, capture_output=True, text=True).stdout.split()
    return (float(seconds), int(memory) * 1024) if code == "0" else None


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
        bench.torch.save(case.module.networks.state_dict(), path.with_suffix(".weights"))
        try:
            bench.mnn(case, options.threads)
        except Exception as error:  # as in bench.py
            print(f"MNN is left out: {error!r}".splitlines()[0][:200])
        values = options.threads, str(path), [str(bench.BENCH / "pytorch")], bench.SIZES["shipped"]
        head = f"THREADS, path, PATHS, SIZE = {values!r}\n"
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
