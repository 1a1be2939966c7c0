"""Decode a BlurHash: the 4 x 4 lowest DCT components of a real image, from 36 characters (Wolt's public format)."""

import math

import numpy as np

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"


def number(text):
    value = 0
    for one in text:
        value = value * 83 + DIGITS.index(one)
    return value


def decode(text, size=16):
    """An image (size, size, 3) in 0 .. 255."""
    counts = number(text[0])
    wide, high = counts % 9 + 1, counts // 9 + 1
    largest = (number(text[1]) + 1) / 166
    average = number(text[2:6])
    mean = np.array([average >> 16, average >> 8 & 255, average & 255]) / 255
    linear = np.where(mean <= 0.04045, mean / 12.92, ((mean + 0.055) / 1.055) ** 2.4)
    parts = [linear]
    for place in range(1, wide * high):
        value = number(text[4 + 2 * place : 6 + 2 * place])
        steps = np.array([value // 361, value // 19 % 19, value % 19])
        signed = (steps - 9) / 9
        parts.append(np.sign(signed) * signed**2 * largest)
    axis = (np.arange(size)) / size
    basis_x = np.stack([np.cos(math.pi * axis * i) for i in range(wide)])
    basis_y = np.stack([np.cos(math.pi * axis * j) for j in range(high)])
    grid = np.array(parts).reshape(high, wide, 3)
    out = np.einsum("jic,ix,jy->yxc", grid, basis_x, basis_y).clip(0, 1)
    srgb = np.where(out <= 0.0031308, out * 12.92, 1.055 * out ** (1 / 2.4) - 0.055)
    return (srgb * 255 + 0.5).astype(np.uint8)
