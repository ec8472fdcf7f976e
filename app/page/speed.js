/**
 * How fast a recording is played: as it was recorded, or so much faster that there is something to see.
 *
 * Owns which speeds there are. A speed is how many of its seconds pass in one.
 */

const SLOW = 10; // rows a second: what comes no faster is not waited for
const LONGEST = 30; // seconds, for such a recording as a whole
const MOST = 20; // times its first speed, for who is in a hurry
export const POSITIONS = 100; // of the slider

export class Speed {
  constructor({ length, rate }) {
    this.first = rate > SLOW ? 1 : Math.max(SLOW, length / LONGEST) / rate;
    this.slowest = rate > SLOW ? 1 : Math.min(this.first, Math.max(1, 1 / rate)); // a row a second
    this.fastest = MOST * this.first;
    this.position = Math.ceil(POSITIONS * (Math.log(this.first / this.slowest) / Math.log(this.fastest / this.slowest)));
  }

  /** Two digits are enough to tell, and what is told is so. */
  get now() {
    const speed = this.slowest * (this.fastest / this.slowest) ** (this.position / POSITIONS);
    return this.position ? Number(speed.toPrecision(2)) : this.slowest;
  }

  get text() {
    return this.now === 1 ? "real time" : `${Number(this.now.toPrecision(4)).toLocaleString("en")} × real time`;
  }
}
