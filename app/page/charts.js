/**
 * Plots by uPlot in this page's dress: colours from the style sheet, in either theme, and an axis that follows the data calmly.
 *
 * Knows nothing of where numbers come from. A series is {label, colour, width, dash, band}: `colour` is a property of the style sheet.
 */

/* global uPlot */

const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

const TITLE = 20; // pixels above the plot
const BESIDE = 28; // and to the right: half of the last label of the axis below

/** The value of a colour in the theme of now. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** Colours are looked up once for each theme, not for each line that is drawn. */
const palette = new Map();

function shade(name) {
  if (!palette.has(name)) palette.set(name, colour(name));
  return palette.get(name);
}

export function forgetColours() {
  palette.clear();
}

export class Chart {
  /**
   * @param host an element that has a size; @param series see above
   * @param options {unit, least: the smallest span of the axis, zero: whether it begins at 0, bounds, marks: [{at, label}],
   *   split: from where on it is shaded, label: of a place on the axis below, by the distance to the next, increments: what that may
   *   be, timeless: whether it has no such axis, calm: how fast the axis narrows, 0 to 1, labelled: whether marks have words,
   *   bands: [{series: [upper, lower], colour}]}
   */
  constructor(host, series, options = {}) {
    this.host = host;
    this.options = { least: 1, marks: [], ...options };
    this.range = null; // of the axis, as it is drawn now
    const axis = {
      stroke: () => shade("text-soft"),
      grid: { stroke: () => shade("grid"), width: 1 },
      ticks: { show: false },
      font: FONT,
    };
    this.plot = new uPlot(
      {
        width: Math.max(host.clientWidth, 50),
        height: Math.max(host.clientHeight, 50),
        legend: { show: false },
        cursor: { show: false },
        padding: [TITLE, BESIDE, options.timeless ? 8 : 0, 0],
        scales: { x: { time: false, auto: false }, y: { auto: false } },
        axes: [
          {
            ...axis,
            size: options.timeless ? 0 : 26,
            gap: 4,
            space: 60,
            ...(options.increments && { incrs: options.increments }),
            values: (_, splits, axis, space, increment) => splits.map((split) => (options.timeless ? "" : (options.label ?? number)(split, increment))),
          },
          { ...axis, size: 46, gap: 6, space: 28, values: (_, splits) => splits.map(number) },
        ],
        series: [{}, ...series.map(line)],
        bands: options.bands?.map(({ series: edges, colour: name }) => ({ series: edges, fill: () => shade(name) })),
        hooks: { drawClear: [(plot) => this.#shade(plot)], draw: [(plot) => this.#mark(plot)] },
      },
      [[], ...series.map(() => [])],
      host,
    );
    this.observer = new ResizeObserver(() => {
      if (host.clientWidth && host.clientHeight) this.plot.setSize({ width: host.clientWidth, height: host.clientHeight });
    });
    this.observer.observe(host);
  }

  /** Draw columns, the first of them along the axis below, from `from` to `to` on it. */
  draw(columns, from, to) {
    const range = this.#follow(columns);
    this.plot.batch(() => {
      this.plot.setData(columns, false);
      this.plot.setScale("x", { min: from, max: to });
      this.plot.setScale("y", range);
    });
  }

  /** With the colours of now. */
  redraw() {
    this.plot.redraw(false, true);
  }

  remove() {
    this.observer.disconnect();
    this.plot.destroy();
  }

  /** The range of the axis: widens at once, and narrows slowly. */
  #follow([, ...columns]) {
    if (this.options.bounds) return { min: this.options.bounds[0], max: this.options.bounds[1] };
    let min = Infinity, max = -Infinity;
    for (const column of columns) {
      for (let index = 0; index < column.length; index++) {
        const value = column[index];
        if (value < min && value !== null) min = value; // NaN is neither
        if (value > max && value !== null) max = value;
      }
    }
    if (this.options.zero) min = 0;
    if (!(min <= max)) return this.range ?? { min: this.options.zero ? 0 : -1, max: 1 };
    const middle = (min + max) / 2, half = Math.max(max - min, this.options.least) / 2;
    const wanted = this.options.zero ? { min: 0, max: Math.max(max * 1.12, this.options.least) } : { min: middle - 1.12 * half, max: middle + 1.12 * half };
    const was = this.range ?? wanted, calm = this.options.calm ?? 1;
    this.range = {
      min: wanted.min < was.min ? wanted.min : was.min + (wanted.min - was.min) * calm,
      max: wanted.max > was.max ? wanted.max : was.max + (wanted.max - was.max) * calm,
    };
    return this.range;
  }

  /** Where something is shaded, such as what a forecast has seen. */
  #shade(plot) {
    const { left, top, width, height } = plot.bbox;
    if (this.options.split === undefined) return;
    const at = plot.valToPos(this.options.split, "x", true);
    plot.ctx.fillStyle = shade("shade");
    plot.ctx.fillRect(at, top, left + width - at, height);
  }

  #mark(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.textAlign = "left";
    ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
    for (const { at, label } of this.options.marks) {
      const x = plot.valToPos(at, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.strokeStyle = ctx.fillStyle = shade("mark");
      ctx.lineWidth = devicePixelRatio;
      ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      if (this.options.labelled) ctx.fillText(label, x + 4 * devicePixelRatio, bbox.top + 12 * devicePixelRatio);
    }
    ctx.restore();
  }
}

function line({ label, colour: name, width = 1, dash, fill }) {
  return { label, stroke: () => shade(name), fill: fill && (() => shade(fill)), width, dash, points: { show: false }, spanGaps: false };
}

/** As short as it can be told without a mistake. */
export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e5 || (size > 0 && size < 1e-3)) return Number(value.toPrecision(4)).toExponential().replace("e+", "e").replace("-", "−");
  return String(Number(value.toPrecision(4))).replace("-", "−");
}
