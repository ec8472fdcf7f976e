/** The figures beside the plots: errors, delays, and what the service says of itself. Knows nothing of how a run goes. */

import { find, say } from "./dom.js";
import { metric } from "./service.js";
import { span } from "./spans.js";
import { rmse } from "./stats.js";

const EVERY = 250; // milliseconds between two looks at the run
const ASK_EVERY = 3000; // and at the service
const SPAN = 10; // seconds

export class Readouts {
  constructor(service) {
    this.service = service;
    this.shown = 0;
    this.asked = 0;
    this.counts = null;
  }

  /** Say nothing, where nothing is streamed. */
  clear() {
    find("#figures").hidden = find("#fallback-row").hidden = true;
    for (const each of ["p50", "p99", "provider", "batch", "streams", "stream-id"]) say(find(`#${each}`), "–");
    for (const each of ["answered", "measured", "chunks", "resent"]) say(find(`#${each}`), "0");
  }

  begin(run) {
    this.clear();
    this.run = run;
    this.asked = 0;
    this.counts = null;
    const told = { error: run.trace.truths.length && run.raw.every((place) => place >= 0), drift: run.drifts };
    for (const [name, is] of Object.entries(told)) {
      find(`#figure-${name}`).hidden = !is;
      for (const each of ["raw", "answer", "gain"]) say(find(`#${name}-${each}`), "–");
      say(find(`#${name}-so`), "");
    }
    find("#figures").hidden = !Object.values(told).some(Boolean);
    const units = new Set(run.model.outputs[0].signals.map(({ unit }) => unit));
    say(find("#error-unit"), `RMSE, ${units.size === 1 ? [...units][0] : ""}`.replace(/, $/, ""));
  }

  show(now) {
    if (now - this.shown < EVERY) return;
    this.shown = now;
    const { trace, stream, delays, chunks, raw, drifts } = this.run;
    const to = trace.answered, from = Math.max(trace.first, Math.min(to, trace.since(this.run.clock - SPAN * this.run.speed)));
    say(find("#error-span"), `last ${span(SPAN * this.run.speed)}`);
    if (trace.truths.length && to > from) {
      const pairs = (columns) => trace.truths.map((truth, index) => [truth, columns[index]]);
      if (raw.every((place) => place >= 0)) compare("error", rmse(pairs(raw.map((place) => trace.features[place])), from, to), rmse(pairs(trace.outputs), from, to));
      if (drifts) compare("drift", ...trace.extras.map((column) => column.at(to - 1)));
    }
    say(find("#p50"), milliseconds(delays.of(0.5)));
    say(find("#p99"), milliseconds(delays.of(0.99)));
    say(find("#answered"), trace.answered.toLocaleString("en"));
    say(find("#measured"), trace.measured.toLocaleString("en"));
    say(find("#chunks"), chunks.toLocaleString("en"));
    say(find("#resent"), stream.resent.toLocaleString("en"));
    say(find("#stream-id"), stream.id);
    if (now - this.asked > ASK_EVERY) {
      this.asked = now;
      this.#ask().catch(() => {}); // the stream says that the service is away
    }
  }

  async #ask() {
    const { model } = this.run;
    const [health, text] = await Promise.all([this.service.health(), this.service.metrics()]);
    const served = health.models.find(({ name, version }) => name === model.name && version === model.version);
    say(find("#provider"), served?.provider ? served.provider.replace("ExecutionProvider", "") + ` · ${model.name} ${model.version}` : "–");
    find("#fallback-row").hidden = !served?.fallback_reason;
    say(find("#fallback"), served?.fallback_reason ?? "");
    say(find("#streams"), health.streams.alive === null ? "–" : `${health.streams.alive} · ${health.streams.store}`);
    const labels = { model: model.name, version: model.version };
    const counts = ["inferences", "executions"].map((name) => metric(text, `recurve_${name}_total`, labels));
    const [inferences, executions] = counts.map((count, index) => count - (this.counts?.[index] ?? 0));
    if (text) say(find("#batch"), executions > 0 ? `${(inferences / executions).toFixed(2)} sequences` : "–");
    this.counts = counts;
  }
}

/** The error of both, and how many times smaller one is. */
function compare(name, raw, answer) {
  if (!Number.isFinite(raw) || !Number.isFinite(answer)) return;
  const digits = (value) => value.toFixed(value < 0.995 ? 3 : value < 9.95 ? 2 : 1);
  say(find(`#${name}-raw`), digits(raw));
  say(find(`#${name}-answer`), digits(answer));
  const gain = raw / answer;
  const better = gain >= 1;
  find(`#figure-${name} .gain`).classList.toggle("worse", !better);
  const times = better ? gain : 1 / gain;
  say(find(`#${name}-gain`), `${times.toFixed(times < 9.95 ? 1 : 0)}×`);
  say(find(`#${name}-so`), better ? "lower" : "higher");
}

function milliseconds(value) {
  return Number.isNaN(value) ? "–" : value.toFixed(value < 9.95 ? 1 : 0);
}
