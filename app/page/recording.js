/**
 * A recording from a table, played as a sensor would tell it: row by row, at its rate.
 *
 * Owns which columns it is made of. Knows nothing of who listens.
 */

import { TableError, numbers, parse, places } from "./csv.js";

const TIMES = ["time", "t", "timestamp", "seconds", "time_s"];

export class Recording {
  /** @param text of the table; @param model as /models tells it; TableError where its features are not there. */
  constructor(text, name, model) {
    const table = parse(text);
    this.name = name;
    this.names = model.features.map((feature) => feature.name);
    this.truthNames = model.outputs[0].signals.map((signal) => signal.name);
    this.rows = numbers(table, places(table, this.names), this.names);
    this.truths = this.#truths(table);
    this.rate = this.#rate(table) ?? model.sample_rate ?? 100;
    this.at = 0;
    this.features = new Float32Array(this.names.length);
    this.truth = new Float64Array(this.truths ? this.truthNames.length : 0);
    if (!this.truths) this.truthNames = [];
  }

  get length() {
    return this.rows.length;
  }

  /** Columns that are named as the outputs are: what is true, where it is known. */
  #truths(table) {
    if (!this.truthNames.length || this.truthNames.every((name) => this.names.includes(name)) || table.names === null) return null;
    try {
      return numbers(table, places(table, this.truthNames), this.truthNames);
    } catch (error) {
      if (error instanceof TableError) return null;
      throw error;
    }
  }

  /** Hz, by a column of seconds. */
  #rate(table) {
    const place = table.names?.findIndex((name) => TIMES.includes(name.toLowerCase())) ?? -1;
    if (place < 0) return null;
    const begin = Number(table.rows[0][place]), end = Number(table.rows.at(-1)[place]);
    const rate = (table.rows.length - 1) / (end - begin);
    return rate >= 1 && rate <= 2000 ? rate : null; // else it is not in seconds, or not a sensor's
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
