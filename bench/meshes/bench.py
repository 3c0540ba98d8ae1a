"""Times Mitsuba 3 and Open3D on a CPU: what the rows `mesh-*` of `relievo bench` are compared with.

    python bench.py TEAPOT.obj [--threads 2] [--seconds 8] [--json FILE]

The task of `relievo bench`: the teapot, moved into [-1, 1], seen from elevation 30, azimuth 30, distance 2.732, half the
field of view 30 degrees, 256x256 pixels; its silhouette, and the gradient of the sum of the silhouette times random numbers
in the vertices. A program that is not installed is left out, with a line that says so. Medians of the repetitions that fit
into the seconds given, at least three, after one that does not count (it compiles).

- Mitsuba 3, `llvm_ad_rgb`: the mesh shines, so that its image is its silhouette; integrator `direct_projective`, with 4
  samples a pixel (as many as relievo) and with 1. It wants a libLLVM: `DRJIT_LIBLLVM_PATH`.
- Open3D, `RaycastingScene` (Embree): 512x512 rays, as many as relievo has samples, and 256x256. Forward only; the rays are
  made before.
"""

import argparse
import json
import math
import os
import pathlib
import sys

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from timing import measure  # noqa: E402

SIZE = 256


def teapot(path):
    """Vertices, moved so that the longest side spans [-1, 1], and faces of an OBJ file of triangles."""
    vertices, faces = [], []
    with open(path) as file:
        for line in file:
            word, *rest = line.split() or [""]
            if word == "v":
                vertices.append([float(number) for number in rest[:3]])
            elif word == "f":
                faces.append([int(corner.split("/")[0]) - 1 for corner in rest])
    vertices = numpy.array(vertices, numpy.float32)
    low, high = vertices.min(0), vertices.max(0)
    vertices = (vertices - (low + high) / 2) * (2 / (high - low).max())
    return vertices.astype(numpy.float32), numpy.array(faces, numpy.uint32)


def eye():
    elevation, azimuth = math.radians(30), math.radians(30)
    flat = 2.732 * math.cos(elevation)
    return [flat * math.sin(azimuth), 2.732 * math.sin(elevation), -flat * math.cos(azimuth)]


def mitsuba(vertices, faces, seconds, threads):
    import drjit
    import mitsuba

    mitsuba.set_variant("llvm_ad_rgb")
    mitsuba.set_log_level(mitsuba.LogLevel.Error)
    drjit.set_thread_count(threads)
    mesh = mitsuba.Mesh("teapot", len(vertices), len(faces))
    parameters = mitsuba.traverse(mesh)
    parameters["vertex_positions"] = vertices.ravel()
    parameters["faces"] = faces.ravel()
    parameters.update()
    # A mesh that is made in memory gets its emitter by way of a file.
    path = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"teapot-{os.getpid()}.ply")
    mesh.write_ply(path)
    look = mitsuba.ScalarTransform4f().look_at(origin=eye(), target=[0, 0, 0], up=[0, 1, 0])
    scene = mitsuba.load_dict({
        "type": "scene",
        "teapot": {"type": "ply", "filename": path, "emitter": {"type": "area", "radiance": {"type": "rgb", "value": 1}}},
        "sensor": {
            "type": "perspective", "fov": 60, "to_world": look,
            "film": {"type": "hdrfilm", "width": SIZE, "height": SIZE, "rfilter": {"type": "box"}},
        },
    })
    os.remove(path)
    # Nothing is lit by anything else, so there is no indirect light to look for.
    integrator = mitsuba.load_dict({"type": "direct_projective", "sppi": 0})
    parameters = mitsuba.traverse(scene)
    key = next(key for key in parameters.keys() if key.endswith("vertex_positions"))
    weights = mitsuba.TensorXf(numpy.random.default_rng(1).uniform(-1, 1, (SIZE, SIZE, 3)).astype(numpy.float32))
    rows = {}
    for samples in [4, 1]:
        seed = iter(range(1, 1_000_000))

        def forward():
            drjit.eval(mitsuba.render(scene, integrator=integrator, spp=samples, seed=next(seed)))
            drjit.sync_thread()

        def both():
            drjit.enable_grad(parameters[key])
            parameters.update()
            image = mitsuba.render(scene, parameters, integrator=integrator, spp=samples, seed=next(seed))
            drjit.backward(drjit.sum(image * weights, axis=None))
            drjit.eval(drjit.grad(parameters[key]))
            drjit.sync_thread()

        name = f"Mitsuba {mitsuba.__version__}, {samples} samples a pixel"
        rows[name] = {"forward": measure(forward, seconds), "both": measure(both, seconds)}
        gradient = numpy.array(drjit.grad(parameters[key]))
        if not numpy.abs(gradient).sum() > 0:
            raise SystemExit(f"{name}: the gradient is zero, so nothing was measured")
    image = numpy.array(mitsuba.render(scene, integrator=integrator, spp=16))[..., 0]
    return rows, float(image.mean())


def open3d(vertices, faces, seconds, threads):
    import open3d

    scene = open3d.t.geometry.RaycastingScene(nthreads=threads)
    scene.add_triangles(open3d.core.Tensor(vertices), open3d.core.Tensor(faces))
    rows = {}
    for size in [512, 256]:
        rays = scene.create_rays_pinhole(
            fov_deg=60, center=[0, 0, 0], eye=eye(), up=[0, 1, 0], width_px=size, height_px=size
        )
        name = f"Open3D {open3d.__version__}, {size}x{size} rays"
        rows[name] = {"forward": measure(lambda: scene.cast_rays(rays), seconds)}
    hits = numpy.isfinite(scene.cast_rays(rays)["t_hit"].numpy())
    return rows, float(hits.mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teapot", help="an OBJ file")
    parser.add_argument("--threads", type=int, default=2, help="default 2")
    parser.add_argument("--seconds", type=float, default=8, help="per measurement (default 8)")
    parser.add_argument("--json", help="also write the numbers to this file")
    options = parser.parse_args()
    vertices, faces = teapot(options.teapot)
    print(f"{len(faces)} faces, {options.threads} threads")
    result = {}
    for program, run in [("Mitsuba 3", mitsuba), ("Open3D", open3d)]:
        try:
            rows, covered = run(vertices, faces, options.seconds, options.threads)
        except (ImportError, OSError) as error:
            print(f"{program} is left out: {error}".splitlines()[0])
            continue
        for name, times in rows.items():
            cells = [f"{part} {1e3 * median:8.1f} ms (of {count})" for part, (median, count) in times.items()]
            print(f"{name:40s} {', '.join(cells)}", flush=True)
            result[name] = {part: median for part, (median, _) in times.items()}
        print(f"{'':40s} {100 * covered:.2f} % of the image is covered")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
