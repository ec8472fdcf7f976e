/**
 * A prediction as it is best seen: lines over time, a forecast after its history, probabilities.
 *
 * Owns which of them it is, by what /models tells. Knows nothing of how it was asked for.
 */

import { Chart, number } from "./charts.js";
import { find, make } from "./dom.js";
import { named, rawOf, signalsOf, stepOf } from "./models.js";

const MOST_PLOTS = 8;
const MOST_ROWS = 500;
const LEAST_HISTORY = 24; // steps beside a forecast
const CLASSES = ["answer", "raw", "class-3", "class-4", "class-5", "class-6", "class-7", "truth"];

export class Answers {
  constructor(host) {
    this.host = host;
    this.charts = [];
  }

  clear() {
    for (const chart of this.charts) chart.remove();
    this.charts = [];
    this.host.replaceChildren();
    find("#predict-legend").replaceChildren();
  }

  redraw() {
    for (const chart of this.charts) chart.redraw();
  }

  /** @param steps the sequence, and @param prediction the answer, as POST /predict has them. */
  show(model, steps, prediction) {
    this.clear();
    const [first] = model.outputs;
    const told = model.outputs.length > 1 ? prediction : { [first.name]: prediction };
    const main = told[first.name];
    if (model.horizon) this.#forecast(model, steps, main, told.quantiles);
    else if (first.every_step) this.#lines(model, steps, rowsOf(main));
    else if (Array.isArray(main) && !Array.isArray(main[0])) this.#bars(model, main);
    else this.#alone(model, rowsOf(main));
    this.#table(model, rowsOf(main));
  }

