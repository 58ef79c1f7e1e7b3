"""The scene in false colours (SWIR2, NIR, red) with the detections marked, as a PNG: a map, and each fire close up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeagent.demo.plant import Fire
from edgeagent.demo.scene import Scene

if TYPE_CHECKING:
    import numpy as np

__all__ = ["CLOSE_UPS_MAX", "draw"]

CLOSE_UPS_MAX = 5
_CLOSE_PX = 12
_RED, _NIR, _SWIR2 = 2, 3, 5
_ALERT = {"color": "#ffd400", "fillstyle": "none"}


def draw(path: Path, scene: Scene, collection: dict[str, Any], fires: list[Fire]) -> bool:
    """Write the picture; False when matplotlib is not installed, OSError when it cannot be written."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False

    image, (top, bottom, left, right) = _false_colours(scene)
    alerts = collection["features"]
    # One inch more than the map is high, for title and legend.
    height_in = 8.6 * (bottom - top) / (right - left) + 1.0
    figure = Figure(figsize=(10.8, height_in), dpi=120, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(CLOSE_UPS_MAX, 2, width_ratios=(5, 1))
    map_ = figure.add_subplot(grid[:, 0])
    map_.imshow(image, interpolation="nearest", extent=(0, image.shape[1], image.shape[0], 0))
    map_.set_xlim(left, right)
    map_.set_ylim(bottom, top)
    map_.set_xlabel("column (pixels of 28.5 m)", fontsize=8)
    map_.set_ylabel("row", fontsize=8)
    map_.tick_params(labelsize=7)
    _mark(map_, alerts, fires, size=17)
    figure.legend(
        *map_.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        fontsize=9,
        facecolor="#404040",
        labelcolor="white",
        borderpad=0.8,
    )
    for row, feature in enumerate(alerts[:CLOSE_UPS_MAX]):
        _close_up(figure.add_subplot(grid[row, 1]), image, feature, row + 1)
    origin = "Landsat 7 ETM+, 2000-03-31" if scene.source == "landsat" else "GENERATED scene"
    figure.suptitle(
        f"{origin}: {len(alerts)} alerts, {len(fires)} planted fires (SWIR2, NIR, red shown as red, green, blue)",
        fontsize=11,
    )
    figure.savefig(path)
    return True


def _mark(axes: Any, alerts: list[dict[str, Any]], fires: list[Fire], size: float) -> None:
    x, y = [fire.x_px for fire in fires], [fire.y_px for fire in fires]
    axes.plot(x, y, "+", color="white", markersize=size * 0.5, markeredgewidth=1.2, label="planted fire")
    places = [feature["properties"] for feature in alerts]
    axes.plot(
        [place["x_px"] for place in places],
        [place["y_px"] for place in places],
        "o",
        markersize=size,
        markeredgewidth=1.8,
        label="alert",
        **_ALERT,
    )
    for number, place in enumerate(places, 1):
        axes.annotate(
            str(number),
            (place["x_px"], place["y_px"]),
            xytext=(size * 0.62, size * 0.5),
            textcoords="offset points",
            fontsize=10,
            fontweight="bold",
            color="#ffd400",
            bbox={"boxstyle": "round,pad=0.2", "facecolor": "black", "alpha": 0.65, "linewidth": 0},
        )


def _close_up(axes: Any, image: np.ndarray, feature: dict[str, Any], number: int) -> None:
    marks = feature["properties"]
    longitude, latitude = feature["geometry"]["coordinates"]
    axes.imshow(image, interpolation="nearest", extent=(0, image.shape[1], image.shape[0], 0))
    axes.set_xlim(marks["x_px"] - _CLOSE_PX, marks["x_px"] + _CLOSE_PX)
    axes.set_ylim(marks["y_px"] + _CLOSE_PX, marks["y_px"] - _CLOSE_PX)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#ffd400")
        spine.set_linewidth(1.5)
    axes.set_title(f"{number}: {latitude:.4f}, {longitude:.4f}", fontsize=8, pad=3)
    axes.set_xlabel(f"{marks['pixels']} pixels, SWIR2 {marks['swir2_max']:.2f}", fontsize=7, labelpad=2)


def _false_colours(scene: Scene) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """The image, black where a band is missing, and the box that has data: top, bottom, left, right."""
    import numpy as np

    has_data = (scene.planes > 0).all(axis=0)
    channels = [_stretched(scene.planes[band], has_data) for band in (_SWIR2, _NIR, _RED)]
    rows, columns = np.flatnonzero(has_data.any(axis=1)), np.flatnonzero(has_data.any(axis=0))
    box = (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
    return np.stack(channels, axis=-1), box


def _stretched(plane: np.ndarray, has_data: np.ndarray) -> np.ndarray:
    import numpy as np

    low, high = np.percentile(plane[has_data], (1, 99))
    stretched: np.ndarray = np.clip((plane.astype(np.float32) - low) / max(high - low, 1), 0, 1) ** 0.8
    return np.where(has_data, stretched, 0)
