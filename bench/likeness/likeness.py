"""Is it still the person? Compares photographs with what `relievo reconstruct` made of them, by a face-recognition
network that nobody of this project trained (dlib's ResNet, 128 numbers a face; below a distance of 0.6 two faces
count as the same person).

    python likeness.py PHOTOGRAPHS RESULTS [--turn 40] [--sheet FILE] [--json FILE]

PHOTOGRAPHS is a folder of images of one framed face each, RESULTS what `relievo reconstruct PHOTOGRAPHS --framed -o
RESULTS` wrote. See README.md for what is compared."""

import argparse
import io
import json
import struct
import sys
from pathlib import Path

import dlib
import face_recognition_models as models
import numpy as np
from PIL import Image

SAME_PERSON = 0.6
TILE = 256  # rows and columns of a tile of the panel, and of the views rendered here
FIELD_OF_VIEW = 11.5  # degrees: a little more than the program's camera has, so that turned heads fit
AMBIENT, DIRECT = 0.55, 0.55  # linear light of the viewer on lit materials
LIGHT = np.array([0.0, 0.35, 0.94])  # where the viewer's light comes from: the camera, and a little above


# ---- Meshes: a reader of GLB and a z-buffer, both as small as the program's files allow ----


class Mesh:
    """Positions, normals, places in the texture (from the upper left), triangles, texture and whether it is lit."""

    def __init__(self, path):
        data = path.read_bytes()
        length, _ = struct.unpack_from("<II", data, 12)
        self.document = json.loads(data[20 : 20 + length])
        self.binary = data[28 + length :]
        primitive = self.document["meshes"][0]["primitives"][0]
        attributes = primitive["attributes"]
        self.positions = self.accessor(attributes["POSITION"], 3).astype(np.float64)
        self.normals = self.accessor(attributes["NORMAL"], 3).astype(np.float64)
        self.places = self.accessor(attributes["TEXCOORD_0"], 2).astype(np.float64)
        self.triangles = self.accessor(primitive["indices"], 1).reshape(-1, 3).astype(np.int64)
        material = self.document["materials"][primitive["material"]]
        self.lit = "KHR_materials_unlit" not in material.get("extensions", {})
        texture = material["pbrMetallicRoughness"]["baseColorTexture"]["index"]
        view = self.document["images"][self.document["textures"][texture]["source"]]["bufferView"]
        self.texture = np.asarray(Image.open(io.BytesIO(self.view(view))).convert("RGB"), np.float64) / 255

    def view(self, number):
        view = self.document["bufferViews"][number]
        start = view.get("byteOffset", 0)
        return self.binary[start : start + view["byteLength"]]

    def accessor(self, number, columns):
        accessor = self.document["accessors"][number]
        kind = {5126: "<f4", 5125: "<u4", 5123: "<u2"}[accessor["componentType"]]
        values = np.frombuffer(self.view(accessor["bufferView"]), kind, accessor["count"] * columns)
        return values.reshape(-1, columns)

    def render(self, degrees, size=TILE, samples=2):
        """The mesh turned about the vertical axis, on white, `[size, size, 3]` bytes: a camera at distance 1."""
        side = size * samples
        angle = np.radians(degrees)
        turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        points, normals = self.positions @ turn.T, self.normals @ turn.T
        distance = 1 - points[:, 2]
        focal = side / 2 / np.tan(np.radians(FIELD_OF_VIEW) / 2)
        screen = np.stack([focal * points[:, 0] / distance, -focal * points[:, 1] / distance], 1) + side / 2
        owner, weights = self.nearest(screen, distance, side)
        seen = owner >= 0
        corners = self.triangles[owner[seen]]
        blend = lambda values: np.einsum("nk,nkc->nc", weights[seen], values[corners])
        colour = self.sample(blend(self.places))
        if self.lit:
            normal = blend(normals)
            normal /= np.linalg.norm(normal, axis=1, keepdims=True)
            light = AMBIENT + DIRECT * np.clip(normal @ (LIGHT / np.linalg.norm(LIGHT)), 0, 1)
            colour = (colour**2.2 * light[:, None]) ** (1 / 2.2)
        image = np.ones((side, side, 3))
        image[seen] = np.clip(colour, 0, 1)
        image = image.reshape(size, samples, size, samples, 3).mean((1, 3))
        return (image * 255 + 0.5).astype(np.uint8)

    def sample(self, places):
        """Bilinear, clamped to the edge."""
        height, width = self.texture.shape[:2]
        at = np.clip(places * [width, height] - 0.5, 0, [width - 1.001, height - 1.001])
        low = at.astype(int)
        (s, t), (x, y) = (at - low).T[:, :, None], low.T
        upper = self.texture[y, x] * (1 - s) + self.texture[y, x + 1] * s
        return upper * (1 - t) + (self.texture[y + 1, x] * (1 - s) + self.texture[y + 1, x + 1] * s) * t

    def nearest(self, screen, distance, side):
        """For each pixel the nearest triangle (-1: none) and its perspective-correct weights."""
        owner = np.full((side, side), -1)
        depths = np.full((side, side), np.inf)
        all_weights = np.zeros((side, side, 3))
        corners = screen[self.triangles]
        low = np.floor(corners.min(1)).astype(int)
        extent = (np.ceil(corners.max(1)).astype(int) - low).max(1) + 1
        for least, most in [(0, 8), (8, 24), (24, 72), (72, side)]:
            some = np.flatnonzero((extent > least) & (extent <= most))
            for part in np.array_split(some, max(1, len(some) * most * most // 4_000_000)):
                self.visit(part, corners[part], low[part], most, distance, depths, owner, all_weights)
        return owner, all_weights

    def visit(self, numbers, corners, low, extent, distance, depths, owner, all_weights):
        """Lets triangles compete for the pixels of squares of `extent` pixels at `low`."""
        side = len(depths)
        steps = np.arange(extent)
        x = np.broadcast_to(low[:, 0, None, None] + steps[None, None, :], (len(numbers), extent, extent))
        y = np.broadcast_to(low[:, 1, None, None] + steps[None, :, None], (len(numbers), extent, extent))
        a, b, c = (corners[:, k, :, None, None] for k in range(3))
        cross = lambda p, q, x, y: (q[:, 0] - p[:, 0]) * (y - p[:, 1]) - (q[:, 1] - p[:, 1]) * (x - p[:, 0])
        area = cross(a, b, c[:, 0], c[:, 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            w = np.stack([cross(b, c, x + 0.5, y + 0.5), cross(c, a, x + 0.5, y + 0.5)], -1) / area[..., None]
        w = np.concatenate([w, 1 - w.sum(-1, keepdims=True)], -1)
        hit = (w >= 0).all(-1) & (x >= 0) & (y >= 0) & (x < side) & (y < side)
        triangle, row, column = np.nonzero(hit)
        over = w[triangle, row, column] / distance[self.triangles[numbers[triangle]]]
        depth = 1 / over.sum(1)
        y, x = y[triangle, row, column], x[triangle, row, column]
        order = np.argsort(-depth, kind="stable")  # of several in one pixel, the nearest is written last
        order = order[depth[order] < depths[y[order], x[order]]]
        y, x = y[order], x[order]
        depths[y, x] = depth[order]
        owner[y, x] = numbers[triangle[order]]
        all_weights[y, x] = over[order] * depth[order, None]


# ---- The judge ----


class Judge:
    def __init__(self):
        self.detector = dlib.get_frontal_face_detector()
        self.landmarks = dlib.shape_predictor(models.pose_predictor_five_point_model_location())
        self.network = dlib.face_recognition_model_v1(models.face_recognition_model_location())

    def describe(self, image):
        """128 numbers for the largest face of an image, and whether the detector found one: if not, the face is taken
        to fill the middle of the image, as it does in framed photographs."""
        size = 300
        image = np.asarray(Image.fromarray(image).resize((size, size), Image.BICUBIC))
        room = size // 4
        image = np.ascontiguousarray(np.pad(image, ((room, room), (room, room), (0, 0)), mode="edge"))
        found = self.detector(image, 0)
        middle = dlib.rectangle(room + 30, room + 50, room + size - 30, room + size - 10)
        face = max(found, key=lambda face: face.area(), default=middle)
        shape = self.landmarks(image, face)
        return np.array(self.network.compute_face_descriptor(image, shape)), bool(found)


def tile(panel, row, column):
    """A tile of the panel: rows are sheets of their own, with captions over the tiles."""
    left, top = 16 + column * (TILE + 6), 38 + row * (TILE + 54)
    return panel[top : top + TILE, left : left + TILE]


def measure(judge, photograph, results, turn):
    stem = photograph.stem
    original = np.asarray(Image.open(photograph).convert("RGB"))
    mesh = Mesh(results / f"{stem}.glb")
    panel = np.asarray(Image.open(results / f"{stem}.panel.png").convert("RGB"))
    images = {
        "photograph": original,
        "reconstruction": tile(panel, 0, 1),
        "panel, turned by 40": tile(panel, 1, 5),
        "panel, turned by -40": tile(panel, 1, 1),
        "GLB": mesh.render(0),
        f"GLB, turned by {turn}": mesh.render(turn),
        f"GLB, turned by {-turn}": mesh.render(-turn),
    }
    return images, {name: judge.describe(image) for name, image in images.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--turn", type=int, default=40, help="degrees about the vertical axis")
    parser.add_argument("--sheet", type=Path, help="a PNG of all images compared, a row for each photograph")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    judge = Judge()
    photographs = sorted(path for path in options.photographs.iterdir() if path.suffix in {".jpg", ".png"})
    measured = [measure(judge, photograph, options.results, options.turn) for photograph in photographs]
    names = list(measured[0][1])[1:]
    rows = {}
    own = np.array([described["photograph"][0] for _, described in measured])
    for name in names:
        theirs = np.array([described[name][0] for _, described in measured])
        distances = np.linalg.norm(theirs - own, axis=1)
        line_up = np.linalg.norm(theirs[:, None] - own[None], axis=2)
        rows[name] = {
            "distance": float(distances.mean()),
            "same": float((distances < SAME_PERSON).mean()),
            "first": float((line_up.argmin(1) == np.arange(len(own))).mean()),
            "found": float(np.mean([described[name][1] for _, described in measured])),
            "each": {path.stem: float(distance) for path, distance in zip(photographs, distances)},
        }
    strangers = np.linalg.norm(own[:, None] - own[None], axis=2)[~np.eye(len(own), dtype=bool)]
    print(f"{len(photographs)} photographs; strangers {strangers.mean():.2f}, "
          f"{100 * (strangers < SAME_PERSON).mean():.0f} % of them below {SAME_PERSON}")
    print("| compared with the photograph | mean distance | same person | nearest of all | face found |")
    print("|---|---|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {row['distance']:.2f} | {100 * row['same']:.0f} % | {100 * row['first']:.0f} % "
              f"| {100 * row['found']:.0f} % |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))
    if options.sheet:
        sheet = [np.concatenate([np.asarray(Image.fromarray(image).resize((TILE, TILE))) for image in images.values()], 1)
                 for images, _ in measured]
        Image.fromarray(np.concatenate(sheet)).save(options.sheet)


if __name__ == "__main__":
    sys.exit(main())
