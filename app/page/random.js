/**
 * Random numbers with a seed, and the kinds of noise that a sensor has.
 *
 * Knows nothing of sensors.
 */

/** Uniform numbers in [0, 1): the generator sfc32. Two of the same seed give the same numbers. */
export function uniform(seed) {
  let a = 0x9e3779b9, b = 0x243f6a88, c = seed | 0, counter = 1;
  const next = () => {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum | 0;
    return (sum >>> 0) / 2 ** 32;
  };
  for (let skipped = 0; skipped < 16; skipped++) next();
  return next;
}

/** Draws from a uniform generator in the ways that are needed here. */
export class Draw {
  constructor(seed) {
    this.uniform = uniform(seed);
    this.spare = null;
  }

  /** Standard normal, by the polar method of Marsaglia. */
  normal() {
    if (this.spare !== null) {
      const spare = this.spare;
      this.spare = null;
      return spare;
    }
    let u, v, s;
    do {
      u = 2 * this.uniform() - 1;
      v = 2 * this.uniform() - 1;
      s = u * u + v * v;
    } while (s >= 1 || s === 0);
    const factor = Math.sqrt((-2 * Math.log(s)) / s);
    this.spare = v * factor;
    return u * factor;
  }

  between(low, high) {
    return low + (high - low) * this.uniform();
  }

  /** Log-uniform. */
  logBetween(low, high) {
    return Math.exp(this.between(Math.log(low), Math.log(high)));
  }
}

/**
 * Gaussian noise of unit variance whose spectrum falls as exp(-(f / bandwidth)^2 / 2): infinitely smooth, and a function of time,
 * whatever the rate at which it is asked for. White noise on a grid, blurred by the Gaussian that has this spectrum.
 */
export class SmoothNoise {
  constructor(draw, bandwidth) {
    this.draw = draw;
    this.spacing = 1 / (2 * Math.PI * bandwidth); // seconds: the Gaussian's standard deviation, a grid fine enough for it
    this.weights = new Float64Array(32); // of the grid's points around now
    this.drawn = -Infinity; // the last point that has a weight
  }

  at(seconds) {
    const reach = 6; // standard deviations
    const place = seconds / this.spacing;
    const last = Math.floor(place) + reach;
    if (this.drawn < last - 32) this.drawn = last - 32;
    while (this.drawn < last) this.weights[++this.drawn & 31] = this.draw.normal();
    let sum = 0;
    for (let point = last - 2 * reach; point <= last; point++) {
      const distance = place - point;
      sum += this.weights[point & 31] * Math.exp((-distance * distance) / 2);
    }
    return sum / Math.PI ** 0.25; // the root of the sum of the Gaussian's squares
  }
}

/**
 * 1/f noise of unit bias instability B: two-sided density B^2 / (2 pi f) (IEEE Std 952-1997, C.1.2). A sum of first-order
 * processes whose corner frequencies are a factor of 3 apart, each with the variance B^2 ln(3) / pi.
 */
export class FlickerNoise {
  constructor(draw) {
    this.draw = draw;
    this.corners = Array.from({ length: 10 }, (_, index) => 2 * Math.PI * 0.002 * 3 ** index); // rad/s, 0.002 to 39 Hz
    this.deviation = Math.sqrt(Math.log(3) / Math.PI);
    this.values = this.corners.map(() => 0); // a sensor that was just switched on: the rest is its turn-on bias
  }

  next(period) {
    let sum = 0;
    for (let index = 0; index < this.corners.length; index++) {
      const kept = Math.exp(-this.corners[index] * period);
      this.values[index] = kept * this.values[index] + this.deviation * Math.sqrt(1 - kept * kept) * this.draw.normal();
      sum += this.values[index];
    }
    return sum;
  }
}
