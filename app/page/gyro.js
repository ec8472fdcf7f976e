/**
 * A simulated gyroscope with an accelerometer: what it measures, and what is true.
 *
 * The same physics as the trainer's, scripts/gyro/sensor.py: scale factors and misalignment, turn-on bias, white noise, bias
 * instability, rate random walk, clipping, quantisation.
 */

import { Motion } from "./motion.js";
import { Draw, FlickerNoise } from "./random.js";
import { SPECIMEN } from "./specimen.js";

export const FEATURES = ["gyro_x", "gyro_y", "gyro_z", "accel_x", "accel_y", "accel_z"];
export const RATES = ["rate_x", "rate_y", "rate_z"];
export const TURN_ON = SPECIMEN.gyro.turn_on; // deg/s
export const PART = SPECIMEN.part;

class Channel {
  constructor(draw, budget) {
    this.draw = draw;
    this.budget = budget;
    this.flicker = [0, 1, 2].map(() => new FlickerNoise(draw));
    this.walk = [0, 0, 0];
    this.bias = [0, 1, 2].map(() => (draw.uniform() < 0.5 ? -1 : 1) * draw.between(0.8, 1.1)); // of the turn-on bias that is set
  }

  /** Write what is measured of `truth` into `target`, from `at` on. */
  measure(truth, target, at, { period, noise, turnOn }) {
    const { white, flicker, drift, resolution, limit, matrix } = this.budget;
    const most = Math.floor(limit / resolution);
    for (let axis = 0; axis < 3; axis++) {
      this.walk[axis] += drift * Math.sqrt(period) * this.draw.normal();
      const row = matrix[axis];
      const signal =
        row[0] * truth[0] + row[1] * truth[1] + row[2] * truth[2] +
        turnOn * this.bias[axis] +
        noise * ((white / Math.sqrt(period)) * this.draw.normal() + flicker * this.flicker[axis].next(period) + this.walk[axis]);
      target[at + axis] = Math.max(-most, Math.min(most, Math.round(signal / resolution))) * resolution;
    }
  }
}

export class Gyroscope {
  /** @param settings {noise, bias, motion, rate}: of the datasheet's, deg/s, of the trainer's, Hz. May be changed at any time. */
  constructor(seed, settings) {
    const draw = new Draw(seed);
    this.settings = settings;
    this.motion = new Motion(draw, settings.motion);
    this.gyro = new Channel(draw, SPECIMEN.gyro);
    this.accelerometer = new Channel(draw, SPECIMEN.accelerometer);
    this.seconds = 0;
    this.names = FEATURES;
    this.truthNames = RATES;
    this.told = true; // whether the truth of each sample is known
    this.features = new Float32Array(6);
    this.truth = new Float64Array(3);
  }

  get rate() {
    return this.settings.rate;
  }

  /** The next sample, in `features` and `truth`; a sensor has no end. */
  next() {
    const { noise, bias, motion, rate } = this.settings;
    const period = 1 / rate;
    this.motion.extent = motion;
    const actual = this.motion.advance(this.seconds);
    this.gyro.measure(actual.rate, this.features, 0, { period, noise, turnOn: bias });
    this.accelerometer.measure(actual.force, this.features, 3, { period, noise: 1, turnOn: SPECIMEN.accelerometer.turn_on });
    this.truth.set(actual.rate);
    this.seconds += period;
    return true;
  }
}
