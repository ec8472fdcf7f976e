/** What the panel "Live" says of its source: a simulated sensor, which has no name, or a recording; null: none yet. */

import { find, say } from "./dom.js";
import { span } from "./spans.js";

/** Say in a sentence what is seen. */
export function introduce(source, model) {
  const simulated = source !== null && source.name === undefined;
  const from = simulated ? "Every sample of a simulated MEMS sensor" : `Each row of ${source?.name ?? "a recording"}`;
  say(find("#live-title"), simulated ? "A noisy gyroscope, cleaned while it moves" : `A recording, answered by ${model.name} as it plays`);
  say(find("#live-text"), `${from} goes to this service over a WebSocket; the recurrent network’s answer is drawn as it comes back.`);
}

/** What is streamed, and whether it comes at the rate that the model was made for; of what is slow, that it is played faster. */
export function streaming({ name, length, rate, speed, note = "" }, { sample_rate: wanted }) {
  const what = name === undefined ? "Streaming" : `Streaming ${name}, ${length.toLocaleString("en")} rows`;
  const like = wanted === null || Math.abs(rate / wanted - 1) < 0.01;
  const faster = speed && speed.now > 1 ? ` It is played at ${speed.text}: Rate makes it faster or slower.` : "";
  const pace = like && !faster ? "" : `, ${often(rate)}`;
  return `${what}${pace}${like ? "" : `; the model was trained ${often(wanted).replace("one", "on one")}`}.${note}${faster}`;
}

/** How often rows come. */
export function often(rate) {
  return rate >= 0.1 ? `at ${Number(rate.toPrecision(4))} Hz` : `one every ${span(1 / rate)}`;
}
