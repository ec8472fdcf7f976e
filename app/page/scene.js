/** The plots of a run: an axis each, and how far integration has gone astray. Knows nothing of how samples come. */

import { Chart } from "./charts.js";
import { find, make } from "./dom.js";
import { named, signalsOf } from "./models.js";
import { INCREMENTS, place } from "./spans.js";

const MOST_PLOTS = 6;
const CALM = 0.04; // of the way to its new range that an axis goes in a frame, where that is narrower
const SLOWLY = 500; // milliseconds between two pictures for whoever wants no motion
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Scene {
  constructor(host) {
    this.host = host;
    this.charts = [];
    this.drawn = 0;
  }

  /** Show nothing. */
  clear() {
    for (const chart of this.charts) chart.remove();
    this.charts = [];
    this.host.replaceChildren();
    find("#scene .legend").hidden = true;
  }

  /** Show another run: {model, trace, raw, marks, drifts}. */
  begin(run) {
    this.clear();
    this.run = run;
    const signals = signalsOf(run.model.outputs[0]).slice(0, MOST_PLOTS);
    const { trace, raw } = run;
    this.columns = signals.map((_, index) => [
      ...(trace.truths.length ? [trace.truths[index]] : []),
      ...(raw[index] >= 0 ? [trace.features[raw[index]]] : []),
      trace.outputs[index],
    ]);
    if (run.drifts) this.columns.push(trace.extras);
    find("#scene .legend").hidden = false;
    find("#legend-raw").hidden = raw.every((place) => place < 0);
    find("#legend-truth").hidden = !trace.truths.length;
    const hosts = this.columns.map((_, index) => {
      const drift = index === signals.length;
      const canvas = make("div", { className: "canvas" });
      const title = drift ? "angle error after 10 s, degrees" : named(signals[index]);
      return { canvas, plot: make("div", { className: "plot" }, [make("h3", { text: title }), canvas]) };
    });
    hosts.at(-1).plot.classList.add("last");
    this.host.replaceChildren(...hosts.map(({ plot }) => plot));
    this.charts = hosts.map(({ canvas }, index) => {
      const drift = index === signals.length;
      const lines = [
        ...(!drift && trace.truths.length ? [{ label: "true", colour: "truth", width: 4.5 }] : []),
        ...(drift || raw[index] >= 0 ? [{ label: "raw", colour: "raw", width: drift ? 2 : 1 }] : []),
        { label: "model", colour: "answer", width: 2 },
      ];
      return new Chart(canvas, lines, {
        least: drift ? 1 : 2,
        zero: drift,
        calm: CALM,
        marks: run.marks,
        labelled: index === 0,
        timeless: index < hosts.length - 1,
        increments: INCREMENTS,
        label: place,
      });
    });
  }

  /** Draw the last seconds before `clock`, of which `speed` pass in one; of a run of `length` seconds no more than that. */
  draw({ clock, speed, length }, now) {
    if (still.matches && now - this.drawn < SLOWLY) return;
    this.drawn = now;
    const { trace } = this.run;
    const seconds = Math.min(length, speed * (this.host.clientWidth < 560 ? 5 : 10)), end = Math.max(clock, seconds);
    const from = Math.max(trace.first, trace.since(end - seconds) - 1), to = trace.measured;
    const time = trace.time.window(from, to);
    this.charts.forEach((chart, index) => {
      chart.draw([time, ...this.columns[index].map((column) => column.window(from, to))], end - seconds, end);
    });
    while (this.run.marks.length && this.run.marks[0].at < clock - 60 * speed) this.run.marks.shift();
  }

  /** With the colours of now. */
  redraw() {
    for (const chart of this.charts) chart.redraw();
  }
}
