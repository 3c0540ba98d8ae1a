"""Times PyTorch on a CPU: what `relievo bench` is compared with.

    python bench.py [--threads 2] [--seconds 8] [--json FILE] [--compile]

- forward: depth, albedo, light and view network on one image of 64x64, evaluation mode, no gradients.
- step: all five networks on 16 images, forward, backward from sums of squares of the outputs, Adam. No renderer, no VGG.
- matrix product: 2048x2048x2048, f32.

Two threads that are slower than one mean that other programs use the cores: PyTorch's threads wait for each other
after every operation, and lose 20-fold where a program that waits less loses twofold. Such a run says nothing; it is
marked `disturbed`, and the exit status is 1.

Each of the first two runs in PyTorch's own layout and in channels_last, and the faster is PyTorch's time. Medians of the
repetitions that fit into the seconds given, at least five, after two that do not count.
"""

import argparse
import json
import os
import statistics
import sys
import time

# Libraries read these when they are loaded.
for name in [name for name in os.environ if name.startswith(("OPENBLAS_", "NVPL_", "MKL_", "OMP_", "KMP_", "GOMP_"))]:
    del os.environ[name]

import torch  # noqa: E402

import model  # noqa: E402
import nets  # noqa: E402

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def measure(work, seconds):
    """Median and fastest of the repetitions in seconds, and their number."""
    for _ in range(2):
        work()
    times = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times), min(times), len(times)


def images(count, layout):
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(count, 3, 64, 64, generator=generator) * 2 - 1).contiguous(memory_format=LAYOUTS[layout])


def forward_work(layout, compiled):
    networks = nets.Networks(confidence=False).eval().to(memory_format=LAYOUTS[layout])
    parts = [networks.depth, networks.albedo, networks.light, networks.view]
    if compiled:
        parts = [torch.compile(part) for part in parts]
    x = images(1, layout)

    @torch.no_grad()
    def work():
        for part in parts:
            part(x)

    return work


def step_work(layout, compiled):
    networks = nets.Networks().train().to(memory_format=LAYOUTS[layout])
    adam = model.optimiser(networks)
    parts = [networks.depth, networks.albedo, networks.light, networks.view, networks.confidence]
    if compiled:
        parts = [torch.compile(part) for part in parts]
    x = images(16, layout)

    def work():
        outputs = []
        for part in parts:
            output = part(x)
            outputs += output if isinstance(output, tuple) else [output]
        loss = sum(output.square().sum() for output in outputs)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()

    return work


def is_disturbed(threads, seconds):
    """Whether `threads` threads are slower than one, which they are only where the cores are not free."""
    work = forward_work("contiguous", compiled=False)
    torch.set_num_threads(1)
    alone, _, _ = measure(work, seconds)
    torch.set_num_threads(threads)
    together, _, _ = measure(work, seconds)
    return threads > 1 and together > alone * 1.1


def matrix_product_gflops(seconds):
    a, b = torch.rand(2048, 2048), torch.rand(2048, 2048)
    out = torch.empty(2048, 2048)
    median, fastest, count = measure(lambda: torch.mm(a, b, out=out), seconds)
    return [2 * 2048**3 / seconds / 1e9 for seconds in (median, fastest)], count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads for one operation (default 2)")
    parser.add_argument("--seconds", type=float, default=8, help="per measurement (default 8)")
    parser.add_argument("--json", help="also write the numbers to this file")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too (needs a C++ compiler)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    print(f"PyTorch {torch.__version__}, {options.threads} threads")
    result = {"program": "pytorch", "version": torch.__version__, "threads": options.threads}
    disturbed_before = is_disturbed(options.threads, options.seconds / 4)
    for name, make in [("forward-1", forward_work), ("step-16", step_work)]:
        medians, all_fastest = {}, {}
        for compiled in [False, True] if options.compile else [False]:
            for layout in LAYOUTS:
                label = f"{layout}, compiled" if compiled else layout
                try:
                    median, fastest, count = measure(make(layout, compiled), options.seconds)
                except Exception as error:  # a missing compiler shows up as one of many kinds
                    if not compiled:
                        raise
                    print(f"{name}, {label}: {error}".splitlines()[0], file=sys.stderr)
                    continue
                medians[label], all_fastest[label] = median, fastest
                numbers = f"{median * 1e3:9.1f} ms, fastest {fastest * 1e3:9.1f} ms, of {count}"
                print(f"{name:16s} {label:24s} {numbers}", flush=True)
        best = min((label for label in medians if "compiled" not in label), key=medians.get)
        result[name] = {"seconds": medians[best], "layout": best, "medians": medians, "fastest": all_fastest}
    (median, fastest), count = matrix_product_gflops(options.seconds / 4)
    result["matrix-product-gflops"] = median
    print(f"{'matrix product':16s} {'2048^3':24s} {median:9.0f} GFLOP/s, fastest {fastest:.0f}, of {count}")
    # At the end as well as at the beginning: other programs come and go.
    result["disturbed"] = disturbed_before or is_disturbed(options.threads, options.seconds / 4)
    if options.json:
        with open(options.json, "w") as out:
            json.dump(result, out, indent=1)
    if result["disturbed"]:
        sys.exit("disturbed: threads were slower together than one alone; stop other programs and run this again")


if __name__ == "__main__":
    main()
