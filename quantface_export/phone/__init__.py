"""What an app needs besides the bundle: reduced runtimes, providers, downloads. No torch."""
