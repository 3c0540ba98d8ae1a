"""The photo-geometric autoencoder in PyTorch, written from the paper's mathematics: the peer of relievo's own.

Layouts here are PyTorch's: images [B,C,S,S], depth [B,S,S], grids of points [B,S,S,3].
"""

import dataclasses
import math

import torch
import torch.nn.functional as F

EPS = 1e-7
FIELD_OF_VIEW = 10.0  # degrees
NEAR, FAR = 0.1, 10.0
CENTRE = torch.tensor([0.0, 0.0, 1.0])  # what the view turns about


@dataclasses.dataclass
class Config:
    """A preset's numbers; the defaults are the face's."""

    confidence: bool = True
    min_depth: float = 0.9
    max_depth: float = 1.1
    border_depth: float = 0.7 * 1.1 + 0.3 * 0.9
    ambient: tuple = (0.0, 1.0)
    diffuse: tuple = (0.0, 1.0)
    rotation_range: float = math.radians(60)
    xy_translation_range: float = 0.1
    z_translation_range: float = 0.0
    flip_weight: float = 0.5
    perceptual_weight: float = 1.0
    smoothness_weight: float = 0.0


PRESETS = {
    "face": Config(),
    "car": Config(
        confidence=False,
        border_depth=1.08,
        diffuse=(0.5, 1.0),
        flip_weight=1.0,
        perceptual_weight=0.01,
        smoothness_weight=0.1,
    ),
}


def rescale(x, bounds):
    """(-1,1) to `bounds`."""
    return (1 + x) / 2 * bounds[1] + (1 - x) / 2 * bounds[0]


def intrinsics(size):
    """Focal length and centre in pixels."""
    return (size - 1) / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2), (size - 1) / 2


def lift(depth):
    """Depth [B,S,S] to points [B,S,S,3]."""
    size = depth.shape[-1]
    focal, centre = intrinsics(size)
    ray = (torch.arange(size, dtype=depth.dtype) - centre) / focal
    return torch.stack([depth * ray[None, None, :], depth * ray[None, :, None], depth], -1)


def project(points):
    """Points [B,S,S,3] to pixels (u, v) [B,S,S,2]."""
    focal, centre = intrinsics(points.shape[1])
    return points[..., :2] / points[..., 2:] * focal + centre


def normals(depth):
    """Unit normals [B,S,S,3] of a depth map by central differences; (0,0,1) on the border."""
    points = lift(depth)
    along_u = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    along_v = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    inner = torch.linalg.cross(along_u, along_v)
    whole = CENTRE.expand(points.shape).clone()
    whole[:, 1:-1, 1:-1] = inner
    return whole / (whole.norm(dim=-1, keepdim=True) + EPS)


def rotation(view):
    """R = Rz*Ry*Rx [B,3,3] of views [B,6]."""
    zero, one = torch.zeros_like(view[:, 0]), torch.ones_like(view[:, 0])
    (cx, cy, cz), (sx, sy, sz) = view[:, :3].cos().unbind(1), view[:, :3].sin().unbind(1)
    about_x = torch.stack([one, zero, zero, zero, cx, -sx, zero, sx, cx], 1).view(-1, 3, 3)
    about_y = torch.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], 1).view(-1, 3, 3)
    about_z = torch.stack([cz, -sz, zero, sz, cz, zero, zero, zero, one], 1).view(-1, 3, 3)
    return about_z @ about_y @ about_x


def move(points, view):
    """Canonical points to the input view."""
    shift = view[:, None, None, 3:]
    return torch.einsum("bij,bhwj->bhwi", rotation(view), points - CENTRE) + CENTRE + shift


def move_back(points, view):
    """Points of the input view to the canonical frame."""
    shift = view[:, None, None, 3:]
    return torch.einsum("bji,bhwj->bhwi", rotation(view), points - shift - CENTRE) + CENTRE


def grid_triangles(size):
    """Vertex numbers [2*(S-1)^2, 3] of the triangles of an SxS grid."""
    number = torch.arange(size * size).view(size, size)
    here, below, right, across = number[:-1, :-1], number[1:, :-1], number[:-1, 1:], number[1:, 1:]
    first = torch.stack([here, below, right], -1).reshape(-1, 3)
    second = torch.stack([right, below, across], -1).reshape(-1, 3)
    return torch.cat([first, second])


