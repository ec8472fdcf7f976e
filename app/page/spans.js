/** Spans of time in the unit that suits them: on an axis, and in a sentence. Knows nothing of what takes so long. */

const UNITS = [["d", 86_400], ["h", 3600], ["min", 60], ["s", 0]];
const CLOCK = [60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200]; // seconds, from minutes to half a day
const powers = (unit, from, to) =>
  Array.from({ length: to - from + 1 }, (_, index) => from + index).flatMap((power) => [1, 2, 5].map((each) => each * 10 ** power * unit));

/** By how much the marks of an axis of seconds may lie apart. */
export const INCREMENTS = [...powers(1, -9, 0), 10, 15, 30, ...CLOCK, ...powers(86_400, 0, 7)];

/** The unit for spans of about so many seconds, and its length. */
export function unitOf(seconds) {
  const [unit, length] = UNITS.find(([, least]) => seconds >= least * 0.999);
  return { unit, length: length || 1 };
}

/** A place on an axis whose marks lie `increment` seconds apart. */
export function place(seconds, increment) {
  const { unit, length } = unitOf(increment);
  return `${Number((seconds / length).toPrecision(12)).toLocaleString("en", { maximumFractionDigits: 9 })} ${unit}`;
}

export function span(seconds) {
  const { unit, length } = unitOf(seconds);
  return `${Number((seconds / length).toPrecision(3)).toLocaleString("en")} ${unit}`;
}
