"""The shared-memory ring on the host, the frame store on the device, sampling."""