def barycentric(corners, x, y):
    """Weights [..,3] of the points (x, y) in triangles [..,3,2], and whether the triangles have an area."""
    (ax, ay), (bx, by), (cx, cy) = (corners[..., k, :].unbind(-1) for k in range(3))
    area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
    sound = area.abs() > 1e-12
    area = torch.where(sound, area, torch.ones_like(area))
    wa = ((bx - x) * (cy - y) - (cx - x) * (by - y)) / area
    wb = ((cx - x) * (ay - y) - (ax - x) * (cy - y)) / area
    wc = ((ax - x) * (by - y) - (bx - x) * (ay - y)) / area
    return torch.stack([wa, wb, wc], -1), sound


def perspective_depth(weights, z):
    """Depth where the weights [..,3] lie on triangles whose corners have depths z [..,3]."""
    weights = weights.clamp(0, 1)
    weights = weights / weights.sum(-1, keepdim=True)
    return 1 / (weights / z).sum(-1)


@torch.no_grad()
def visible_triangles(pixels, z, triangles, offset):
    """The nearest triangle of each sub-pixel [B,2S,2S], -1 where there is none.

    All triangles take part at once: step (i, j) looks at the sub-pixel i down and j across in each one's box, as
    often as the largest box needs.
    """
    batch, size = pixels.shape[0], math.isqrt(pixels.shape[1])
    fine = 2 * size
    corners, depths = pixels[:, triangles], z[:, triangles]
    # Sub-pixel k sits at k/2 + offset - 1/4; the first at or above a coordinate c is ceil(2c - 2*offset + 1/2).
    low = (2 * (corners.amin(2) - offset) + 0.5).ceil().long()
    high = (2 * (corners.amax(2) - offset) + 0.5).floor().long()
    across, down = ((high - low)[..., k].amax().clamp(max=fine).item() + 1 for k in range(2))
    nearest = torch.full((batch * fine * fine,), FAR)
    passes = []
    in_batch = (torch.arange(batch) * fine * fine)[:, None].expand(-1, len(triangles))
    number = torch.arange(len(triangles)).expand(batch, -1)
    for i in range(down):
        for j in range(across):
            column, row = low[..., 0] + j, low[..., 1] + i
            inside = (column <= high[..., 0]) & (row <= high[..., 1])
            inside &= (column >= 0) & (column < fine) & (row >= 0) & (row < fine)
            at = corners[inside]
            column, row = column[inside], row[inside]
            weights, sound = barycentric(at, column / 2 + offset - 0.25, row / 2 + offset - 0.25)
            depth = perspective_depth(weights, depths[inside])
            hit = sound & (weights >= 0).all(-1) & (depth > NEAR) & (depth < FAR)
            target = (in_batch[inside] + row * fine + column)[hit]
            nearest.scatter_reduce_(0, target, depth[hit], "amin")
            passes.append((target, depth[hit], number[inside][hit]))
    face = torch.full((batch * fine * fine,), -1)
    for target, depth, number in passes:
        winner = depth <= nearest[target]
        face[target[winner]] = number[winner]
    return face.view(batch, fine, fine)


def rasterise(points, offset=0.5):
    """Depth [B,S,S] of a grid of points [B,S,S,3], 2x supersampled; `offset`: pixel centres at u + offset."""
    batch, size = points.shape[:2]
    pixels, z = project(points).flatten(1, 2), points[..., 2].flatten(1)
    triangles = grid_triangles(size)
    face = visible_triangles(pixels, z, triangles, offset)
    image, row, column = (face >= 0).nonzero(as_tuple=True)
    corners = triangles[face[image, row, column]]
    weights, _ = barycentric(
        pixels[image[:, None], corners], column / 2 + offset - 0.25, row / 2 + offset - 0.25
    )
    depth = perspective_depth(weights, z[image[:, None], corners])
    fine = torch.full((batch, 2 * size, 2 * size), FAR).index_put((image, row, column), depth)
    return F.avg_pool2d(fine[:, None], 2)[:, 0]


def warped_depth(config, canonical_depth, view):
    """The canonical depth map seen from the input view."""
    margin = (config.max_depth - config.min_depth) / 2
    depth = rasterise(move(lift(canonical_depth), view))
    return depth.clamp(config.min_depth - margin, config.max_depth + margin)


def sampling_grid(depth, view):
    """Where in the canonical image each pixel of the input view looks: [B,S,S,2] in -1..1."""
    return project(move_back(lift(depth), view)) / (depth.shape[-1] - 1) * 2 - 1


def sample(image, grid):
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def masked_mean(values, mask):
    mask = mask.expand_as(values)
    return (values * mask).sum() / mask.sum()


