/** The sliders: what they say of the simulated sensor, and how fast a recording is played. */

import { find, say } from "./dom.js";
import { POSITIONS } from "./speed.js";

const NAMES = ["noise", "bias", "motion", "rate"];
const RATES = { min: 25, max: 400, step: 25 }; // Hz

export class Settings {
  /** @param moved called while a slider moves; @param rateChanged when the sensor's rate is another one. */
  constructor(moved, rateChanged) {
    this.inputs = Object.fromEntries(NAMES.map((name) => [name, find(`#${name}`)]));
    this.speed = null; // of a recording
    this.rate = Number(this.inputs.rate.value);
    for (const name of NAMES) {
      this.inputs[name].addEventListener("input", () => {
        if (name === "rate") this.#take();
        this.#tell();
        if (name !== "rate") moved();
      });
    }
    this.inputs.rate.addEventListener("change", () => this.speed || rateChanged());
    this.#tell();
  }

  /** Noise in that of the datasheet, bias in deg/s, motion in that of the training, rate in Hz. */
  get values() {
    const { noise, bias, motion } = Object.fromEntries(NAMES.map((name) => [name, Number(this.inputs[name].value)]));
    return { noise, bias, motion: motion === 0 ? 0 : 10 ** (-3 + (3 * motion) / 100), rate: this.rate };
  }

  /** Have them work: all for the simulated sensor, that of the rate for the speed of a recording, none where there is neither. */
  serve({ simulated, speed }) {
    this.speed = speed;
    for (const name of NAMES) this.inputs[name].disabled = !(simulated || (speed && name === "rate"));
    Object.assign(this.inputs.rate, speed ? { min: 0, max: POSITIONS, step: 1, value: speed.position } : { ...RATES, value: this.rate });
    this.#tell();
  }

  #take() {
    if (this.speed) this.speed.position = Number(this.inputs.rate.value);
    else this.rate = Number(this.inputs.rate.value);
  }

  #tell() {
    const { noise, bias, motion, rate } = this.values;
    const told = {
      noise: `${noise} × datasheet`,
      bias: `${bias} deg/s`,
      motion: motion === 0 ? "none" : `${Number((100 * motion).toPrecision(2))} % of training`,
      rate: this.speed?.text ?? `${rate} Hz`,
    };
    for (const name of NAMES) {
      say(find(`#${name}-value`), told[name]);
      this.inputs[name].setAttribute("aria-valuetext", told[name]);
    }
  }
}
