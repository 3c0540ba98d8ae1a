"""How the programs beside relievo are timed: bench/detector and bench/meshes."""

import statistics
import time


def measure(work, seconds):
    """Median in seconds of the repetitions that fit into so many seconds, at least three, and their number; the first run
    does not count."""
    work()
    times = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times), len(times)