def photometric(recon, target, mask, sigma):
    error = (recon - target).abs()
    if sigma is not None:
        error = error * 2**0.5 / (sigma + EPS) + (sigma + EPS).log()
    return masked_mean(error, mask)


def perceptual(recon_features, features, mask, sigma):
    error = (recon_features - features) ** 2
    if sigma is not None:
        error = error / (2 * sigma**2 + EPS) + (sigma + EPS).log()
    return masked_mean(error, F.avg_pool2d(mask, mask.shape[-1] // features.shape[-1]))


def smoothness(depth):
    return (depth[:, 1:] - depth[:, :-1]).abs().mean() + (depth[:, :, 1:] - depth[:, :, :-1]).abs().mean()


def forward(config, nets, vgg, images):
    """One training step's forward pass on images [B,3,S,S] in [0,1]: every intermediate by its golden name."""
    out = {}
    images = images * 2 - 1
    twice = lambda x: torch.cat([x, x])  # noqa: E731

    raw = nets.depth(images)[:, 0]
    depth = rescale(
        (raw - raw.mean((1, 2), keepdim=True)).tanh(), (config.min_depth, config.max_depth)
    )
    loss_smooth = smoothness(depth) / (config.max_depth - config.min_depth)
    border = torch.zeros_like(depth)
    border[:, :, :2] = border[:, :, -2:] = 1
    depth = depth * (1 - border) + border * config.border_depth
    out["canon_depth_raw"] = raw
    canon_depth = out["canon_depth"] = torch.cat([depth, depth.flip(2)])
    albedo = nets.albedo(images)
    albedo = out["canon_albedo"] = torch.cat([albedo, albedo.flip(3)])

    light = twice(nets.light(images))
    ambient = out["canon_light_a"] = rescale(light[:, :1], config.ambient)
    diffuse = out["canon_light_b"] = rescale(light[:, 1:2], config.diffuse)
    direction = torch.cat([light[:, 2:], torch.ones_like(ambient)], 1)
    direction = out["canon_light_d"] = direction / direction.norm(dim=1, keepdim=True)

    normal = out["canon_normal"] = normals(canon_depth)
    lambert = (normal * direction[:, None, None]).sum(-1).clamp(min=0)[:, None]
    out["canon_diffuse_shading"] = lambert
    shading = ambient[:, :, None, None] + diffuse[:, :, None, None] * lambert
    canon_im = out["canon_im"] = (albedo / 2 + 0.5) * shading * 2 - 1

    ranges = [config.rotation_range] * 3 + [config.xy_translation_range] * 2 + [config.z_translation_range]
    view = out["view"] = twice(nets.view(images)) * torch.tensor(ranges)
    recon_depth = out["recon_depth"] = warped_depth(config, canon_depth, view)
    out["recon_normal"] = normals(recon_depth)
    recon = sample(canon_im, sampling_grid(recon_depth, view))

    limit = config.max_depth + (config.max_depth - config.min_depth) / 2
    seen = (recon_depth < limit).to(recon.dtype)[:, None].detach()
    count = len(images)
    mask = seen[:count] * seen[count:]
    recon = out["recon_im"] = recon * twice(mask)

    sigma_image = sigma_feature = [None, None]
    if nets.confidence is not None:
        image_maps, feature_maps = nets.confidence(images)
        sigma_image, sigma_feature = image_maps.split(1, 1), feature_maps.split(1, 1)
        out["conf_sigma_l1"], out["conf_sigma_l1_flip"] = sigma_image
        out["conf_sigma_percl"], out["conf_sigma_percl_flip"] = sigma_feature

    features = out["perc_feat_input"] = vgg(images)
    recon_features = vgg(recon)
    losses = {"loss_depth_sm": loss_smooth}
    for half, name in enumerate(["", "_flip"]):
        part = slice(half * count, (half + 1) * count)
        losses[f"loss_l1_im{name}"] = photometric(recon[part], images, mask, sigma_image[half])
        losses[f"loss_perc_im{name}"] = perceptual(recon_features[part], features, mask, sigma_feature[half])
    perc = losses["loss_perc_im"] + config.flip_weight * losses["loss_perc_im_flip"]
    losses["loss_total"] = (
        losses["loss_l1_im"]
        + config.flip_weight * losses["loss_l1_im_flip"]
        + config.perceptual_weight * perc
        + config.smoothness_weight * loss_smooth
    )
    return out | losses


def optimiser(nets):
    return torch.optim.Adam(nets.parameters(), lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=5e-4)
