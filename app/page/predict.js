/**
 * The panel "Predict": a sequence, the model's answer to it, and the command that asks for the same.
 *
 * Owns how a sequence is read. The drawing is answers.js's.
 */

import { Answers } from "./answers.js";
import { TableError, numbers, parse, places, textOf, whole, write } from "./csv.js";
import { download, find, make, onFile, say } from "./dom.js";
import { Gyroscope, TURN_ON } from "./gyro.js";
import { isForGyro, label, named, signalsOf } from "./models.js";
import { often } from "./words.js";

const SHOWN = 1200; // characters of a command
const LONGEST = 100_000; // characters of a command that is copied in whole

export class Predict {
  constructor(service) {
    this.service = service;
    this.turn = 0; // of what was asked for last: what comes of anything before it is too late
    this.answers = new Answers(find("#answers"));
    find("#predict-model").addEventListener("change", (event) => this.#choose(event.target.selectedIndex));
    find("#ask").addEventListener("click", () => this.#ask());
    find("#example").addEventListener("click", () => this.#example());
    find("#copy").addEventListener("click", () => this.#copy());
    find("#body").addEventListener("click", () => download("sequence.json", this.body, "application/json"));
    onFile(find("#question"), find("#upload"), find("#upload-file"), (file) => this.#open(file));
  }

  use({ default: name, models }) {
    this.models = models;
    find("#predict-model").replaceChildren(...models.map((model) => new Option(label(model, models))));
    find("#predict-model").selectedIndex = Math.max(0, models.findIndex((model) => model.name === name));
    this.#choose(find("#predict-model").selectedIndex);
  }

  /** Whether it is looked at: then there is something to see. */
  shown(is) {
    this.visible = is;
    if (is && this.model && !find("#sequence").value) this.#example();
  }

  /** Ask once more, with a key. */
  again() {
    if (this.visible && find("#sequence").value) this.#ask();
    else if (this.visible) this.#example();
  }

  redraw() {
    this.answers.redraw();
  }

  #choose(index) {
    this.turn++;
    this.model = this.models[index];
    const { features, outputs, description, time_steps: steps, horizon, provider, sample_rate: rate } = this.model;
    const facts = [
      description,
      `${features.length} feature${features.length > 1 ? "s" : ""} a step${rate ? `, ${often(rate)}` : ""}.`,
      steps ? `A sequence has exactly ${steps} steps${horizon ? `, and ${horizon} are forecast` : ""}.` : "A sequence may have any length.",
      `Runs on ${provider.replace("ExecutionProvider", "")}.`,
    ];
    say(find("#about"), facts.filter(Boolean).join(" "));
    find("#features").replaceChildren(...features.map((feature) => make("li", { text: named(feature) })));
    find("#outputs").replaceChildren(...outputs.flatMap((output) => signalsOf(output).map((signal) => make("li", { text: named(signal) }))));
    find("#sequence").value = "";
    this.#clear();
    if (this.visible) this.#example();
  }

  #clear() {
    this.answers.clear();
    find("#command-box").hidden = find("#table-box").hidden = true;
    this.#tell("");
  }

  /** A sequence that makes sense: of the simulated sensor, or of the model's own golden sample. */
  async #example() {
    const { model } = this, turn = ++this.turn;
    const names = model.features.map(({ name }) => name);
    try {
      const rows = isForGyro(model) ? simulated(names, model) : (await this.service.example(model)).input;
      if (turn !== this.turn) return;
      find("#sequence").value = write(names, rows);
      this.#ask();
    } catch (error) {
      if (turn !== this.turn) return;
      this.#tell(error.message, true);
    }
  }

  async #open(file) {
    const turn = ++this.turn;
    try {
      const text = await textOf(file);
      if (turn !== this.turn) return;
      find("#sequence").value = text;
    } catch (error) {
      if (turn !== this.turn) return;
      if (!(error instanceof TableError)) throw error;
      return this.#tell(`${file.name}: ${error.message}`, true);
    }
    this.#tell(`Read ${file.name}.`);
    this.#ask();
  }

  async #ask() {
    const { model } = this, turn = ++this.turn;
    this.#clear();
    let body;
    try {
      const { steps, note } = read(find("#sequence").value, model);
      body = JSON.stringify({ instances: [steps], model: model.name, version: model.version });
      this.#tell("Asking …");
      const began = performance.now();
      const answer = await this.service.predict(body);
      if (turn !== this.turn) return;
      const took = performance.now() - began;
      this.answers.show(model, steps, answer.predictions[0]);
      this.#tell(`${steps.length} step${steps.length > 1 ? "s" : ""} answered by ${answer.model} ${answer.version} on ${answer.provider} in ${took.toFixed(took < 10 ? 1 : 0)} ms.${note}`);
      find("#table-box").hidden = false;
    } catch (error) {
      if (turn !== this.turn) return;
      if (!(error instanceof TableError) && error.status === undefined) throw error;
      this.#tell(error.message, true);
    }
    if (body) this.#offer(body);
  }

  /** The command for the same request. A long sequence goes into a file of its own. */
  #offer(body) {
    this.body = body;
    const long = body.length > LONGEST;
    const data = long ? "--data-binary @sequence.json" : `--data-binary '${body.replaceAll("'", "'\\''")}'`;
    const key = this.service.key ? ` -H "Authorization: Bearer $RECURVE_KEY"` : "";
    this.command = `curl -s '${this.service.url("predict")}' -H 'Content-Type: application/json'${key} ${data}`;
    say(find("#command"), this.command.length > SHOWN ? `${this.command.slice(0, SHOWN)} …` : this.command);
    find("#body").hidden = !long;
    find("#command-box").hidden = false;
    say(find("#copy"), "Copy");
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.command);
      say(find("#copy"), "Copied");
    } catch { // no permission, or not a secure page: then by hand
      say(find("#command"), this.command);
      getSelection().selectAllChildren(find("#command"));
      say(find("#copy"), "Selected");
    }
  }

  #tell(text, wrong = false) {
    say(find("#predict-status"), text);
    find("#predict-status").classList.toggle("wrong", wrong);
  }
}

/** {steps: of numbers, from what was pasted, note: what was done about gaps}; TableError. */
export function read(text, model) {
  const names = model.features.map(({ name }) => name);
  if (!text.trim()) throw new TableError("There is no sequence yet: paste one, open a file, or take the example.");
  if (!/^\s*[[{]/.test(text)) {
    const table = parse(text);
    const { rows, note } = whole(table, numbers(table, places(table, names), names, model.reading), names, model.reading);
    return { steps: rows, note };
  }
  let told;
  try {
    told = JSON.parse(text);
  } catch (error) {
    throw new TableError(`It is not valid JSON: ${error.message}`);
  }
  let steps = told.instances?.[0] ?? told;
  steps = steps.input ?? steps;
  if (!Array.isArray(steps)) throw new TableError("Expected an array of steps, or an object with instances or input.");
  const found = steps.map((step) => (Array.isArray(step) ? step : typeof step === "object" && step ? names.map((name) => step[name]) : [step]));
  return { steps: found, note: "" };
}

function simulated(names, model) {
  const sensor = new Gyroscope(5, { noise: 1, bias: TURN_ON, motion: 0.01, rate: model.sample_rate ?? 100 });
  return Array.from({ length: 1000 }, () => {
    sensor.next();
    return names.map((name) => Number(sensor.features[sensor.names.indexOf(name)].toPrecision(6)));
  });
}
