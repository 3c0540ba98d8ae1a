"""The five networks and the VGG16 features in PyTorch, written from the paper's mathematics."""

import json
import struct

import torch
from torch import nn


def conv(inputs, outputs, kernel, stride, padding):
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)


def deconv(inputs, outputs, kernel, stride, padding):
    return nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding, bias=False)


def norm(channels):
    """Groups of four channels."""
    return nn.GroupNorm(channels // 4, channels)


def relu():
    return nn.ReLU(inplace=True)


def leaky():
    return nn.LeakyReLU(0.2, inplace=True)


def encoder(nf, z):
    """Down to one pixel of `z` channels: the first half of the depth, albedo and confidence networks."""
    return [
        conv(3, nf, 4, 2, 1), norm(nf), leaky(),
        conv(nf, 2 * nf, 4, 2, 1), norm(2 * nf), leaky(),
        conv(2 * nf, 4 * nf, 4, 2, 1), norm(4 * nf), leaky(),
        conv(4 * nf, 8 * nf, 4, 2, 1), leaky(),
        conv(8 * nf, z, 4, 1, 0), relu(),
        deconv(z, 8 * nf, 4, 1, 0), relu(),
    ]  # fmt: skip


def image_network(outputs, end, nf=64, z=256):
    """[B,3,64,64] to [B,outputs,64,64]: the depth and the albedo network."""
    layers = encoder(nf, z) + [
        conv(8 * nf, 8 * nf, 3, 1, 1), relu(),
        deconv(8 * nf, 4 * nf, 4, 2, 1), norm(4 * nf), relu(),
        conv(4 * nf, 4 * nf, 3, 1, 1), norm(4 * nf), relu(),
        deconv(4 * nf, 2 * nf, 4, 2, 1), norm(2 * nf), relu(),
        conv(2 * nf, 2 * nf, 3, 1, 1), norm(2 * nf), relu(),
        deconv(2 * nf, nf, 4, 2, 1), norm(nf), relu(),
        conv(nf, nf, 3, 1, 1), norm(nf), relu(),
        nn.Upsample(scale_factor=2, mode="nearest"),
        conv(nf, nf, 3, 1, 1), norm(nf), relu(),
        conv(nf, nf, 5, 1, 2), norm(nf), relu(),
        conv(nf, outputs, 5, 1, 2),
    ]  # fmt: skip
    return nn.Sequential(*layers, *end)


def number_network(outputs, nf=32):
    """[B,3,64,64] to [B,outputs] in (-1,1): the light and the view network."""
    return nn.Sequential(
        conv(3, nf, 4, 2, 1), relu(),
        conv(nf, 2 * nf, 4, 2, 1), relu(),
        conv(2 * nf, 4 * nf, 4, 2, 1), relu(),
        conv(4 * nf, 8 * nf, 4, 2, 1), relu(),
        conv(8 * nf, 8 * nf, 4, 1, 0), relu(),
        conv(8 * nf, outputs, 1, 1, 0), nn.Tanh(), nn.Flatten(),
    )  # fmt: skip


class ConfidenceNetwork(nn.Module):
    """[B,3,64,64] to two maps for the images [B,2,64,64] and two for the features [B,2,16,16], all positive."""

    def __init__(self, nf=64, z=128):
        super().__init__()
        self.trunk = nn.Sequential(
            *encoder(nf, z),
            deconv(8 * nf, 4 * nf, 4, 2, 1), norm(4 * nf), relu(),
            deconv(4 * nf, 2 * nf, 4, 2, 1), norm(2 * nf), relu(),
        )  # fmt: skip
        self.image_head = nn.Sequential(
            deconv(2 * nf, nf, 4, 2, 1), norm(nf), relu(),
            deconv(nf, nf, 4, 2, 1), norm(nf), relu(),
            conv(nf, 2, 5, 1, 2), nn.Softplus(),
        )  # fmt: skip
        self.feature_head = nn.Sequential(conv(2 * nf, 2, 3, 1, 1), nn.Softplus())

    def forward(self, x):
        x = self.trunk(x)
        return self.image_head(x), self.feature_head(x)


class Networks(nn.Module):
    """All five, in the order in which parameters are counted: depth, albedo, light, view, confidence."""

    def __init__(self, confidence=True, nf=64, z=256, encoder=32):
        super().__init__()
        self.depth = image_network(1, [], nf, z)
        self.albedo = image_network(3, [nn.Tanh()], nf, z)
        self.light = number_network(4, encoder)
        self.view = number_network(6, encoder)
        self.confidence = ConfidenceNetwork() if confidence else None
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                # PyTorch takes a transposed convolution's fan-in from the same axis: outputs times kernel.
                fan_in = module.weight[0].numel()
                nn.init.uniform_(module.weight, -(fan_in**-0.5), fan_in**-0.5)


class VggFeatures(nn.Module):
    """Images [B,3,S,S] in [-1,1], RGB, to relu3_3 of VGG16 [B,256,S/4,S/4], divided by 58.395."""

    NAMES = ["conv1_1", "conv1_2", "pool", "conv2_1", "conv2_2", "pool", "conv3_1", "conv3_2", "conv3_3"]

    def __init__(self, weights):
        super().__init__()
        layers = []
        for name in self.NAMES:
            if name == "pool":
                layers.append(nn.MaxPool2d(2))
                continue
            weight = weights[f"{name}.weight"].float()
            layer = nn.Conv2d(weight.shape[1], weight.shape[0], 3, 1, 1)
            layer.weight.data, layer.bias.data = weight, weights[f"{name}.bias"].float()
            layers += [layer, relu()]
        self.layers = nn.Sequential(*layers).requires_grad_(False)
        self.register_buffer("mean", torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1))

    def forward(self, images):
        blue_green_red = ((images / 2 + 0.5) * 255).flip(1) - self.mean
        return self.layers(blue_green_red) / 58.395


def read_safetensors(raw):
    """Named tensors and metadata of a safetensors file's bytes, byte planes undone (assets/golden/README.md)."""
    start = 8 + struct.unpack_from("<Q", raw)[0]
    header = json.loads(raw[8:start])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        data = torch.frombuffer(bytearray(raw[start + begin : start + end]), dtype=torch.uint8)
        if "byte_planes" in metadata:
            data = data.view(4, -1).t().contiguous().view(-1)
        dtype = {"F32": torch.float32, "F16": torch.float16, "I8": torch.int8}[entry["dtype"]]
        tensors[name] = data.view(dtype).view(entry["shape"])
    return tensors, metadata
