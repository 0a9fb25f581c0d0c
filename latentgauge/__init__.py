"""How much information a VAE's latent code really carries, with error bars."""
