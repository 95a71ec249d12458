"""Steepest ascent where distance is measured by a matrix: products with it, conjugate gradients, sizes of steps.

P parameters stand in one flat vector. Formula sheet: 4.3a, 8.2a, 8.2b.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Product = Callable[[Tensor], Tensor]
"""v [P] → F v [P] for a symmetric matrix that is nowhere written down."""


def flatten(tensors: Sequence[Tensor]) -> Float[Tensor, " P"]:
    """Side by side, in order."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def gauss_newton_product(outputs: Float[Tensor, "..."], parameters: Sequence[Tensor], curvature: Product) -> Product:
    """v ↦ Jᵀ M J v, with J = ∂ outputs/∂ parameters and ``curvature`` u ↦ M u in the space of the outputs.

    Where the outputs are the parameters of a policy's distributions and M is the Hessian of their mean KL, this is
    the Fisher matrix: the other half of the KL's Hessian has the slope of the KL as its factor, which is 0 at the
    old policy. Jᵀ is a backward pass; J v is the derivative of u ↦ Jᵀ u, which is linear, along v. That is half the
    work of differentiating the KL twice. Source: Schraudolph 2002; Martens 2010.
    """
    probe = torch.zeros_like(outputs, requires_grad=True)
    transposed = flatten(torch.autograd.grad(outputs, parameters, probe, create_graph=True))

    def product(vector: Tensor) -> Tensor:
        (along,) = torch.autograd.grad(transposed, probe, vector, retain_graph=True)
        return flatten(torch.autograd.grad(outputs, parameters, curvature(along), retain_graph=True))

    return product


@torch.no_grad()
def conjugate_gradient(
    product: Product, b: Float[Tensor, " P"], iterations: int, tolerance: float = 1e-10
) -> Float[Tensor, " P"]:
    """x with F x ≈ b for a positive definite F; exact, but for rounding, after P iterations.

    Stops early where the squared norm of the residual falls below ``tolerance``. Source: Hestenes and Stiefel 1952.
    """
    x, residual = torch.zeros_like(b), b.clone()
    direction, square = residual.clone(), residual.dot(residual)
    for _ in range(iterations):
        if square <= tolerance:
            break
        along = product(direction)
        rate = square / direction.dot(along)
        x.add_(rate * direction)
        residual.sub_(rate * along)
        previous, square = square, residual.dot(residual)
        direction = residual + square / previous * direction
    return x


def kl_sized(direction: Float[Tensor, " P"], along: Float[Tensor, " P"], limit: float) -> Float[Tensor, " P"]:
    """α d with ½ (α d)ᵀ F (α d) = ``limit``, so α = √(2 limit / dᵀ F d); 0 where d leads nowhere.

    Args:
        direction: d, F⁻¹ g for the natural gradient.
        along: F d.
        limit: of the KL, to second order.
    """
    curvature = direction.dot(along)
    return torch.where(curvature > 0, (2.0 * limit / curvature).sqrt(), 0.0) * direction


def norm_sized(direction: Float[Tensor, " P"], limit: float) -> Float[Tensor, " P"]:
    """α d with ‖α d‖² = ``limit``, the Euclidean counterpart of :func:`kl_sized`; 0 where d is 0."""
    square = direction.dot(direction)
    return torch.where(square > 0, (limit / square).sqrt(), 0.0) * direction
