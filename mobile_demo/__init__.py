"""What runs on the device: how an app loads a bundle and restores a face with it."""
