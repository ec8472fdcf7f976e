/** Figures of a trace: errors, drift, delays. Knows nothing of where they are shown. */

import { conjugate, product, turned } from "./motion.js";

/** Root mean square of the differences of columns, pair by pair, over samples `from` to `to`; NaN where there are none. */
export function rmse(pairs, from, to) {
  let sum = 0, count = 0;
  for (const [a, b] of pairs) {
    const x = a.window(from, to), y = b.window(from, to);
    for (let index = 0; index < x.length; index++) {
      const square = (x[index] - y[index]) ** 2;
      if (Number.isNaN(square)) continue; // nobody knows what is true there
      sum += square;
      count++;
    }
  }
  return Math.sqrt(sum / count);
}

/** The angle between where a body is and where rates say that it is, both integrated over the last `seconds`. */
export class Drift {
  constructor(seconds, rate) {
    this.length = Math.max(1, Math.round(seconds * rate));
    this.period = 1 / rate;
    this.attitudes = []; // of the last `length` samples, a ring: [true, estimated]
    this.count = 0;
    this.now = [[1, 0, 0, 0], [1, 0, 0, 0]];
    this.before = null;
  }

  /** Take the next rates, deg/s, true and estimated; degrees. */
  add(truth, estimate) {
    if (this.before !== null) {
      this.now = [truth, estimate].map((rate, index) => turned(this.now[index], this.before[index], rate, this.period));
    }
    this.before = [truth, estimate];
    const begin = this.count < this.length ? this.attitudes[0] ?? this.now : this.attitudes[this.count % this.length];
    const [there, thought] = this.now.map((attitude, index) => product(conjugate(begin[index]), attitude));
    this.attitudes[this.count++ % this.length] = this.now;
    const [w, x, y, z] = product(conjugate(there), thought);
    return (2 * Math.atan2(Math.hypot(x, y, z), Math.abs(w)) * 180) / Math.PI;
  }
}

/** The latest of many numbers, and their percentiles. */
export class Percentiles {
  constructor(kept = 512) {
    this.values = new Float64Array(kept);
    this.count = 0;
  }

  add(value) {
    this.values[this.count++ % this.values.length] = value;
  }

  /** @param share between 0 and 1; NaN where there are none. */
  of(share) {
    const known = this.values.slice(0, Math.min(this.count, this.values.length)).sort();
    return known.length ? known[Math.min(known.length - 1, Math.floor(share * known.length))] : NaN;
  }
}
