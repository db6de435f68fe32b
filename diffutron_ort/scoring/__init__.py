"""How likely a text is: the likelihood under the sampler, the diffusion bound, and the pseudo-likelihood."""
