import { el } from "../dom";
import type { Series } from "./history";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300;
const HEIGHT = 30;

/** Small curves under each other, the newest value beside each. */
export class Graph {
  readonly node = el("dl", { class: "graph", testid: "live-graph" });
  private readonly rows = new Map<string, { value: HTMLElement; svg: SVGSVGElement; path: SVGPathElement }>();

  draw(series: readonly Series[]): void {
    for (const { name, text, points } of series) {
      const row = this.rows.get(name) ?? this.add(name);
      if (row.value.textContent !== text) row.value.textContent = text;
      row.path.setAttribute("d", steps(points));
      row.svg.setAttribute("aria-label", `${name} over the last two minutes, now ${text}`);
    }
  }

  private add(name: string) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("vector-effect", "non-scaling-stroke");
    svg.append(path);
    const value = el("span", { class: "graph-value" });
    this.node.append(el("div", { class: "graph-row" }, el("dt", { text: name }), el("dd", {}, svg, value)));
    const row = { value, svg, path };
    this.rows.set(name, row);
    return row;
  }
}

/** A value holds until the next one. */
function steps(points: Series["points"]): string {
  let path = "";
  for (const [time, value] of points) {
    const x = (time * WIDTH).toFixed(1);
    const y = ((1 - value) * (HEIGHT - 4) + 2).toFixed(1);
    path += path === "" ? `M${x} ${y}` : `H${x}V${y}`;
  }
  return path;
}
