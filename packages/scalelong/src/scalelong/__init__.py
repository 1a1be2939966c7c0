"""ScaleLong: scaling of the long skip connections of UNets and U-ViTs, which stabilises the training of diffusion models."""
