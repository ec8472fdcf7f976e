/** The sliders of the simulated sensor: what they say, and what that is. */

import { find, say } from "./dom.js";

const NAMES = ["noise", "bias", "motion", "rate"];

export class Settings {
  /** @param moved called while a slider moves; @param rateChanged when the rate is another one. */
  constructor(moved, rateChanged) {
    this.inputs = Object.fromEntries(NAMES.map((name) => [name, find(`#${name}`)]));
    for (const name of NAMES) {
      this.inputs[name].addEventListener("input", () => {
        this.#tell();
        if (name !== "rate") moved();
      });
    }
    this.inputs.rate.addEventListener("change", rateChanged);
    this.#tell();
  }

  /** Noise in that of the datasheet, bias in deg/s, motion in that of the training, rate in Hz. */
  get values() {
    const { noise, bias, motion, rate } = Object.fromEntries(NAMES.map((name) => [name, Number(this.inputs[name].value)]));
    return { noise, bias, motion: motion === 0 ? 0 : 10 ** (-3 + (3 * motion) / 100), rate };
  }

  #tell() {
    const { noise, bias, motion, rate } = this.values;
    const told = {
      noise: `${noise} × datasheet`,
      bias: `${bias} deg/s`,
      motion: motion === 0 ? "none" : `${Number((100 * motion).toPrecision(2))} %`,
      rate: `${rate} Hz`,
    };
    for (const name of NAMES) {
      say(find(`#${name}-value`), told[name]);
      this.inputs[name].setAttribute("aria-valuetext", told[name]);
    }
  }
}
