/**
 * Lines over time as an SVG, one chart below the other. The only file that knows the library that draws.
 *
 * @module
 */
import { parse, View } from "npm:vega@6.2.0";
import { compile, type TopLevelSpec } from "npm:vega-lite@6.4.1";

export interface Chart {
  /** What is drawn, with its unit. */
  title: string;
  /** Lines by name; of a single one the name is not shown. */
  lines: Record<string, readonly Point[]>;
}

export interface Point {
  x: number;
  y: number;
}

const WIDTH = 900;
const HEIGHT = 150;

export async function draw(title: string[], xTitle: string, charts: readonly Chart[]): Promise<string> {
  const spec: TopLevelSpec = {
    background: "white",
    padding: 16,
    title: { text: title[0]!, subtitle: title.slice(1), anchor: "start", fontSize: 16, subtitlePadding: 6, offset: 16 },
    spacing: 28,
    // Names of lines differ from chart to chart, and so do their colours.
    resolve: { scale: { color: "independent" } },
    vconcat: charts.map((chart, i) => ({
      width: WIDTH,
      height: HEIGHT,
      title: { text: chart.title, anchor: "start", fontSize: 13 },
      data: { values: valuesOf(chart) },
      mark: { type: "line", strokeWidth: 1.5, clip: true },
      encoding: {
        x: {
          field: "x",
          type: "quantitative",
          axis: { title: i === charts.length - 1 ? xTitle : null, format: "~s", grid: false },
        },
        y: { field: "y", type: "quantitative", axis: { title: null, format: ",~f", tickCount: 5 } },
        color: {
          field: "line",
          type: "nominal",
          sort: Object.keys(chart.lines),
          legend: Object.keys(chart.lines).length === 1 ? null : { title: null, orient: "right" },
        },
      },
    })),
    config: { font: "sans-serif", axis: { labelFontSize: 11, titleFontSize: 12 }, legend: { labelFontSize: 11 } },
  };
  const view = new View(parse(compile(spec).spec), { renderer: "none" });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}

function valuesOf({ lines }: Chart) {
  return Object.entries(lines).flatMap(([line, points]) => points.map(({ x, y }) => ({ line, x, y })));
}
