/**
 * True motion of a rigid body: angular rates, and the specific force that an ideal accelerometer feels.
 *
 * The same as scripts/gyro/motion.py, as an endless function of time: sections at rest, swaying or rotating fast, with smooth
 * passages between them. Knows nothing of sensors.
 */

import { SmoothNoise } from "./random.js";

const GRAVITY = 9.80665; // m/s^2
const MOST_RATE = 1000; // deg/s, approached and never passed
const REST_SHARE = 0.3;
const MOVING = [
  { share: 0.4, rate: [1, 40], acceleration: [0.05, 0.5], bandwidth: [0.1, 1] }, // sway
  { share: 0.3, rate: [60, 450], acceleration: [0.5, 6], bandwidth: [0.5, 3] }, // fast
];
const SECTION = [2, 8]; // seconds
const FIRST_REST = 3; // seconds
const PASSAGE = 0.12; // seconds, standard deviation of the Gaussian that joins two sections
const RADIANS = Math.PI / 180;

export class Motion {
  /** @param draw random numbers; @param extent of the motion: 0 lies still, 1 is the most that the model was trained with. */
  constructor(draw, extent) {
    this.draw = draw;
    this.extent = extent;
    this.regimes = MOVING.map((regime) => {
      const bandwidth = draw.logBetween(...regime.bandwidth);
      const axes = () => [0, 1, 2].map(() => new SmoothNoise(draw, bandwidth));
      return { ...regime, rates: axes(), forces: axes() };
    });
    this.sections = [{ begin: -10, end: FIRST_REST, regime: null }];
    this.attitude = normalised([draw.normal(), draw.normal(), draw.normal(), draw.normal()]); // uniform over all
    this.seconds = null;
    this.rate = [0, 0, 0];
  }

  /** Go on to a later moment: {rate: deg/s, force: m/s^2}, both in the body's frame. */
  advance(seconds) {
    this.#plan(seconds);
    const rate = [0, 0, 0], linear = [0, 0, 0];
    for (const regime of this.regimes) {
      const [turning, pushing] = this.#envelope(regime, seconds);
      for (let axis = 0; axis < 3; axis++) {
        rate[axis] += turning * regime.rates[axis].at(seconds);
        linear[axis] += pushing * regime.forces[axis].at(seconds);
      }
    }
    for (let axis = 0; axis < 3; axis++) {
      rate[axis] = MOST_RATE * Math.tanh((this.extent * rate[axis]) / MOST_RATE);
      linear[axis] *= this.extent;
    }
    if (this.seconds !== null) this.attitude = turned(this.attitude, this.rate, rate, seconds - this.seconds);
    this.seconds = seconds;
    this.rate = rate;
    return { rate, force: seenFrom(this.attitude, [linear[0], linear[1], linear[2] + GRAVITY]) };
  }

  /** Draw sections until there are enough of them for this moment, and forget those that are over. */
  #plan(seconds) {
    while (this.sections.at(-1).end < seconds + 1) {
      const begin = this.sections.at(-1).end;
      let lot = this.draw.uniform() - REST_SHARE, regime = null;
      for (const each of this.regimes) {
        if (lot >= 0 && lot < each.share) regime = each;
        lot -= each.share;
      }
      this.sections.push({
        begin,
        end: begin + this.draw.between(...SECTION),
        regime,
        turning: regime && this.draw.logBetween(...regime.rate),
        pushing: regime && this.draw.logBetween(...regime.acceleration),
      });
    }
    while (this.sections[0].end < seconds - 1) this.sections.shift();
  }

  /** How strongly it turns and is pushed in one regime at this moment. */
  #envelope(regime, seconds) {
    let turning = 0, pushing = 0;
    for (const section of this.sections) {
      if (section.regime !== regime) continue;
      const share = step((seconds - section.begin) / PASSAGE) - step((seconds - section.end) / PASSAGE);
      turning += share * section.turning;
      pushing += share * section.pushing;
    }
    return [turning, pushing];
  }
}

/** The attitude after a turn from one rate to another, deg/s, within `seconds`: the midpoint rule. Quaternions [w, x, y, z]. */
export function turned(attitude, before, after, seconds) {
  const half = (RADIANS * seconds) / 4; // of the sum of two rates
  const x = half * (before[0] + after[0]), y = half * (before[1] + after[1]), z = half * (before[2] + after[2]);
  const angle = Math.hypot(x, y, z);
  const sine = angle < 1e-9 ? 1 : Math.sin(angle) / angle;
  return normalised(product(attitude, [Math.cos(angle), sine * x, sine * y, sine * z]));
}

export function product(a, b) {
  return [
    a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
    a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
    a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
    a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
  ];
}

export function conjugate(q) {
  return [q[0], -q[1], -q[2], -q[3]];
}

function normalised(q) {
  const norm = Math.hypot(...q);
  return q.map((each) => each / norm);
}

/** A vector of the world in the body's frame. */
function seenFrom(attitude, vector) {
  return product(product(conjugate(attitude), [0, ...vector]), attitude).slice(1);
}

/** The normal distribution function, within 1e-5 (Abramowitz & Stegun, 26.2.16). */
function step(z) {
  if (z > 5) return 1;
  if (z < -5) return 0;
  const t = 1 / (1 + 0.33267 * Math.abs(z));
  const tail = (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)) * t * (0.4361836 + t * (-0.1201676 + t * 0.937298));
  return z > 0 ? 1 - tail : tail;
}
