/**
 * What was measured, what came back, and what is true, sample by sample: the latest of it, in memory that does not grow.
 *
 * A column's samples always lie one after the other, so that a window of them is a view and not a copy. Knows nothing of plots.
 */

export const KEPT = 65_536; // samples

class Column {
  constructor(kept) {
    this.kept = kept;
    this.values = new Float64Array(2 * kept);
    this.first = 0; // number of the sample at the beginning of `values`
  }

  /** Make room for sample `number`, the next one, and set it. */
  push(number, value) {
    if (number - this.first >= this.values.length) {
      this.values.copyWithin(0, this.kept);
      this.first += this.kept;
    }
    this.values[number - this.first] = value;
  }

  set(number, value) {
    this.values[number - this.first] = value;
  }

  at(number) {
    return this.values[number - this.first];
  }

  window(from, to) {
    return this.values.subarray(from - this.first, to - this.first);
  }
}

export class Trace {
  /** @param counts how many {features, truths, outputs, extras} a sample has; extras come with the outputs. */
  constructor({ features, truths, outputs, extras = 0 }, kept = KEPT) {
    const columns = (count) => Array.from({ length: count }, () => new Column(kept));
    this.kept = kept;
    this.time = new Column(kept); // seconds
    this.features = columns(features);
    this.truths = columns(truths);
    this.outputs = columns(outputs);
    this.extras = columns(extras);
    this.measured = 0; // samples
    this.answered = 0; // the first so many of them
  }

  get first() {
    return Math.max(0, this.measured - this.kept);
  }

  measure(seconds, features, truth) {
    const number = this.measured++;
    this.time.push(number, seconds);
    this.features.forEach((column, index) => column.push(number, features[index]));
    this.truths.forEach((column, index) => column.push(number, truth[index]));
    for (const column of this.outputs) column.push(number, NaN);
    for (const column of this.extras) column.push(number, NaN);
    return number;
  }

  /** The next sample's answer: `values` from `at` on, a number for each output. Its number. */
  answer(values, at) {
    const number = this.answered++;
    this.outputs.forEach((column, index) => column.set(number, values[at + index]));
    return number;
  }

  /** What is kept of all samples that were answered: time, features, truths and outputs of each. */
  rows() {
    const columns = [this.time, ...this.features, ...this.truths, ...this.outputs], { first } = this;
    return Array.from({ length: this.answered - first }, (_, row) => columns.map((column) => column.at(first + row)));
  }

  /** The first sample that is not older than this. */
  since(seconds) {
    let low = this.first, high = this.measured;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.time.at(middle) < seconds) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
