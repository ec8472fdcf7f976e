/** What follows from what /models tells of a model. Knows nothing of what is shown. */

import { FEATURES } from "./gyro.js";
import { unitOf } from "./spans.js";

const gyro = (model) => model.features.every((feature) => FEATURES.includes(feature.name)) && signalsOf(model.outputs[0]).length === 3;

/** Whether the simulated gyroscope measures what the model takes, and it answers with rates. */
export function isForGyro(model) {
  return model.streamable && model.outputs[0].every_step && gyro(model);
}

/** The numbers along an output's last axis: their names and units, made up where they are not known. */
export function signalsOf(output) {
  const width = output.shape.at(-1);
  if (output.signals.length === width) return output.signals;
  return Array.from({ length: width }, (_, index) => ({ name: width > 1 ? `${output.name} ${index}` : output.name, unit: "" }));
}

/** For each signal of the first output, which feature is the same before the model: its place, or -1. */
export function rawOf(model) {
  const ending = (name) => name.split("_").at(-1);
  return signalsOf(model.outputs[0]).map((signal, index) => {
    const same = model.features.findIndex((feature) => feature.name === signal.name);
    if (same >= 0) return same;
    const alike = model.features.map((feature, place) => ({ feature, place }))
      .filter(({ feature }) => feature.unit === signal.unit && signal.unit !== "" && ending(feature.name) === ending(signal.name));
    if (alike.length === 1) return alike[0].place;
    return model.task === "denoise" ? index : -1; // which cleans its first features, in their order
  });
}

/** How long a step is, in a unit that suits it. */
export function stepOf(model) {
  if (!model.sample_rate) return { step: 1, unit: model.horizon ? "steps" : "" };
  const { unit, length } = unitOf(1 / model.sample_rate);
  return { step: 1 / model.sample_rate / length, unit };
}

/** A name with its unit. */
export function named({ name, unit }) {
  return unit ? `${name}, ${unit}` : name;
}

export function label(model, models) {
  return models.filter((each) => each.name === model.name).length > 1 ? `${model.name} ${model.version}` : model.name;
}
