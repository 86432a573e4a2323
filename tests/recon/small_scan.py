"""A clean scan of a small object: numpy alone, no code of the solver."""

import numpy as np

SIZE = 24


class SmallScan:
    """Exposures on a 4 px raster; ``corners`` are the windows' first pixels."""

    def __init__(self, *, lines: int = 6, step: int = 4, seed: int = 0) -> None:
        self.side = SIZE + step * (lines - 1)
        rng = np.random.default_rng(seed)
        f = np.fft.fftfreq(self.side)
        soft = np.exp(-((f[:, None] ** 2 + f**2) / 0.08**2))

        def texture() -> np.ndarray:
            noise = rng.normal(size=(self.side, self.side))
            image = np.fft.ifft2(np.fft.fft2(noise) * soft).real
            return (image - image.min()) / np.ptp(image)

        self.object = (0.7 + 0.3 * texture()) * np.exp(1j * texture())
        y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
        self.probe = np.exp(-(y**2 + x**2) / 30 + 0.05j * (y**2 + x**2))
        grid = np.arange(lines) * step
        self.corners = np.array([(a, b) for a in grid for b in grid])

    def intensities(self) -> np.ndarray:
        """Return |F(P·O)|², zero frequency in the centre, ``[n, k, k]``."""
        waves = [
            self.probe * self.object[y : y + SIZE, x : x + SIZE]
            for y, x in self.corners
        ]
        far = np.fft.fftshift(np.fft.fft2(waves, norm="ortho"), axes=(1, 2))
        return np.abs(far) ** 2

    def counts(self, photons: float, seed: int = 1) -> np.ndarray:
        """Return Poisson counts, ``photons`` a pattern on average."""
        light = self.intensities()
        scale = photons / light.sum((1, 2)).mean()
        noisy = np.random.default_rng(seed).poisson(light * scale)
        if noisy.max() > np.iinfo(np.uint16).max:
            raise ValueError(f"{noisy.max()} counts in a pixel: too bright for uint16")
        return noisy.astype(np.uint16)

    @property
    def centres_px(self) -> np.ndarray:
        """Return where each probe's centre lies on the object."""
        return self.corners + SIZE / 2
