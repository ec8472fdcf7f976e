/**
 * The panel "Live": a sensor plays, its samples go through a stream of the service, and what comes back is drawn.
 *
 * Owns the run: the source, its clock, what was sent of it. The plots and the figures are scene.js's and readouts.js's.
 */

import { TableError, textOf, write } from "./csv.js";
import { download, find, onFile, say } from "./dom.js";
import { Gyroscope } from "./gyro.js";
import { isForGyro, label, rawOf, signalsOf } from "./models.js";
import { Readouts } from "./readouts.js";
import { Recording } from "./recording.js";
import { Scene } from "./scene.js";
import { Settings } from "./settings.js";
import { Drift, Percentiles } from "./stats.js";
import { Stream } from "./stream.js";
import { KEPT, Trace } from "./trace.js";
import { introduce, streaming } from "./words.js";

const OUTAGE = 1.5; // seconds that a cut lasts
const BEHIND = 30; // seconds that the sensor runs ahead of the service, if its trace holds so much; then it waits
const LARGEST_CHUNK = 64; // samples
const LONGEST_FRAME = 0.25; // seconds; a page that was hidden goes on where it was
export const SPAN = 10; // seconds of which errors are told

export class Live {
  constructor(service) {
    this.service = service;
    this.settings = new Settings(() => this.#settled(), () => this.begin());
    this.scene = new Scene(find("#plots"));
    this.readouts = new Readouts(service);
    this.seed = Number(new URLSearchParams(location.search).get("seed") ?? Date.now() % 2 ** 31);
    this.shown = false;
    this.playing = true;
    this.recording = null;
    find("#cut").addEventListener("click", () => this.#cut());
    find("#pause").addEventListener("click", () => this.#pause(this.playing));
    find("#again").addEventListener("click", () => this.begin());
    find("#save").addEventListener("click", () => this.#save());
    find("#live-model").addEventListener("change", (event) => this.#choose(event.target.selectedIndex));
    onFile(find("#scene"), find("#load"), find("#load-file"), (file) => this.#load(file));
    addEventListener("pagehide", () => this.stream?.end());
    addEventListener("pageshow", (event) => event.persisted && this.begin());
    requestAnimationFrame((now) => this.#frame(now));
  }

  /** Take the models that can be streamed; the default one is the first to be shown. */
  use({ default: name, models }) {
    this.models = models.filter((model) => model.streamable && model.outputs[0].every_step);
    const place = (wanted) => this.models.findIndex(wanted);
    const places = [place((model) => model.name === this.model?.name), place((model) => model.name === name && isForGyro(model)), place(isForGyro), 0];
    const first = places.find((found) => found >= 0);
    find("#live-model").replaceChildren(...this.models.map((model) => new Option(label(model, this.models))));
    find("#live-model").selectedIndex = first;
    if (!this.models.length) return this.#tell("No model of this service can be streamed: try the other tab.", true);
    this.#choose(first);
  }

  /** Whether it is looked at: a run begins with the first look, and waits while there is none. */
  show(is) {
    this.shown = is;
    if (is && this.model && !this.source) this.begin();
  }

  /** Begin a run: a sensor that was just switched on, and a new stream. */
  begin() {
    if (!this.model || !this.shown) return;
    this.stream?.end();
    this.stream = null;
    this.source = this.#source();
    introduce(this.source, this.model);
    this.settings.serve({ simulated: this.source instanceof Gyroscope, speed: this.recording?.speed ?? null });
    find("#cut").disabled = this.source === null;
    if (this.source === null) {
      this.trace = null;
      this.scene.clear();
      this.readouts.clear();
      this.#tell(`Drop a CSV with the columns ${this.model.features.map((each) => each.name).join(", ")} here.`);
      return;
    }
    const signals = signalsOf(this.model.outputs[0]);
    this.raw = rawOf(this.model);
    this.order = this.model.features.map((feature) => this.source.names.indexOf(feature.name));
    this.drifts = isForGyro(this.model) && this.source.told ? [0, 1].map(() => new Drift(SPAN, this.source.rate)) : null;
    this.trace = new Trace({
      features: this.source.names.length,
      truths: this.source.truthNames.length,
      outputs: signals.length,
      extras: this.drifts ? 2 : 0,
    });
    this.delays = new Percentiles();
    this.clock = 0; // seconds of the source
    this.sent = 0; // samples
    this.chunks = 0; // that were answered
    this.lastSent = 0;
    this.marks = [];
    this.ended = this.finished = false;
    this.scene.begin(this);
    this.readouts.begin(this);
    this.stream = new Stream(this.service, this.model, {
      answered: (chunk, outputs) => this.#answered(chunk, outputs),
      changed: (what, detail) => this.#changed(what, detail),
      refused: (detail) => this.#tell(detail, true),
    });
    this.#tell("Connecting …");
  }

  #source() {
    if (this.recording) return this.recording.rewind();
    return isForGyro(this.model) ? new Gyroscope(this.seed++, this.settings.values) : null;
  }

  /** How many seconds of the source pass in one. */
  get speed() {
    return this.recording?.speed.now ?? 1;
  }

  /** How many seconds of the source there are. */
  get length() {
    return this.recording ? this.recording.length / this.recording.rate : Infinity;
  }

  #choose(index) {
    this.model = this.models[index];
    this.recording = this.source = null;
    this.begin();
  }

  async #load(file) {
    try {
      this.recording = new Recording(await textOf(file), file.name, this.model); // what streams now goes on where this one is not to be had
    } catch (error) {
      if (!(error instanceof TableError)) throw error;
      return this.#tell(`${file.name}: ${error.message}`, true);
    }
    this.#pause(false);
    this.begin();
  }

  #settled() {
    if (this.source instanceof Gyroscope) Object.assign(this.source.settings, this.settings.values);
  }

  #pause(paused) {
    this.playing = !paused;
    find("#pause").setAttribute("aria-pressed", String(paused));
    say(find("#pause"), paused ? "Go on" : "Pause");
  }

  #cut() {
    if (!this.stream?.open) return;
    this.marks.push({ at: this.clock, label: "cut" });
    this.stream.cut(OUTAGE);
  }

  #changed(what, { seq, again, detail, seconds }) {
    if (what === "begun") this.#tell(streaming(this.source, this.model));
    if (what === "cut") this.#tell(`Connection cut. The sensor goes on; what it says waits for ${seconds} s.`);
    if (what === "lost") this.#tell("Connection lost. Trying again …", true);
    if (what === "anew") {
      this.marks.push({ at: this.clock, label: "new stream" });
      this.#tell(`The stream had ended, so a new one began. ${detail}`, true);
      this.#look();
    }
    if (what === "resumed") {
      this.#tell(`Resumed at chunk ${seq}, ${again} sent again.`);
      this.#check(`Resumed at chunk ${seq}, ${again} sent again.`);
    }
  }

