"""CPU or GPU: what a function's code can use, where it runs now, and the kernels that both run."""
