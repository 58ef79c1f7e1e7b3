"""The scene in false colours (SWIR2, NIR, red) with the detections marked, as a PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeagent.demo.plant import Fire
from edgeagent.demo.scene import Scene

__all__ = ["draw"]

_RED, _NIR, _SWIR2 = 2, 3, 5


def draw(path: Path, scene: Scene, collection: dict[str, Any], fires: list[Fire]) -> bool:
    """Write the picture; False when matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    import numpy as np

    rgb = np.stack([_stretched(scene.planes[band]) for band in (_SWIR2, _NIR, _RED)], axis=-1)
    height, width = rgb.shape[:2]
    figure = Figure(figsize=(9, 9 * height / width + 0.9), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(rgb, interpolation="nearest", extent=(0, width, height, 0))
    for fire in fires:
        axes.plot(fire.x, fire.y, "+", color="white", markersize=9, markeredgewidth=1.2)
    for feature in collection["features"]:
        marks = feature["properties"]
        axes.plot(
            marks["x_px"],
            marks["y_px"],
            "o",
            color="yellow",
            fillstyle="none",
            markersize=20,
            markeredgewidth=1.8,
        )
        longitude, latitude = feature["geometry"]["coordinates"]
        right = marks["x_px"] > width * 0.72
        axes.annotate(
            f"{latitude:.4f}, {longitude:.4f}\n{marks['pixels']} px, SWIR2 {marks['swir2_max']:.2f}",
            (marks["x_px"], marks["y_px"]),
            xytext=(-14 if right else 14, 0),
            textcoords="offset points",
            ha="right" if right else "left",
            va="center",
            fontsize=8,
            color="white",
            bbox={"boxstyle": "round,pad=0.25", "facecolor": "black", "alpha": 0.6, "linewidth": 0},
        )
    origin = "Landsat 7 ETM+, 2000-03-31" if scene.source == "landsat" else "generated scene"
    axes.set_title(
        f"{origin}, SWIR2 / NIR / red: {len(collection['features'])} fires (circles), {len(fires)} planted (+)",
        fontsize=10,
    )
    axes.set_xlabel("column (28.5 m pixels)", fontsize=8)
    axes.set_ylabel("row", fontsize=8)
    axes.tick_params(labelsize=7)
    figure.savefig(path)
    return True


def _stretched(plane: Any) -> Any:
    import numpy as np

    valid = plane[plane > 0]
    low, high = np.percentile(valid, (1, 99)) if valid.size else (0, 1)
    return np.clip((plane.astype(np.float32) - low) / max(high - low, 1), 0, 1) ** 0.8