  /** Go on with another version, where the one that was streamed is not the newest any more. */
  async #look() {
    const served = await this.service.models().catch(() => null);
    const newest = served?.models.find(({ name }) => name === this.model.name);
    if (newest && newest.version !== this.model.version) this.use(served);
  }

  /** Whether nothing was lost, and nothing counted twice: the service says it. */
  async #check(told) {
    const { stream } = this;
    const { counted, sent } = await stream.count().catch(() => ({}));
    if (counted === undefined || stream !== this.stream) return;
    const right = counted === sent;
    this.#tell(`${told} The service has counted ${counted} steps, ${right ? "each that was sent, once" : `and ${sent} were sent`}.`, !right);
  }

  #answered(chunk, outputs) {
    const count = chunk.steps.length / this.order.length;
    const width = this.model.outputs[0].shape.reduce((product, length) => product * length, 1); // other outputs stand behind this one
    if (!chunk.again) this.delays.add(performance.now() - chunk.sent);
    this.chunks++;
    for (let step = 0; step < count; step++) {
      const number = this.trace.answer(outputs, step * width);
      if (!this.drifts) continue;
      const truth = this.trace.truths.map((column) => column.at(number));
      const raw = this.raw.map((place) => this.trace.features[place].at(number));
      const answer = this.trace.outputs.map((column) => column.at(number));
      [raw, answer].forEach((rate, index) => this.trace.extras[index].set(number, this.drifts[index].add(truth, rate)));
    }
  }

  /** Say so, once, when a recording is over. */
  #finish() {
    if (this.finished || !this.ended || this.trace.answered < this.trace.measured) return;
    this.finished = true;
    this.#tell(`All ${this.trace.answered.toLocaleString("en")} rows are answered: download them, or begin again.`);
  }

  #frame(now) {
    requestAnimationFrame((next) => this.#frame(next));
    const passed = Math.min(LONGEST_FRAME, (now - (this.last ?? now)) / 1000);
    this.last = now;
    if (!this.shown || !this.stream) return;
    const most = Math.min(BEHIND * this.speed * this.source.rate, KEPT / 2);
    if (this.playing && !this.ended && this.trace.measured - this.trace.answered < most) this.#measure(passed * this.speed);
    this.#send(now);
    this.#finish();
    this.scene.draw(this, now);
    this.readouts.show(now);
  }

  #measure(passed) {
    const period = 1 / this.source.rate;
    this.clock += passed;
    while (this.trace.measured * period <= this.clock && !this.ended) {
      if (this.source.next()) this.trace.measure(this.trace.measured * period, this.source.features, this.source.truth);
      else this.ended = true;
    }
  }

  /** What was measured since, in chunks that are not too large. */
  #send(now) {
    while (this.stream.ready && this.sent < this.trace.measured && now - this.lastSent >= this.stream.pace) {
      const count = Math.min(LARGEST_CHUNK, this.trace.measured - this.sent);
      const steps = new Float32Array(count * this.order.length);
      this.order.forEach((place, feature) => {
        const column = this.trace.features[place].window(this.sent, this.sent + count);
        for (let step = 0; step < count; step++) steps[step * this.order.length + feature] = column[step];
      });
      this.stream.send(steps);
      this.sent += count;
      if (this.stream.pace) this.lastSent = now;
    }
  }

  #save() {
    if (!this.trace?.answered) return;
    const outputs = signalsOf(this.model.outputs[0]).map(({ name }) => name);
    const truths = this.source.truthNames.map((name) => `true_${name}`);
    download("recurve.csv", write(["time", ...this.source.names, ...truths, ...outputs], this.trace.rows()), "text/csv");
  }

  #tell(text, wrong = false) {
    say(find("#status"), text);
    find("#status").classList.toggle("wrong", wrong);
  }
}
