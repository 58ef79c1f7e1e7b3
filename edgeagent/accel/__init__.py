"""CPU or GPU: what a function's code says of it, kernels for both, and the controller that changes its mind."""