  #lines(model, steps, rows) {
    const signals = signalsOf(model.outputs[0]);
    const { step, unit } = stepOf(model);
    const time = rows.map((_, index) => index * step);
    const options = { label: (value) => `${number(value)} ${unit}` };
    if (model.task === "classify") {
      this.#legend(signals.map(({ name }, index) => [name, CLASSES[index % CLASSES.length]]));
      const columns = signals.map((_, index) => rows.map((row) => row[index]));
      const lines = signals.map(({ name }, index) => ({ label: name, colour: CLASSES[index % CLASSES.length], width: 2 }));
      this.#plot("probability of each class", lines, [time, ...columns], { ...options, bounds: [0, 1] });
      return this.#bars(model, rows.at(-1), "after the last step");
    }
    const raw = rawOf(model);
    this.#legend([...(raw.some((place) => place >= 0) ? [["what was sent", "raw"]] : []), ["the prediction", "answer"]]);
    signals.slice(0, MOST_PLOTS).forEach((signal, index) => {
      const before = raw[index] >= 0 ? [steps.map((step) => step[raw[index]])] : [];
      const lines = [...before.map(() => ({ label: "sent", colour: "raw", width: 1 })), { label: signal.name, colour: "answer", width: 2.5 }];
      this.#plot(named(signal), lines, [time, ...before, rows.map((row) => row[index])], options);
    });
    this.#more(signals.length - MOST_PLOTS);
  }

  #forecast(model, steps, rows, quantiles) {
    const signals = signalsOf(model.outputs[0]), raw = rawOf(model);
    const { step, unit } = stepOf(model);
    const past = steps.slice(-Math.max(LEAST_HISTORY, 4 * rows.length)), time = [...past, ...rows].map((_, index) => (index - past.length + 1) * step);
    const levels = quantiles ? signalsOf(model.outputs.find(({ name }) => name === "quantiles")) : [];
    this.#legend([["history", "raw"], ["forecast", "answer"], ...(quantiles ? [[`quantiles ${levels[0].name} to ${levels.at(-1).name}`, "band"]] : [])]);
    signals.slice(0, MOST_PLOTS).forEach((signal, index) => {
      const history = raw[index] >= 0 ? past.map((step) => step[raw[index]]) : past.map(() => null);
      const joined = (values) => [...history.map((value, at) => (at === history.length - 1 ? value : null)), ...values];
      const columns = [time, [...history, ...rows.map(() => null)], joined(rows.map((row) => row[index]))];
      const lines = [{ label: "history", colour: "raw", width: 1.5 }, { label: "forecast", colour: "answer", width: 2.5 }];
      if (quantiles) {
        columns.push(joined(quantiles.map((row) => row[index].at(-1))), joined(quantiles.map((row) => row[index][0])));
        lines.push({ label: "upper", colour: "band", width: 0 }, { label: "lower", colour: "band", width: 0 });
      }
      this.#plot(named(signal), lines, columns, { label: (value) => `${number(value)} ${unit}`, split: 0, banded: Boolean(quantiles) });
    });
    this.#more(signals.length - MOST_PLOTS);
  }

  /** One answer to the whole sequence: a bar for each class, or numbers. */
  #bars(model, values, when = "for the whole sequence") {
    const signals = signalsOf(model.outputs[0]);
    const best = Math.max(...values), shares = model.task === "classify" || (Math.min(...values) >= 0 && best <= 1);
    const bars = values.flatMap((value, index) => [
      make("span", { text: signals[index].name, className: value === best ? "best" : "" }),
      shares ? make("meter", { min: 0, max: 1, value, ariaLabel: signals[index].name }) : make("span"),
      make("span", { text: shares ? `${(100 * value).toFixed(1)} %` : `${number(value)} ${signals[index].unit}`, className: value === best ? "best" : "" }),
    ]);
    this.host.append(make("h3", { text: when }), make("div", { className: "bars" }, bars));
  }

  /** Rows without steps behind them: lines over their own number. */
  #alone(model, rows) {
    const signals = signalsOf(model.outputs[0]).slice(0, MOST_PLOTS);
    this.#legend([["the prediction", "answer"]]);
    signals.forEach((signal, index) => {
      this.#plot(named(signal), [{ label: signal.name, colour: "answer", width: 2.5 }], [rows.map((_, at) => at), rows.map((row) => row[index])], {});
    });
  }

  #plot(title, lines, columns, { banded, ...options }) {
    const canvas = make("div", { className: "canvas" });
    this.host.append(make("div", { className: "answer-plot" }, [make("h3", { text: title }), canvas]));
    this.host.classList.toggle("many", this.host.children.length > 2);
    const bands = banded ? [{ series: [3, 4], colour: "band" }] : undefined;
    const chart = new Chart(canvas, lines, { least: 1e-6, ...options, bands });
    this.charts.push(chart);
    chart.draw(columns, columns[0][0], columns[0].length > 1 ? columns[0].at(-1) : columns[0][0] + 1);
  }

  #more(count) {
    if (count > 0) this.host.append(make("p", { className: "note", text: `${count} more are in the numbers below.` }));
  }

  #legend(items) {
    find("#predict-legend").replaceChildren(...items.map(([text, className]) => make("li", { text, className })));
  }

  #table(model, rows) {
    const known = signalsOf(model.outputs[0]).map(named);
    const names = rows[0].map((_, index) => (rows[0].length === known.length ? known[index] : String(index)));
    const cells = (tag, texts) => make("tr", {}, texts.map((text) => make(tag, { text })));
    const body = rows.slice(0, MOST_ROWS).map((row, index) => cells("td", [String(index), ...row.map(number)]));
    const rest = rows.length > MOST_ROWS ? [make("caption", { text: `The first ${MOST_ROWS} of ${rows.length}.` })] : [];
    find("#table").replaceChildren(make("table", {}, [...rest, make("thead", {}, [cells("th", ["", ...names])]), make("tbody", {}, body)]));
  }
}

/** Rows of numbers, whatever the shape is: a number alone is a row of one. */
function rowsOf(values) {
  if (!Array.isArray(values)) return [[values]];
  if (!Array.isArray(values[0])) return [values];
  return values.map((row) => row.flat(Infinity));
}
