"""``ptystream score``: a result against the truth, or against another result."""

import argparse
import json
from pathlib import Path

from ptystream.publish.files import read_result
from ptystream.recon.metrics import Resolution
from ptystream.recon.score import Comparison, ImageScore, Score, compare, score


def add_arguments(parser: argparse.ArgumentParser, _name: str) -> None:
    """Add what ``score`` takes."""
    parser.add_argument("result", type=Path)
    parser.add_argument("other", type=Path, help="the truth, or another result")
    parser.add_argument(
        "--half",
        action="store_true",
        help="the other is a result too (of the other half of a scan, say): FRC only",
    )
    parser.add_argument("--margin", type=int, default=0, metavar="PX")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the score."""
    result, other = read_result(args.result), read_result(args.other)
    if args.half:
        found = compare(result, other, margin_px=args.margin)
    else:
        found = score(result, other, margin_px=args.margin)
    if args.json:
        print(json.dumps(found.as_dict()))
    elif isinstance(found, Score):
        print(_table(found))
    else:
        print(_agreement(found))
    return 0


def _table(found: Score) -> str:
    """Return a table for people."""
    rows = [
        ("", "amplitude", "phase"),
        ("PSNR, paper's alignment / dB", *_psnr(found.paper)),
        ("  an empty object's", *_psnr(found.flat_paper)),
        ("PSNR, shift and ramp aligned / dB", *_psnr(found.aligned)),
        ("  an empty object's", *_psnr(found.flat_aligned)),
        (
            "SSIM, aligned",
            f"{found.aligned.ssim_amplitude:.3f}",
            f"{found.aligned.ssim_phase:.3f}",
        ),
    ]
    lines = [f"{name:36s}{a:>10s}{p:>10s}" for name, a, p in rows]
    lines.append(f"FRC, half-bit resolution            {_nm(found.frc.half_bit)}")
    lines.append(f"probe error, aligned                {found.probe_error:10.3f}")
    lines.append(
        f"scored                              {found.covered:10.0%} of the truth"
    )
    return "\n".join(lines)


def _psnr(image: ImageScore) -> tuple[str, str]:
    """Return amplitude and phase for the table."""
    return f"{image.psnr_amplitude_db:.1f}", f"{image.psnr_phase_db:.1f}"


def _nm(found: Resolution) -> str:
    """Return a resolution in nm; at Nyquist it may be better."""
    limit = " (limited by the pixel)" if found.nyquist_limited else ""
    return f"{found.resolution_m * 1e9:10.1f} nm{limit}"


def _agreement(found: Comparison) -> str:
    """Return the FRC of two results for people."""
    return (
        f"half-bit resolution {_nm(found.frc.half_bit)}\n"
        f"one-bit resolution  {_nm(found.frc.one_bit)}\n"
        f"phase, half-bit     {_nm(found.frc.phase)}"
    )
