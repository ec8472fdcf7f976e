/**
 * A recording from a table, played as a sensor would tell it: row by row, at its rate.
 *
 * Owns which columns it is made of. Knows nothing of who listens.
 */

import { TableError, numbers, parse, places, whole } from "./csv.js";
import { Speed } from "./speed.js";

const TIMES = ["time", "t", "timestamp", "seconds", "time_s"];
const DATE = /^\d{4}-\d{2}(-\d{2}|$)/;

export class Recording {
  /** @param text of the table; @param model as /models tells it; TableError where its features are not there. */
  constructor(text, name, model) {
    const table = parse(text);
    this.name = name;
    this.names = model.features.map((feature) => feature.name);
    this.truthNames = model.outputs[0].signals.map((signal) => signal.name);
    const { rows, left, note } = whole(table, numbers(table, places(table, this.names), this.names, model.reading), this.names, model.reading);
    this.rows = rows;
    this.note = note; // of what was done about gaps
    this.truths = this.#truths(table, model)?.slice(left) ?? null;
    this.told = this.truths?.every((row) => !row.some(Number.isNaN)) ?? false; // whether the truth of each row is known
    this.rate = this.#rate(table, model) ?? model.sample_rate ?? 100;
    this.speed = new Speed(this);
    this.at = 0;
    this.features = new Float32Array(this.names.length);
    this.truth = new Float64Array(this.truths ? this.truthNames.length : 0);
    if (!this.truths) this.truthNames = [];
  }

  get length() {
    return this.rows.length;
  }

  /** Columns that are named as the outputs are: what is true, where it is known. */
  #truths(table, { reading }) {
    if (!this.truthNames.length || this.truthNames.every((name) => this.names.includes(name)) || table.names === null) return null;
    try {
      return numbers(table, places(table, this.truthNames), this.truthNames, reading);
    } catch (error) {
      if (error instanceof TableError) return null;
      throw error;
    }
  }

  /** Hz, by a column of dates or of seconds; null where there is none. */
  #rate({ names, rows }, { reading, sample_rate: wanted }) {
    const cells = (place) => [rows[0], rows.at(-1)].map((row) => (row[place] ?? "").trim());
    const known = names?.findIndex((name) => name === reading?.time || TIMES.includes(name.toLowerCase())) ?? -1;
    const place = known < 0 ? rows[0].findIndex((_, index) => cells(index).every((cell) => DATE.test(cell))) : known;
    if (place < 0) return null;
    const dated = cells(place).every((cell) => DATE.test(cell));
    const [begin, end] = cells(place).map((cell) => (dated ? Date.parse(cell) / 1000 : Number(cell)));
    const rate = (rows.length - 1) / (end - begin);
    if (!(rate > 0 && rate < Infinity)) return null;
    const near = wanted && rate / wanted > 0.01 && rate / wanted < 100;
    return dated || near || (rate >= 1 && rate <= 2000) ? rate : null; // else it is not in seconds
  }

  /** To its first row. */
  rewind() {
    this.at = 0;
    return this;
  }

  /** The next row, in `features` and `truth`; false after the last. */
  next() {
    if (this.at >= this.rows.length) return false;
    this.features.set(this.rows[this.at]);
    if (this.truths) this.truth.set(this.truths[this.at]);
    this.at++;
    return true;
  }
}
