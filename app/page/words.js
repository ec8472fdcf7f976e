/** What the panel "Live" says of its source: a simulated sensor, which has no name, or a recording; null: none yet. */

import { find, say } from "./dom.js";

/** Say in a sentence what is seen. */
export function introduce(source, model) {
  const simulated = source !== null && source.name === undefined;
  const from = simulated ? "Every sample of a simulated MEMS sensor" : `Each row of ${source?.name ?? "a recording"}`;
  say(find("#live-title"), simulated ? "A noisy gyroscope, cleaned while it moves" : `A recording, answered by ${model.name} as it plays`);
  say(find("#live-text"), `${from} goes to this service over a WebSocket; the recurrent network’s answer is drawn as it comes back.`);
}

/** What is streamed, and whether it comes at the rate that the model was made for. */
export function streaming({ name, length, rate }, { sample_rate: wanted }) {
  const hertz = Number(rate.toPrecision(4));
  const what = name === undefined ? "Streaming" : `Streaming ${name}, ${length} rows`;
  return wanted === null || Math.abs(rate / wanted - 1) < 0.01 ? `${what}.` : `${what}, at ${hertz} Hz; the model was trained at ${wanted} Hz.`;
}
